"""The part of an intern table that kernels run: find a text's id, or give it one."""

from __future__ import annotations

import numpy as np

from skeet.schemas.columns.interning import NO_ID
from skeet.schemas.columns.machine import Array, Whole, Word, copy, inlined, load_word
from skeet.schemas.columns.reading import FAIL, read_bytes
from skeet.schemas.columns.utf8 import is_utf8, same_bytes, short_word

PROBES = 64
"""Places that a text may be at; one that finds none of them free gets no id. It bounds what chosen texts can cost."""
MAX_TEXT_BYTES = 255
"""Longer texts get no id."""
FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio, an odd number whose products differ in their upper bits."""


@inlined
def read_keyed(
    buffer: Array, p: Whole, end: Whole, places: Array, pool: Array, ends: Array, counts: Array
) -> tuple[Whole, Whole, Whole, Whole]:
    """Id, start, length, next position of a text."""
    start, length, p = read_bytes(buffer, p, end)
    if p == FAIL:
        return NO_ID, 0, 0, FAIL
    if length > MAX_TEXT_BYTES:
        return NO_ID, start, length, p if is_utf8(buffer, start, start + length) else FAIL
    mask = places.size - 1
    place = np.int64(_hashed(buffer, start, length) >> np.uint64(32)) & mask
    free = -1
    for _ in range(PROBES):
        number = np.int64(places[place]) - 1
        if number < 0:
            free = place
            break
        begin = ends[number - 1] if number else 0
        if ends[number] - begin == length and same_bytes(buffer, start, pool, begin, length):
            return number, start, length, p
        place = (place + 1) & mask
    if not is_utf8(buffer, start, start + length):
        return NO_ID, 0, 0, FAIL
    number, used = counts[0], counts[1]
    if free < 0 or number >= ends.size or length > pool.size - used:
        return NO_ID, start, length, p
    copy(pool, used, buffer, start, length)
    ends[number] = used + length
    counts[0], counts[1] = number + 1, used + length
    places[free] = number + 1
    return number, start, length, p


@inlined
def _hashed(buffer: Array, p: Whole, count: Whole) -> Word:
    if count < 8:
        return _mixed(short_word(buffer, p, count) ^ np.uint64(count) * FACTOR)
    last = p + count - 8
    word = _mixed(load_word(buffer, last) ^ np.uint64(count) * FACTOR)
    for at in range(p, last, 8):
        word = _mixed(word ^ load_word(buffer, at))
    return word


@inlined
def _mixed(word: Word) -> Word:
    word *= FACTOR
    return word ^ word >> np.uint64(29)
