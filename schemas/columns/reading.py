"""Avro's primitive values read from a buffer, for the generated kernels.

**Bounds.** Compiled code checks none by itself: a read beyond the buffer is a crash, or somebody else's bytes. So everything
here takes ``end``, looks before it reads, and answers ``FAIL`` as the next position when it may not read or finds anything
unusual. ``FAIL`` is beyond every end: whatever is read after it fails too, so a kernel asks only once per record whether it
arrived exactly at the record's end. What fails here is given to the codec of single records, which has the last word.
"""

# numba takes types from what the arithmetic is made of: int64 with uint64 would become a float, hence the conversions.

from __future__ import annotations

import numpy as np

from skeet.schemas.codec import HEADER, MAX_RECORD_BYTES
from skeet.schemas.columns.machine import (
    HIGH_BITS,
    Array,
    Real,
    Truth,
    Whole,
    Word,
    called,
    inlined,
    load_byte,
    load_double,
    load_word,
    trailing_zeros,
)
from skeet.schemas.columns.utf8 import is_utf8, same_bytes

FAIL = 1 << 62
"""No position in any buffer."""
FEW_KEYS = 64
"""Keys of a map are compared with one another up to here; more are left to the codec of single records."""
HEADER_BYTES = HEADER.size
HIGHEST_HALF = (10**38) >> 64
LOWEST_HALF = (10**38) & (2**64 - 1)
"""10^38 in two halves: decimals end before it."""


@inlined
def open_record(buffer: Array, start: Whole, length: Whole, schema_id: Whole, trusted: Truth) -> tuple[Whole, Whole]:
    """Where the body begins and where it ends, after a header of exactly this schema id; ``(FAIL, -1)`` for any other."""
    if start < 0 or length < HEADER_BYTES or length > buffer.size - start:
        return FAIL, -1
    if length > MAX_RECORD_BYTES and not trusted:
        return FAIL, -1
    found = np.int64(0)
    for at in range(1, HEADER_BYTES):
        found = found << 8 | np.int64(load_byte(buffer, start + at))
    if load_byte(buffer, start) != 0 or found != schema_id:
        return FAIL, -1
    return start + HEADER_BYTES, start + length


@inlined
def read_long(buffer: Array, p: Whole, end: Whole) -> tuple[Whole, Whole]:
    """A zigzag varint of at most ten bytes and 64 bits."""
    if p >= end:
        return 0, FAIL
    word = np.uint64(load_byte(buffer, p))
    if word < 128:
        return _unzigzag(word), p + 1
    if end - p >= 10:
        return _read_long_of_words(buffer, p)
    return _read_long_bytewise(buffer, p, end)


@inlined
def _unzigzag(word: Word) -> Whole:
    return np.int64(word >> np.uint64(1)) ^ -np.int64(word & np.uint64(1))


@called
def _read_long_bytewise(buffer: Array, p: Whole, end: Whole) -> tuple[Whole, Whole]:
    word, shift = np.uint64(0), np.uint64(0)
    while p < end and shift < 63:
        byte = np.uint64(load_byte(buffer, p))
        p += 1
        word |= (byte & np.uint64(0x7F)) << shift
        if byte < 128:
            return _unzigzag(word), p
        shift += np.uint64(7)
    return 0, FAIL


@inlined
def _read_long_of_words(buffer: Array, p: Whole) -> tuple[Whole, Whole]:
    """The same where ten bytes may be read: eight at a time. The caller has seen to that."""
    word = load_word(buffer, p)
    stops = ~word & HIGH_BITS
    if stops != 0:
        taken = (trailing_zeros(stops) >> 3) + 1
        return _unzigzag(_packed(word & (stops ^ (stops - np.uint64(1))))), p + taken
    ninth, tenth = np.uint64(load_byte(buffer, p + 8)), np.uint64(load_byte(buffer, p + 9))
    packed = _packed(word) | (ninth & np.uint64(0x7F)) << np.uint64(56)
    if ninth < 128:
        return _unzigzag(packed), p + 9
    if tenth > 1:
        return 0, FAIL
    return _unzigzag(packed | tenth << np.uint64(63)), p + 10


