"""Kafka's default partitioner (murmur2), to check that a keyed record stands where its key belongs."""

from __future__ import annotations

from functools import lru_cache

SEED = 0x9747B28C
MULTIPLIER = 0x5BD1E995
MASK = 0xFFFFFFFF
KEYS_REMEMBERED = 65_536


@lru_cache(maxsize=KEYS_REMEMBERED)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition that every client with the murmur2 partitioner puts this key into."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(content: bytes) -> int:
    """The 32-bit MurmurHash2 with Kafka's seed (Austin Appleby's algorithm, as the Java client computes it)."""
    length = len(content)
    state = SEED ^ length
    whole = length - length % 4
    for start in range(0, whole, 4):
        word = int.from_bytes(content[start : start + 4], "little") * MULTIPLIER & MASK
        word = (word ^ (word >> 24)) * MULTIPLIER & MASK
        state = (state * MULTIPLIER & MASK) ^ word
    if length > whole:
        state ^= int.from_bytes(content[whole:], "little")
        state = state * MULTIPLIER & MASK
    state = (state ^ (state >> 13)) * MULTIPLIER & MASK
    return state ^ (state >> 15)
