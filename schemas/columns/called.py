"""What reading, keying and writing have, to be called instead of put into a kernel: half as fast, compiled in a third.

Kernels of full events (orders, reports, controls) are made of these: there are many such schemas, and few such records.
"""

from __future__ import annotations

from typing import Any

from skeet.schemas.columns import keying, reading, writing
from skeet.schemas.columns.machine import called
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
def read_long(buffer: Any, p: int, end: int) -> tuple[int, int]:
    return _long(buffer, p, end)


@called
def read_index(buffer: Any, p: int, end: int, count: int) -> tuple[int, int]:
    return _index(buffer, p, end, count)


@called
def read_bytes(buffer: Any, p: int, end: int) -> tuple[int, int, int]:
    return _bytes(buffer, p, end)


@called
def read_text(buffer: Any, p: int, end: int) -> tuple[int, int, int]:
    return _text(buffer, p, end)


@called
def read_decimal(buffer: Any, p: int, end: int) -> tuple[int, int, int]:
    return _decimal(buffer, p, end)


@called
def read_count(buffer: Any, p: int, end: int, least_bytes: int, room: int) -> tuple[int, int]:
    return _count(buffer, p, end, least_bytes, room)


@called
def read_keyed(
    buffer: Any, p: int, end: int, places: Any, pool: Any, ends: Any, counts: Any
) -> tuple[int, int, int, int]:
    return _keyed(buffer, p, end, places, pool, ends, counts)


@called
def write_long(out: Any, q: int, value: int) -> int:
    return _write_long(out, q, value)


@called
def write_index(out: Any, q: int, index: int, count: int) -> int:
    return _write_index(out, q, index, count)


@called
def write_bytes(out: Any, q: int, buffer: Any, start: int, length: int) -> int:
    return _write_bytes(out, q, buffer, start, length)


@called
def write_text(out: Any, q: int, buffer: Any, start: int, length: int) -> int:
    return _write_text(out, q, buffer, start, length)


@called
def write_decimal(out: Any, q: int, high: int, low: int) -> int:
    return _write_decimal(out, q, high, low)
