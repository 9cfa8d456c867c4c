"""What reading, keying and writing have, to be called instead of put into a kernel: half as fast, compiled in a third.

Kernels of full events (orders, reports, controls) are made of these: there are many such schemas, and few such records.
"""

from __future__ import annotations

from skeet.schemas.columns import keying, reading, writing
from skeet.schemas.columns.machine import Array, Whole, called
from skeet.schemas.columns.reading import FAIL, has_repeated_key, open_record

__all__ = [
    "FAIL",
    "has_repeated_key",
    "list_begin",
    "open_record",
    "read_boolean",
    "read_bytes",
    "read_count",
    "read_decimal",
    "read_double",
    "read_index",
    "read_keyed",
    "read_long",
    "read_text",
    "write_boolean",
    "write_bytes",
    "write_decimal",
    "write_double",
    "write_header",
    "write_index",
    "write_long",
    "write_text",
]

# Bound here, because compiled code reads globals, not attributes of modules.
read_boolean, read_double = reading.read_boolean, reading.read_double
_long, _index, _bytes, _text = reading.read_long, reading.read_index, reading.read_bytes, reading.read_text
_decimal, _count, _keyed = reading.read_decimal, reading.read_count, keying.read_keyed
list_begin, write_boolean, write_double = writing.list_begin, writing.write_boolean, writing.write_double
write_header = writing.write_header
_write_long, _write_index, _write_bytes = writing.write_long, writing.write_index, writing.write_bytes
_write_text, _write_decimal = writing.write_text, writing.write_decimal


@called
def read_long(buffer: Array, p: Whole, end: Whole) -> tuple[Whole, Whole]:
    return _long(buffer, p, end)


@called
def read_index(buffer: Array, p: Whole, end: Whole, count: Whole) -> tuple[Whole, Whole]:
    return _index(buffer, p, end, count)


@called
def read_bytes(buffer: Array, p: Whole, end: Whole) -> tuple[Whole, Whole, Whole]:
    return _bytes(buffer, p, end)


@called
def read_text(buffer: Array, p: Whole, end: Whole) -> tuple[Whole, Whole, Whole]:
    return _text(buffer, p, end)


@called
def read_decimal(buffer: Array, p: Whole, end: Whole) -> tuple[Whole, Whole, Whole]:
    return _decimal(buffer, p, end)


@called
def read_count(buffer: Array, p: Whole, end: Whole, least_bytes: Whole, room: Whole) -> tuple[Whole, Whole]:
    return _count(buffer, p, end, least_bytes, room)


@called
def read_keyed(
    buffer: Array, p: Whole, end: Whole, places: Array, pool: Array, ends: Array, counts: Array
) -> tuple[Whole, Whole, Whole, Whole]:
    return _keyed(buffer, p, end, places, pool, ends, counts)


@called
def write_long(out: Array, q: Whole, value: Whole) -> Whole:
    return _write_long(out, q, value)


@called
def write_index(out: Array, q: Whole, index: Whole, count: Whole) -> Whole:
    return _write_index(out, q, index, count)


@called
def write_bytes(out: Array, q: Whole, buffer: Array, start: Whole, length: Whole) -> Whole:
    return _write_bytes(out, q, buffer, start, length)


@called
def write_text(out: Array, q: Whole, buffer: Array, start: Whole, length: Whole) -> Whole:
    return _write_text(out, q, buffer, start, length)


@called
def write_decimal(out: Array, q: Whole, high: Whole, low: Whole) -> Whole:
    return _write_decimal(out, q, high, low)
