"""Records off the wire: Confluent framing, schemas from the registry by id, decimals left as their bytes."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import fastavro

from skeet.config import RegistrySettings
from skeet.connections.registry import raise_registry_refusal, registry_request
from skeet.verify.findings import CannotVerify

_HEADER = struct.Struct(">bI")
TIMEOUT_S = 10.0
MAX_SCHEMA_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class WriterSchema:
    """One schema of the registry: the record's names, its fields, and what fastavro reads with.

    ``reader`` is this version's schema of the same record where the writer's is another: what a newer one added is passed
    over, and its new symbols read as UNKNOWN, as every reader of this version does.
    """

    name: str
    fields: frozenset[str]
    parsed: Any
    reader: Any = None
    full_name: str = ""


class Unreadable(ValueError):
    """Bytes that are no framed record of a schema the registry knows."""


class Decoder:
    """Decodes values; asks the registry once per schema id."""

    def __init__(self, registry: RegistrySettings) -> None:
        self._registry = registry
        self._url = registry.url.rstrip("/")
        self._schemas: dict[int, WriterSchema | None] = {}
        self._subjects: frozenset[str] | None = None

    def decode(self, value: bytes) -> tuple[WriterSchema, dict[str, Any]]:
        """The record's schema and fields; decimals are big-endian two's complement bytes of 10^-18 units.

        Raises
        ------
        Unreadable
            the bytes are no record.
        """
        if len(value) < _HEADER.size:
            raise Unreadable(f"{len(value)} bytes")
        magic, schema_id = _HEADER.unpack_from(value)
        schema = self._schema(schema_id) if magic == 0 else None
        if schema is None:
            raise Unreadable(f"first byte {magic}, schema id {schema_id}")
        body = io.BytesIO(value)
        body.seek(_HEADER.size)
        try:
            values: dict[str, Any] = fastavro.schemaless_reader(body, schema.parsed, schema.reader)
        except Exception as error:  # whatever the bytes lead the decoder to
            raise Unreadable(f"{schema.name}: {error}") from error
        if body.tell() != len(value):
            raise Unreadable(f"{schema.name}: bytes left over")
        return schema, values

    def belongs(self, topic: str, schema: WriterSchema) -> bool:
        """Whether the registry has this record among those of the topic (the broker's name of it)."""
        if self._subjects is None:
            self._subjects = frozenset(json.loads(self._get("/subjects") or b"[]"))
        return f"{topic}-{schema.full_name}" in self._subjects

    def _schema(self, schema_id: int) -> WriterSchema | None:
        if schema_id not in self._schemas:
            self._schemas[schema_id] = self._fetch(schema_id)
        return self._schemas[schema_id]

    def _fetch(self, schema_id: int) -> WriterSchema | None:
        answer = self._get(f"/schemas/ids/{schema_id}") if schema_id <= MAX_SCHEMA_ID else None
        schema = json.loads(json.loads(answer)["schema"]) if answer is not None else None
        if not isinstance(schema, dict) or schema.get("type") != "record":
            return None
        name = f"{schema.get('namespace', '')}.{schema['name']}"
        known = files("skeet.schemas") / "avsc" / f"{name}.avsc"
        if not known.is_file():
            return None  # of an event that this version does not know: nobody here reads it
        ours, theirs = (_without_logical_types(found) for found in (json.loads(known.read_text()), schema))
        fields = frozenset(field["name"] for field in ours["fields"])
        parsed = fastavro.parse_schema(theirs)
        reader = None if ours == theirs else fastavro.parse_schema(ours)
        return WriterSchema(schema["name"], fields, parsed, reader, name)

    def _get(self, path: str) -> bytes | None:
        try:
            request, context = registry_request(self._registry, path)
            with urlopen(request, timeout=TIMEOUT_S, context=context) as answer:
                return bytes(answer.read())
        except HTTPError as error:
            if error.code == 404:
                return None
            raise_registry_refusal(error, error.code)
            raise CannotVerify(f"registry {self._url}: HTTP {error.code} for {path}") from error
        except (URLError, TimeoutError) as error:
            raise_registry_refusal(error)
            raise CannotVerify(f"registry {self._url} does not answer: {error}") from error


def _without_logical_types(schema: Any) -> Any:
    """The same wire format with decimals as plain bytes: their integer is the amount in units, exactly."""
    if isinstance(schema, dict):
        bare = {key: value for key, value in schema.items() if key not in ("logicalType", "precision", "scale")}
        if schema.get("logicalType") != "decimal":
            bare = {key: value for key, value in schema.items() if key != "logicalType"}
        return {key: _without_logical_types(value) for key, value in bare.items()}
    if isinstance(schema, list):
        return [_without_logical_types(item) for item in schema]
    return schema
