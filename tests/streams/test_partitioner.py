"""Keys stand where Kafka's own clients put them."""

from __future__ import annotations

import pytest

from skeet.streams.partitioner import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"abc", 479470107),
    ],
)
def test_hash_is_the_java_clients(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % 2**32


def test_partition_is_within_the_count() -> None:
    assert {partition_of(str(n).encode(), 8) for n in range(200)} == set(range(8))
