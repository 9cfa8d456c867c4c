"""What :mod:`reading` and :mod:`keying` have, to be called instead of put into a kernel: half as fast, compiled in a third.

Kernels of full events (orders, reports, controls) are made of these: there are many such schemas, and few such records.
"""

from __future__ import annotations

from typing import Any

from skeet.schemas.columns import keying, reading
from skeet.schemas.columns.machine import called
from skeet.schemas.columns.reading import FAIL, has_repeated_key, open_record

__all__ = [
    "FAIL",
    "has_repeated_key",
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
]

read_boolean, read_double = reading.read_boolean, reading.read_double
_long, _index, _bytes, _text = reading.read_long, reading.read_index, reading.read_bytes, reading.read_text
_decimal, _count, _keyed = reading.read_decimal, reading.read_count, keying.read_keyed


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
