"""Events to Confluent-framed Avro bytes and back.

A record is ``0x00``, the schema's id as a big-endian int32, then the Avro body. Ids come from the registry at start-up:
:class:`Codec` itself does no I/O but through the ``fetch`` it is given for schemas of other versions.
"""

from __future__ import annotations

import dataclasses
import io
import struct
import types
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import fastavro
from fastavro.read import LOGICAL_READERS
from fastavro.schema import parse_schema

from skeet.core.errors import DecodeError, InvalidInput, UnknownEvent
from skeet.core.record import Event, Meta
from skeet.core.values import EXACT
from skeet.schemas.avro import is_lean
from skeet.schemas.catalogue import EVENT_BY_NAME, EVENTS, committed_schema, full_name

MAGIC = 0
HEADER = struct.Struct(">bI")
MAX_RECORD_BYTES = 8 * 1024 * 1024
"""Larger than any record we write; a longer one is refused before anything is decoded."""

OURS = "skeet."
"""Namespaces of our events begin so. Whatever else somebody registered is no record of a newer version."""
MAX_SCHEMA_ID = 2**31 - 1
"""Registries count with signed numbers; asking for more is answered with an error that says nothing about the id."""

R = TypeVar("R")

MAX_DECIMAL_BYTES = 32
MAX_UNSCALED = 10**38
"""``decimal(38, …)`` ends before this."""


def _read_decimal(content: bytes, writer_schema: Mapping[str, Any], _: Any = None) -> Decimal:
    """The decimal that the bytes are, exactly.

    fastavro's own reader rounds what has more than 38 digits, and turns any length of bytes into digits first: 900 kB of
    them, which fit into a record, kept a reader busy for 87 s.
    """
    unscaled = int.from_bytes(content, "big", signed=True) if len(content) <= MAX_DECIMAL_BYTES else MAX_UNSCALED
    if abs(unscaled) >= MAX_UNSCALED:
        raise ValueError(f"a decimal of {len(content)} bytes; expected at most 38 digits")
    return Decimal(unscaled).scaleb(-int(writer_schema.get("scale", 0)), EXACT)


LOGICAL_READERS["bytes-decimal"] = _read_decimal

META_FIELDS = tuple(field.name for field in dataclasses.fields(Meta))

SchemaFetch = Callable[[int], Mapping[str, Any]]
"""Returns the writer's schema of an id, from the registry; raises InvalidInput for an id that it does not know, and
InfrastructureError when it does not answer: what cannot be asked now is neither known nor unknown."""


class EventCodec:
    """Writes and reads one event class with its own schema."""

    def __init__(self, event_class: type[Event]) -> None:
        self.event_class = event_class
        self.lean = is_lean(event_class)
        self.schema: Any = parse_schema(committed_schema(event_class))
        self._fields = _flatteners(event_class)
        self._restore = _restorers(event_class)

    def write(self, event: Event, meta: Meta | None) -> bytes:
        """The Avro body. ``meta`` is required on full events and must be None on lean ones."""
        if (meta is None) is not self.lean:
            raise InvalidInput(f"{full_name(self.event_class)} is {'lean' if self.lean else 'full'}: meta is {meta!r}")
        values = {
            name: getattr(event, name) if flatten is None else flatten(getattr(event, name))
            for name, flatten in self._fields
        }
        if meta is not None:
            values.update((name, getattr(meta, name)) for name in META_FIELDS)
        return self.write_values(values)

    def write_values(self, values: Mapping[str, Any]) -> bytes:
        """The Avro body of fields as :meth:`read_values` gives them."""
        body = io.BytesIO()
        fastavro.schemaless_writer(body, self.schema, values)
        return body.getvalue()

    def read(self, body: io.BytesIO, writer_schema: Any) -> tuple[Event, Meta | None]:
        """The event and its envelope, resolved from the writer's schema to ours."""
        values = self.read_values(body, writer_schema)
        meta = None if self.lean else Meta(**{name: values.pop(name) for name in META_FIELDS})
        for name, restore in self._restore:
            values[name] = restore(values[name])
        return self.event_class(**values), meta

    def read_values(self, body: io.BytesIO, writer_schema: Any) -> dict[str, Any]:
        """Fields of envelope and event as Avro gives them back: enumerations as symbols, records as dictionaries."""
        reader_schema = None if writer_schema is self.schema else self.schema
        values: dict[str, Any] = fastavro.schemaless_reader(body, writer_schema, reader_schema)
        return values


