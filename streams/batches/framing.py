"""Kafka's record framing, version 2 (KIP-98), and the plain walk over it: where each key and value lies.

Each record is a varint length, attributes, varints of time and offset relative to its batch, key and value with varint
lengths (negative: null), and headers. What is malformed ends the walk. The plain walk takes some 3 µs a record; the compiled
one (:mod:`skeet.streams.batches.walking`) a hundredth of that, and costs its process numba: a second and 120 MiB.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Column(IntEnum):
    """What a row of the table says about one batch."""

    START = 0
    """Where its first record begins in the buffer."""
    END = 1
    COUNT = 2
    BASE_OFFSET = 3
    BASE_TIME = 4
    """Milliseconds: of the first record, or of all when the broker's clock counts."""
    APPEND_TIME = 5
    """1 when the broker's clock counts (LogAppendTime)."""


SMALLEST_RECORD = 7
"""Bytes of a record without key, value and headers."""
MAX_SHIFT = 63
NULL = -1

Found = tuple[NDArray[np.int64], NDArray[np.int64]]
Walk = Callable[[bytes, NDArray[np.int64], int], Found | None]
"""Where the records of the batches are; those below offset ``floor`` are left out.

Takes the bytes of all batches, decompressed; a row for each batch, :class:`Column` across, whose count must fit its bytes;
and the floor. Returns ``places`` (5 x records: value start and length, key start and length, header start; a length of -1 is
null) and ``positions`` (2 x records: offset, timestamp in ms); None when the framing is malformed.
"""


class Malformed(Exception):
    """The bytes are not what their lengths say."""


def varint(raw: bytes, at: int, end: int) -> tuple[int, int]:
    """The zigzag integer at ``at``, and where it ends.

    Raises
    ------
    Malformed
        it is cut off, or longer than ten bytes.
    """
    unsigned = shift = 0
    while at < end and shift <= MAX_SHIFT:
        byte = raw[at]
        at += 1
        unsigned |= (byte & 0x7F) << shift
        if byte < 0x80:
            unsigned &= 0xFFFF_FFFF_FFFF_FFFF
            return (unsigned >> 1) ^ -(unsigned & 1), at
        shift += 7
    raise Malformed


def span(raw: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Start, length (-1: null) and end of bytes with a length before them.

    Raises
    ------
    Malformed
        they are cut off.
    """
    length, at = varint(raw, at, end)
    if length > end - at:
        raise Malformed
    return (at, NULL, at) if length < 0 else (at, length, at + length)


def walk_plainly(raw: bytes, table: NDArray[np.int64], floor: int) -> Found | None:
    """The plain :data:`Walk`."""
    found: list[tuple[int, int, int, int, int, int, int]] = []
    try:
        for row in table.tolist():
            found += _records(raw, row, floor)
    except Malformed:
        return None
    columns = np.array(found, np.int64).reshape(-1, 7).T
    return columns[:5], columns[5:]


def _records(raw: bytes, row: list[int], floor: int) -> list[tuple[int, int, int, int, int, int, int]]:
    at, end, count, base_offset, base_time, append_time = row
    found = []
    for _ in range(count):
        length, at = varint(raw, at, end)
        stop = at + length
        if length < 1 or stop > end:
            raise Malformed
        time_delta, at = varint(raw, at + 1, stop)
        offset_delta, at = varint(raw, at, stop)
        key_start, key_length, at = span(raw, at, stop)
        value_start, value_length, headers = span(raw, at, stop)
        at = _past_headers(raw, headers, stop)
        if at != stop:
            raise Malformed
        if (offset := _wrapped(base_offset + offset_delta)) >= floor:
            time = base_time if append_time else _wrapped(base_time + time_delta)
            found.append((value_start, value_length, key_start, key_length, headers, offset, time))
    if at != end:
        raise Malformed
    return found


def _wrapped(number: int) -> int:
    """As 64 bits hold it: only bytes that nobody meant go beyond."""
    return (number + 2**63) % 2**64 - 2**63


def _past_headers(raw: bytes, at: int, end: int) -> int:
    count, at = varint(raw, at, end)
    if count < 0:
        raise Malformed
    for _ in range(count):
        _, length, at = span(raw, at, end)
        if length < 0:
            raise Malformed
        _, _, at = span(raw, at, end)
    return at
