"""The compiled CRC-32 is zlib's."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skeet.streams.batches.checksums import crc32_of


@settings(deadline=None)
@given(st.lists(st.binary(max_size=70), max_size=9))
def test_every_piece_has_the_sum_that_zlib_gives(pieces: list[bytes]) -> None:
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    buffer = np.frombuffer(b"".join(pieces), np.uint8)
    assert crc32_of(buffer, np.cumsum(lengths) - lengths, lengths).tolist() == [zlib.crc32(piece) for piece in pieces]


def test_a_null_has_the_sum_of_nothing() -> None:
    assert crc32_of(np.zeros(3, np.uint8), np.array([1]), np.array([-1])).tolist() == [0]


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (2, 2), (4, 0)])
def test_a_piece_outside_of_the_buffer_is_refused(start: int, length: int) -> None:
    with pytest.raises(ValueError, match="outside of the buffer's 3 bytes"):
        crc32_of(np.zeros(3, np.uint8), np.array([start]), np.array([length]))