class Codec:
    """All event classes, with the ids the registry gave their schemas.

    Parameters
    ----------
    ids
        schema id of each event class, from the registry.
    fetch
        finds the schema of an id that is none of ours (an older or newer version).
    """

    def __init__(self, ids: Mapping[type[Event], int], fetch: SchemaFetch | None = None) -> None:
        self._codecs = {event_class: EventCodec(event_class) for event_class in ids}
        self._headers = {event_class: HEADER.pack(MAGIC, schema_id) for event_class, schema_id in ids.items()}
        self._by_id: dict[int, tuple[EventCodec, Any]] = {
            schema_id: (self._codecs[event_class], self._codecs[event_class].schema)
            for event_class, schema_id in ids.items()
        }
        self._fetch = fetch

    def encode(self, event: Event, meta: Meta | None = None) -> bytes:
        """The framed record.

        Raises
        ------
        InvalidInput
            when a value does not fit its schema (more than 18 decimal places, a missing envelope).
        """
        codec = self._codecs[type(event)]
        return self._framed(type(event), lambda: codec.write(event, meta))

    def encode_values(self, event_class: type[Event], values: Mapping[str, Any]) -> bytes:
        """The framed record of fields as :meth:`decode_values` gives them.

        Raises
        ------
        InvalidInput
            as :meth:`encode`.
        """
        return self._framed(event_class, lambda: self._codecs[event_class].write_values(values))

    def schema_id(self, event_class: type[Event]) -> int:
        """The id that records of this class are written with.

        Raises
        ------
        InvalidInput
            the class has none here.
        """
        if event_class not in self._headers:
            raise InvalidInput(f"{full_name(event_class)} has no schema id here")
        return int(HEADER.unpack(self._headers[event_class])[1])

    def _framed(self, event_class: type[Event], write: Callable[[], bytes]) -> bytes:
        try:
            return self._headers[event_class] + write()
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidInput(f"{full_name(event_class)} cannot be written: {error}") from error

    def decode(self, record: bytes) -> tuple[Event, Meta | None]:
        """The event and its envelope (None on lean records).

        Raises
        ------
        UnknownEvent
            the registry knows the schema, and it is of an event that this version does not know: a newer one wrote it.
        DecodeError
            anything else that is not a record of ours, an unknown schema id included: only these two leave here, whatever
            the bytes (and InfrastructureError when the registry, asked for an id, is away).
        """
        return self._read(record, EventCodec.read)

    def event_class(self, record: bytes) -> type[Event]:
        """Which event the frame says it holds, of whatever version; its body is not looked at.

        Raises
        ------
        UnknownEvent, DecodeError
            as :meth:`decode`.
        """
        schema_id = self._schema_id(record)
        codec, _ = self._by_id.get(schema_id) or self._learn(schema_id)
        return codec.event_class

    def decode_values(self, record: bytes) -> tuple[type[Event], dict[str, Any]]:
        """The event's class and the fields of envelope and event, for readers that make columns of them: no objects.

        Raises
        ------
        UnknownEvent, DecodeError
            as :meth:`decode`.
        """
        return self._read(record, lambda codec, body, schema: (codec.event_class, codec.read_values(body, schema)))

    def _read(self, record: bytes, read: Callable[[EventCodec, io.BytesIO, Any], R]) -> R:
        schema_id = self._schema_id(record)
        codec, writer_schema = self._by_id.get(schema_id) or self._learn(schema_id)
        body = io.BytesIO(record[HEADER.size :])
        try:
            result = read(codec, body, writer_schema)
        except EOFError as error:  # its own text names a place in memory: the cause would differ with every reading
            raise DecodeError(f"{full_name(codec.event_class)}: EOFError: the record ends within a field") from error
        except Exception as error:  # fastavro raises whatever the bytes led it to
            raise DecodeError(f"{full_name(codec.event_class)}: {type(error).__name__}: {error}") from error
        if body.read(1):
            raise DecodeError(f"{full_name(codec.event_class)}: bytes left over after the record")
        return result

    def _schema_id(self, record: bytes) -> int:
        if len(record) < HEADER.size or len(record) > MAX_RECORD_BYTES:
            raise DecodeError(f"a record of {len(record)} bytes; expected {HEADER.size} to {MAX_RECORD_BYTES}")
        magic, schema_id = HEADER.unpack_from(record)
        if magic != MAGIC:
            raise DecodeError(f"first byte {magic}; expected 0 (Confluent framing)")
        if schema_id > MAX_SCHEMA_ID:
            raise DecodeError(f"schema id {schema_id}; expected at most {MAX_SCHEMA_ID}")
        return int(schema_id)

    def _learn(self, schema_id: int) -> tuple[EventCodec, Any]:
        """A schema of another version of a known event; asked once per id."""
        if self._fetch is None:
            raise DecodeError(f"schema id {schema_id} is not known here")
        try:
            schema = self._fetch(schema_id)
        except InvalidInput as error:
            raise DecodeError(f"schema id {schema_id} is not in the registry: {error}") from error
        name = f"{schema.get('namespace', '')}.{schema.get('name', '')}"
        event_class = EVENT_BY_NAME.get(name)
        if not name.startswith(OURS):
            raise DecodeError(f"schema id {schema_id} is {name}, which is no event of SKEET")
        if event_class is None or event_class not in self._codecs:
            raise UnknownEvent(f"schema id {schema_id} is {name}, which this version does not know")
        self._by_id[schema_id] = (self._codecs[event_class], _parsed(schema_id, schema))
        return self._by_id[schema_id]


