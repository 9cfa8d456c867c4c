"""A chunk: consecutive records of one partition as columns over one buffer, and each record's bytes on demand."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from skeet.streams.batches.framing import span, varint

Header = tuple[str, bytes | None]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Records of one partition in the order of their offsets.

    ``first`` is the position that was read from, ``next_offset`` the one to read from next: with compaction, transaction
    markers and aborted records between, neither need be the offset of a record. ``raw`` holds all bytes. ``places`` says
    where (5 x records, int64): value start, value length, key start, key length, header start; a length of -1 is a null.
    ``positions`` is 2 x records, int64: offset, timestamp in milliseconds since the epoch.
    """

    topic: str
    partition: int
    first: int
    next_offset: int
    raw: bytes = field(repr=False)
    places: NDArray[np.int64] = field(repr=False)
    positions: NDArray[np.int64] = field(repr=False)
    size: int
    """Bytes of the records, framing included."""

    def __len__(self) -> int:
        return int(self.positions.shape[1])

    @cached_property
    def buffer(self) -> NDArray[np.uint8]:
        """All bytes, for kernels; read-only."""
        return np.frombuffer(self.raw, np.uint8)

    @property
    def value_starts(self) -> NDArray[np.int64]:
        """Where each value begins in the buffer."""
        return self.places[0, :]

    @property
    def value_lengths(self) -> NDArray[np.int64]:
        """Bytes of each value; -1 is a null (a tombstone)."""
        return self.places[1, :]

    @property
    def key_starts(self) -> NDArray[np.int64]:
        """Where each key begins in the buffer."""
        return self.places[2, :]

    @property
    def key_lengths(self) -> NDArray[np.int64]:
        """Bytes of each key; -1 is a null."""
        return self.places[3, :]

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Offset of each record, rising."""
        return self.positions[0, :]

    @property
    def timestamps_ms(self) -> NDArray[np.int64]:
        """Timestamp of each record."""
        return self.positions[1, :]

    def value(self, index: int) -> bytes | None:
        """The value of one record."""
        return self._bytes(0, index)

    def key(self, index: int) -> bytes | None:
        """The key of one record."""
        return self._bytes(2, index)

    def values(self) -> list[bytes | None]:
        """All values."""
        return self._all_bytes(0)

    def keys(self) -> list[bytes | None]:
        """All keys."""
        return self._all_bytes(2)

    def headers(self, index: int) -> tuple[Header, ...]:
        """The headers of one record, walked now.

        Raises
        ------
        UnicodeDecodeError
            a header's name is no UTF-8.
        """
        raw, end = self.raw, len(self.raw)
        count, at = varint(raw, int(self.places[4, index]), end)
        found: list[Header] = []
        for _ in range(count):
            name, length, at = span(raw, at, end)
            content, size, at = span(raw, at, end)
            found.append((raw[name : name + length].decode(), raw[content : content + size] if size >= 0 else None))
        return tuple(found)

    def _bytes(self, row: int, index: int) -> bytes | None:
        start, length = int(self.places[row, index]), int(self.places[row + 1, index])
        return self.raw[start : start + length] if length >= 0 else None

    def _all_bytes(self, row: int) -> list[bytes | None]:
        raw = self.raw
        starts, lengths = self.places[row].tolist(), self.places[row + 1].tolist()
        return [
            raw[start : start + length] if length >= 0 else None for start, length in zip(starts, lengths, strict=True)
        ]


def nothing_of(topic: str) -> Chunk:
    """A chunk of no records, to try something with."""
    places, positions = np.zeros((5, 0), np.int64), np.zeros((2, 0), np.int64)
    return Chunk(
        topic=topic, partition=0, first=0, next_offset=0, raw=b"", places=places, positions=positions, size=0
    )  # fmt: skip
