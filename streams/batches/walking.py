"""The compiled walk over the records of fetched batches: outside of the interpreter's lock, without a Python object per record.

Nothing here reads beyond the buffer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from skeet.streams.batches.framing import Column, Found, Walk

MALFORMED = -1

_START, _END, _COUNT = int(Column.START), int(Column.END), int(Column.COUNT)
_BASE_OFFSET, _BASE_TIME, _APPEND_TIME = int(Column.BASE_OFFSET), int(Column.BASE_TIME), int(Column.APPEND_TIME)


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _varint(buffer: Any, at: int, end: int) -> Any:
    """The zigzag integer at ``at`` and where it ends; the end is -1 when it is cut off or longer than 10 bytes."""
    unsigned = np.uint64(0)
    shift = np.uint64(0)
    while at < end:
        byte = buffer[at]
        at += 1
        unsigned |= np.uint64(byte & 0x7F) << shift
        if byte < 0x80:
            return np.int64(unsigned >> np.uint64(1)) ^ -np.int64(unsigned & np.uint64(1)), at
        shift += np.uint64(7)
        if shift > np.uint64(63):
            return np.int64(0), -1
    return np.int64(0), -1


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _field(buffer: Any, at: int, end: int) -> Any:
    """Start, length (-1: null) and end of bytes with a length before them; the end is -1 when they are cut off."""
    length, at = _varint(buffer, at, end)
    if at < 0 or length > end - at:
        return np.int64(0), np.int64(0), -1
    if length < 0:
        return at, np.int64(-1), at
    return at, length, at + length


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _past_headers(buffer: Any, at: int, end: int) -> int:
    """Where the headers end, or -1."""
    count, at = _varint(buffer, at, end)
    if at < 0 or count < 0:
        return -1
    for _ in range(count):
        _, length, at = _field(buffer, at, end)
        if at < 0 or length < 0:
            return -1
        _, length, at = _field(buffer, at, end)
        if at < 0:
            return -1
    return at


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _walk(buffer: Any, table: Any, floor: int, places: Any, positions: Any) -> int:
    found = 0
    for row in range(table.shape[0]):
        at, end = table[row, _START], table[row, _END]
        base_offset, base_time = table[row, _BASE_OFFSET], table[row, _BASE_TIME]
        append_time = table[row, _APPEND_TIME] != 0
        for _ in range(table[row, _COUNT]):
            length, at = _varint(buffer, at, end)
            if at < 0 or length < 1 or length > end - at:
                return MALFORMED
            stop = at + length
            time_delta, at = _varint(buffer, at + 1, stop)
            if at < 0:
                return MALFORMED
            offset_delta, at = _varint(buffer, at, stop)
            if at < 0:
                return MALFORMED
            key_start, key_length, at = _field(buffer, at, stop)
            if at < 0:
                return MALFORMED
            value_start, value_length, at = _field(buffer, at, stop)
            if at < 0:
                return MALFORMED
            headers = at
            at = _past_headers(buffer, at, stop)
            if at != stop:
                return MALFORMED
            offset = base_offset + offset_delta
            if offset < floor:
                continue
            places[0, found] = value_start
            places[1, found] = value_length
            places[2, found] = key_start
            places[3, found] = key_length
            places[4, found] = headers
            positions[0, found] = offset
            positions[1, found] = base_time if append_time else base_time + time_delta
            found += 1
        if at != end:
            return MALFORMED
    return found


def walk(raw: bytes, table: NDArray[np.int64], floor: int) -> Found | None:
    """The compiled :data:`~skeet.streams.batches.framing.Walk`."""
    count = int(table[:, Column.COUNT].sum())
    places = np.empty((5, count), np.int64)
    positions = np.empty((2, count), np.int64)
    found = int(_walk(np.frombuffer(raw or b"\0", np.uint8), table, floor, places, positions))
    if found == MALFORMED:
        return None
    return places[:, :found], positions[:, :found]


def compiled() -> Walk:
    """The walk, compiled now (or loaded from numba's cache), so that the first records do not wait for it."""
    walk(b"", np.zeros((0, len(Column)), np.int64), 0)
    return walk