@inlined
def _packed(word: Word) -> Word:
    """Eight times seven bits without the gaps between them."""
    word &= np.uint64(0x7F7F7F7F7F7F7F7F)
    word = (word & np.uint64(0x007F007F007F007F)) | (word & np.uint64(0x7F007F007F007F00)) >> np.uint64(1)
    word = (word & np.uint64(0x00003FFF00003FFF)) | (word & np.uint64(0x3FFF00003FFF0000)) >> np.uint64(2)
    return (word & np.uint64(0x000000000FFFFFFF)) | (word & np.uint64(0x0FFFFFFF00000000)) >> np.uint64(4)


@inlined
def read_index(buffer: Array, p: Whole, end: Whole, count: Whole) -> tuple[Whole, Whole]:
    """A symbol or a union's branch: a long of 0 to ``count - 1``."""
    index, p = read_long(buffer, p, end)
    return (index, p) if 0 <= index < count else (0, FAIL)


@inlined
def read_boolean(buffer: Array, p: Whole, end: Whole) -> tuple[Whole, Whole]:
    """One byte, 0 or 1."""
    if p >= end or load_byte(buffer, p) > 1:
        return 0, FAIL
    return load_byte(buffer, p), p + 1


@inlined
def read_double(buffer: Array, p: Whole, end: Whole) -> tuple[Real, Whole]:
    """Eight bytes, as they are."""
    if end - p < 8:
        return 0.0, FAIL
    return load_double(buffer, p), p + 8


@inlined
def read_bytes(buffer: Array, p: Whole, end: Whole) -> tuple[Whole, Whole, Whole]:
    """Start, length, next position: the bytes stay where they are."""
    length, p = read_long(buffer, p, end)
    if length < 0 or length > end - p:
        return 0, 0, FAIL
    return p, length, p + length


@inlined
def read_text(buffer: Array, p: Whole, end: Whole) -> tuple[Whole, Whole, Whole]:
    """As :func:`read_bytes`, of UTF-8."""
    start, length, p = read_bytes(buffer, p, end)
    return (start, length, p) if is_utf8(buffer, start, start + length) else (0, 0, FAIL)


@inlined
def read_decimal(buffer: Array, p: Whole, end: Whole) -> tuple[Whole, Whole, Whole]:
    """High and low half of an unscaled number of at most 16 bytes and 38 digits, in two's complement; next position."""
    start, length, p = read_bytes(buffer, p, end)
    if p == FAIL or length > 16:
        return 0, 0, FAIL
    low = high = np.uint64(0)
    if length > 0 and load_byte(buffer, start) >= 128:
        low = high = ~np.uint64(0)
    for at in range(start, start + length):
        high = high << np.uint64(8) | low >> np.uint64(56)
        low = low << np.uint64(8) | np.uint64(load_byte(buffer, at))
    if has_39_digits(high, low):
        return 0, 0, FAIL
    return np.int64(high), np.int64(low), p


@called
def has_39_digits(high: Word, low: Word) -> Truth:
    """Whether a number of two unsigned halves in two's complement is 10^38 or more, by its absolute value."""
    if np.int64(high) < 0:
        low = ~low + np.uint64(1)
        high = ~high + np.uint64(low == 0)
    if high == np.uint64(HIGHEST_HALF):
        return low >= np.uint64(LOWEST_HALF)
    return high > np.uint64(HIGHEST_HALF)


@inlined
def read_count(buffer: Array, p: Whole, end: Whole, least_bytes: Whole, room: Whole) -> tuple[Whole, Whole]:
    """Items of a list's next block, 0 at its end. No more than the bytes left can hold, nor than there is room for."""
    count, p = read_long(buffer, p, end)
    if count < 0 or count > (end - p) // least_bytes or count > room:
        return (0, p) if count == 0 else (0, FAIL)
    return count, p


@called
def has_repeated_key(buffer: Array, starts: Array, lengths: Array, first: Whole, last: Whole) -> Truth:
    """Whether two keys of a map are equal, or there are too many to look; of equal ones a single record has the last."""
    if last - first > FEW_KEYS:
        return True
    for one in range(first, last):
        for other in range(first, one):
            if lengths[one] == lengths[other] and same_bytes(buffer, starts[one], buffer, starts[other], lengths[one]):
                return True
    return False
