"""Avro's primitive values written to a buffer, for the generated kernels, byte for byte as fastavro writes them.

**Bounds.** As in :mod:`skeet.schemas.columns.reading`: each function looks whether there is room for all that it may write,
and whether what it copies lies within its buffer, and answers ``FAIL`` as the next position where not. What no reader would
accept is not written either: a symbol that does not exist, text that is no UTF-8, a decimal of more than 38 digits.
"""

from __future__ import annotations

import numpy as np

from skeet.schemas.columns.machine import (
    HIGH_BITS,
    Array,
    Real,
    Whole,
    Word,
    copy,
    inlined,
    leading_zeros,
    store_byte,
    store_double,
    store_word,
)
from skeet.schemas.columns.reading import FAIL, HEADER_BYTES, has_39_digits
from skeet.schemas.columns.utf8 import is_utf8

MAX_LONG_BYTES = 10
MAX_DECIMAL_BYTES = 17
"""One for the length, and 16 for 38 digits with their sign."""


@inlined
def write_header(out: Array, q: Whole, schema_id: Whole) -> Whole:
    """The Confluent header: 0, and the id with its highest byte first."""
    if q > out.size - HEADER_BYTES:
        return FAIL
    store_byte(out, q, np.uint8(0))
    for at in range(1, HEADER_BYTES):
        store_byte(out, q + at, np.uint8(schema_id >> 8 * (HEADER_BYTES - 1 - at) & 0xFF))
    return q + HEADER_BYTES


@inlined
def write_long(out: Array, q: Whole, value: Whole) -> Whole:
    """A zigzag varint, written eight bytes at a time: there must be room for the longest."""
    if q > out.size - MAX_LONG_BYTES:
        return FAIL
    word = np.uint64(value << 1) ^ np.uint64(value >> 63)
    if word < 128:
        store_byte(out, q, np.uint8(word))
        return q + 1
    rest = word >> np.uint64(56)
    if rest == 0:
        count = (63 - leading_zeros(word)) // 7 + 1
        stops = HIGH_BITS & ((np.uint64(1) << np.uint64(8 * (count - 1))) - np.uint64(1))
        store_word(out, q, _spread(word) | stops)
        return q + count
    store_word(out, q, _spread(word & np.uint64(0x00FFFFFFFFFFFFFF)) | HIGH_BITS)
    store_byte(out, q + 8, np.uint8(rest))
    if rest < 128:
        return q + 9
    store_byte(out, q + 9, np.uint8(1))
    return q + 10


@inlined
def _spread(word: Word) -> Word:
    """56 bits as eight times seven, each in a byte of its own."""
    word = (word & np.uint64(0x000000000FFFFFFF)) | (word & np.uint64(0x00FFFFFFF0000000)) << np.uint64(4)
    word = (word & np.uint64(0x00003FFF00003FFF)) | (word & np.uint64(0x0FFFC0000FFFC000)) << np.uint64(2)
    return (word & np.uint64(0x007F007F007F007F)) | (word & np.uint64(0x3F803F803F803F80)) << np.uint64(1)


@inlined
def write_index(out: Array, q: Whole, index: Whole, count: Whole) -> Whole:
    """A symbol or a union's branch; one outside of 0 to ``count - 1`` fails."""
    return write_long(out, q, np.int64(index)) if 0 <= index < count else FAIL


@inlined
def write_boolean(out: Array, q: Whole, value: Whole) -> Whole:
    """One byte, 0 or 1."""
    if q >= out.size or value > 1:
        return FAIL
    store_byte(out, q, value)
    return q + 1


@inlined
def write_double(out: Array, q: Whole, value: Real) -> Whole:
    """Eight bytes, as they are."""
    if q > out.size - 8:
        return FAIL
    store_double(out, q, value)
    return q + 8


@inlined
def write_bytes(out: Array, q: Whole, buffer: Array, start: Whole, length: Whole) -> Whole:
    """Length and bytes, copied from the buffer."""
    if start < 0 or length < 0 or length > buffer.size - start:
        return FAIL
    q = write_long(out, q, np.int64(length))
    if q > out.size - length:
        return FAIL
    copy(out, q, buffer, start, np.int64(length))
    return q + length


@inlined
def write_text(out: Array, q: Whole, buffer: Array, start: Whole, length: Whole) -> Whole:
    """As :func:`write_bytes`, of UTF-8."""
    if start < 0 or length < 0 or length > buffer.size - start or not is_utf8(buffer, start, start + length):
        return FAIL
    return write_bytes(out, q, buffer, start, length)


@inlined
def write_decimal(out: Array, q: Whole, high: Whole, low: Whole) -> Whole:
    """An unscaled number, highest byte first, in the bytes that its absolute value and a sign bit take."""
    if q > out.size - MAX_DECIMAL_BYTES or has_39_digits(np.uint64(high), np.uint64(low)):
        return FAIL
    count = _decimal_bytes(high, np.uint64(low))
    store_byte(out, q, np.uint8(2 * count))
    for at in range(count):
        shift = 8 * (count - 1 - at)
        half = high if shift >= 64 else low
        store_byte(out, q + 1 + at, np.uint8(half >> (shift & 63) & 0xFF))
    return q + 1 + count


@inlined
def _decimal_bytes(high: Whole, low: Word) -> Whole:
    upper = np.uint64(high)
    if high < 0:
        low = ~low + np.uint64(1)
        upper = ~upper + np.uint64(low == 0)
    bits = 128 - leading_zeros(upper) if upper else 64 - leading_zeros(low) if low else 0
    return (bits + 8) >> 3


@inlined
def list_begin(ends: Array, row: Whole, rows: Whole) -> Whole:
    """The first item of a row's list; ``FAIL`` when its items are not among the ``rows`` that there are."""
    first = ends[row - 1] if row else 0
    return first if 0 <= first <= ends[row] <= rows else FAIL
