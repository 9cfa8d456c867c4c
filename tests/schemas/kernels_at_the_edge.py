"""Gives the kernels buffers that end where memory ends: one byte beyond is a crash of this process. Run by a test."""

from __future__ import annotations

import ctypes
import dataclasses
import mmap
import sys
from collections.abc import Callable

import numpy as np

from skeet.core.accounts import FundsDeposited
from skeet.core.market import Bar, BookDelta, Signal, Trade
from skeet.core.record import Event, Meta
from skeet.schemas.avro import is_lean
from skeet.schemas.codec import numbered_codec
from skeet.schemas.columns.columns import Bytes
from skeet.schemas.columns.decoding import ColumnDecoder
from skeet.schemas.columns.kernels import encoder_of
from skeet.schemas.golden import sample

PAGE = mmap.PAGESIZE
CLASSES: tuple[type[Event], ...] = (Trade, BookDelta, Signal, Bar, FundsDeposited)
HUGE = [b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x80\x80\x80\x04", b"\x80\x20", b"\xfe\x01"]
"""Lengths of 2^62, 4 MiB, 2 KiB and 127."""


class Edge:
    """A page that may be used, and one behind it that may not be touched."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 2 * PAGE)
        self._page = np.frombuffer(self._memory, np.uint8)[:PAGE]
        address = ctypes.c_void_p(self._page.__array_interface__["data"][0] + PAGE)
        if ctypes.CDLL(None, use_errno=True).mprotect(address, ctypes.c_size_t(PAGE), 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")

    def last(self, count: int) -> Bytes:
        """The last bytes before the end."""
        return self._page[PAGE - count :]

    def holding(self, content: bytes) -> Bytes:
        """These bytes, the last before the end."""
        held = self.last(len(content))
        held[:] = np.frombuffer(content, np.uint8)
        return held


def spoilt(record: bytes) -> list[bytes]:
    """The record cut everywhere, and with a huge length in every place, cut behind it or not."""
    cut = [record[:end] for end in range(len(record) + 1)]
    lengths = [record[:at] + huge + record[at + 1 :] for at in range(5, len(record)) for huge in HUGE]
    behind = [record[:at] + huge for at in range(5, len(record)) for huge in HUGE]
    return cut + lengths + behind


def main() -> None:
    """All of it; prints how much."""
    codec, edge, count = numbered_codec(), Edge(), 0
    for event_class in CLASSES:
        record = codec.encode(sample(event_class), None if is_lean(event_class) else sample(Meta))
        decoder = ColumnDecoder(codec, event_class)
        for content in spoilt(record):
            decoder.decode(edge.holding(content), np.zeros(1, np.int64), np.array([len(content)]))
            count += 1
        columns = decoder.decode_records([record])
        blocks = [
            np.ascontiguousarray(block[:, : columns.storage.counts[table]])
            for (table, _), block in columns.storage.blocks.items()
        ]
        _write_into_every_room(edge, len(record), _written(event_class, columns.storage.buffer, blocks))
    _texts_beyond_their_buffer(edge)
    sys.stdout.write(f"{count} records\n")


def _written(event_class: type[Event], buffer: Bytes, blocks: list[Bytes]) -> Callable[[Bytes], int]:
    def write(out: Bytes) -> int:
        return int(encoder_of(event_class)(out, np.empty(1, np.int64), np.empty(1, np.int64), 1, buffer, *blocks))

    return write


def _write_into_every_room(edge: Edge, needed: int, write: Callable[[Bytes], int]) -> None:
    for room in range(needed):
        assert write(edge.last(room)) == 0, f"{needed} bytes into {room}"


def _texts_beyond_their_buffer(edge: Edge) -> None:
    codec = numbered_codec()
    columns = ColumnDecoder(codec, Trade).decode_records([codec.encode(sample(Trade))])
    storage = dataclasses.replace(columns.storage, buffer=edge.holding(b"xx"))
    row = columns.field("trade_id").at
    for start, length in ((0, 3), (2, 1), (-1, 1), (3, 0), (2**62, 1), (0, -1)):
        storage.blocks[0, "longs"][row["longs"]], storage.blocks[0, "ints"][row["ints"]] = start, length
        assert _written(Trade, storage.buffer, list(storage.blocks.values()))(np.empty(500, np.uint8)) == 0


if __name__ == "__main__":
    main()
