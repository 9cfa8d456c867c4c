"""Records off the wire: Confluent framing, schemas from the registry by id, decimals left as their bytes."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import fastavro

from skeet.config import RegistrySettings
from skeet.connections.registry import raise_registry_refusal, registry_request
from skeet.verify.findings import CannotVerify

_HEADER = struct.Struct(">bI")
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class WriterSchema:
    """One schema of the registry: the record's short name, its field names, and what fastavro reads with."""

    name: str
    fields: frozenset[str]
    parsed: Any


class Unreadable(ValueError):
    """Bytes that are no framed record of a schema the registry knows."""


class Decoder:
    """Decodes values; asks the registry once per schema id."""

    def __init__(self, registry: RegistrySettings) -> None:
        self._registry = registry
        self._url = registry.url.rstrip("/")
        self._schemas: dict[int, WriterSchema | None] = {}

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
            values: dict[str, Any] = fastavro.schemaless_reader(body, schema.parsed, None)
        except Exception as error:  # whatever the bytes lead the decoder to
            raise Unreadable(f"{schema.name}: {error}") from error
        if body.tell() != len(value):
            raise Unreadable(f"{schema.name}: bytes left over")
        return schema, values

    def _schema(self, schema_id: int) -> WriterSchema | None:
        if schema_id not in self._schemas:
            self._schemas[schema_id] = self._fetch(schema_id)
        return self._schemas[schema_id]

    def _fetch(self, schema_id: int) -> WriterSchema | None:
        try:
            request, context = registry_request(self._registry, f"/schemas/ids/{schema_id}")
            with urlopen(request, timeout=TIMEOUT_S, context=context) as answer:
                schema = json.loads(json.load(answer)["schema"])
        except HTTPError as error:
            if error.code == 404:
                return None
            raise_registry_refusal(error, error.code)
            raise CannotVerify(f"registry {self._url}: HTTP {error.code} for schema {schema_id}") from error
        except (URLError, TimeoutError) as error:
            raise_registry_refusal(error)
            raise CannotVerify(f"registry {self._url} does not answer: {error}") from error
        fields = frozenset(field["name"] for field in schema["fields"])
        return WriterSchema(schema["name"], fields, fastavro.parse_schema(_without_logical_types(schema)))


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
