"""Looking at bytes that were found to lie within a buffer: are they UTF-8, are they the same, for the generated kernels.

Callers have looked at the bounds: nothing here reads outside of ``[p, end)``, or of ``count`` bytes from ``p`` on, but
:func:`short_word`, which reads up to eight where the buffer has them.
"""

from __future__ import annotations

import numpy as np

from skeet.schemas.columns.machine import HIGH_BITS, Array, Truth, Whole, Word, called, inlined, load_byte, load_word


@inlined
def is_utf8(buffer: Array, p: Whole, end: Whole) -> Truth:
    """Whether the bytes are UTF-8 as Python reads it: no surrogate, no longer form than needed, nothing past U+10FFFF."""
    return is_ascii(buffer, p, end) or _is_wide_utf8(buffer, p, end)


@inlined
def is_ascii(buffer: Array, p: Whole, end: Whole) -> Truth:
    """Whether all bytes are below 128; eight at a time, the last eight perhaps twice."""
    if end - p < 8:
        return short_word(buffer, p, end - p) & HIGH_BITS == 0
    seen = load_word(buffer, end - 8)
    while end - p > 8:
        seen |= load_word(buffer, p)
        p += 8
    return seen & HIGH_BITS == 0


@inlined
def short_word(buffer: Array, p: Whole, count: Whole) -> Word:
    """Fewer than eight bytes as a number, the first the lowest."""
    if buffer.size - p >= 8:
        return load_word(buffer, p) & ~(~np.uint64(0) << np.uint64(8 * count))
    word = np.uint64(0)
    for at in range(count):
        word |= np.uint64(load_byte(buffer, p + at)) << np.uint64(8 * at)
    return word


@called
def _is_wide_utf8(buffer: Array, p: Whole, end: Whole) -> Truth:
    while p < end:
        first = load_byte(buffer, p)
        if first < 0x80:
            p += 1
            continue
        more, lowest, highest = _sequence(first)
        if more == 0 or end - p <= more or not lowest <= load_byte(buffer, p + 1) <= highest:
            return False
        for at in range(p + 2, p + 1 + more):
            if load_byte(buffer, at) >> 6 != 2:
                return False
        p += 1 + more
    return True


@called
def _sequence(first: Whole) -> tuple[Whole, Whole, Whole]:
    """Bytes that follow this first one (0: none may), and the range of the next (Unicode's table 3-7)."""
    if first < 0xC2 or first > 0xF4:
        return 0, 0, 0
    if first < 0xE0:
        return 1, 0x80, 0xBF
    if first < 0xF0:
        return 2, 0xA0 if first == 0xE0 else 0x80, 0x9F if first == 0xED else 0xBF
    return 3, 0x90 if first == 0xF0 else 0x80, 0x8F if first == 0xF4 else 0xBF


@inlined
def same_bytes(buffer: Array, p: Whole, other: Array, q: Whole, count: Whole) -> Truth:
    """Whether so many bytes are equal; the caller has looked at the bounds."""
    if count < 8:
        return short_word(buffer, p, count) == short_word(other, q, count)
    last = count - 8
    for at in range(0, last, 8):
        if load_word(buffer, p + at) != load_word(other, q + at):
            return False
    return load_word(buffer, p + last) == load_word(other, q + last)