def _parsed(schema_id: int, schema: Mapping[str, Any]) -> Any:
    """The writer's schema, refused when a few of its bytes could stand for a list of any length."""
    try:
        parsed = parse_schema(dict(schema))
    except Exception as error:  # fastavro raises whatever the schema led it to
        raise DecodeError(f"schema id {schema_id} cannot be used: {type(error).__name__}: {error}") from error
    if _has_items_without_bytes(schema):
        raise DecodeError(f"schema id {schema_id} has a list whose items take no bytes: its length could be anything")
    return parsed


def _has_items_without_bytes(schema: Any) -> bool:
    """Whether an array's items are null or an empty record: 2^60 of those fit into ten bytes, and fill any memory."""
    if isinstance(schema, list):
        return any(map(_has_items_without_bytes, schema))
    if not isinstance(schema, Mapping):
        return False
    if schema.get("type") == "array" and _takes_no_bytes(schema.get("items")):
        return True
    return any(map(_has_items_without_bytes, schema.values()))


def _takes_no_bytes(schema: Any) -> bool:
    if isinstance(schema, Mapping) and schema.get("type") == "fixed":
        return not schema.get("size")
    if isinstance(schema, Mapping) and schema.get("type") == "record":
        return all(_takes_no_bytes(field.get("type")) for field in schema.get("fields", ()))
    if isinstance(schema, Mapping):
        return _takes_no_bytes(schema.get("type"))
    return bool(schema == "null")


def numbered_codec(events: tuple[type[Event], ...] = EVENTS) -> Codec:
    """A codec with ids 1, 2, 3 …, for tests and other uses without a registry."""
    return Codec({event_class: number for number, event_class in enumerate(events, start=1)})


def _flatteners(cls: type[Any]) -> tuple[tuple[str, Callable[[Any], Any] | None], ...]:
    """Fields in order, each with what turns nested dataclasses into dictionaries (None for plain values)."""
    hints = get_type_hints(cls)
    return tuple((field.name, _flatten if _nests(hints[field.name]) else None) for field in dataclasses.fields(cls))


def _nests(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint) or any(_nests(arg) for arg in get_args(hint))


def _flatten(value: Any) -> Any:
    if type(value) is tuple:
        return [_flatten(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _flatten(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


Restorer = Callable[[Any], Any]


def _restorers(cls: type[Any]) -> tuple[tuple[str, Restorer], ...]:
    """For the fields that Avro gives back in another shape (enums, tuples, nested records), how to restore them."""
    hints = get_type_hints(cls)
    found = ((field.name, _restorer(hints[field.name])) for field in dataclasses.fields(cls))
    return tuple((name, restore) for name, restore in found if restore is not None)


def _restorer(hint: Any) -> Restorer | None:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        inner = _restorer(next(arg for arg in get_args(hint) if arg is not type(None)))
        return None if inner is None else lambda value: None if value is None else inner(value)
    if origin is tuple:
        item = _restorer(get_args(hint)[0])
        return tuple if item is None else lambda values: tuple(map(item, values))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        nested = dict(_restorers(hint))
        return lambda value: hint(**{k: nested[k](v) if k in nested else v for k, v in value.items()})
    return None
