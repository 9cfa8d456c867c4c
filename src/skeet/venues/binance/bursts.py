"""Bursts of frames to columns: what the normaliser makes of frames one by one, for many at once.

A burst is read as far as its frames are the usual ones in their usual order (:mod:`skeet.venues.binance.scanning`); the first
that is not is for :meth:`Normaliser.normalise`. Both move the same sequences on, so one may follow the other at any frame.
Loading this module loads the compiler (half a second, 60 MB).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skeet.core.market import BookDelta, Quote, RawFrame, Trade
from skeet.core.values import Side
from skeet.schemas.columns.building import ListValues, Value, columns_of
from skeet.schemas.columns.columns import Bytes, Columns, Ints, Longs, TextColumn
from skeet.schemas.columns.plan import plan_of
from skeet.venues.binance import scanning
from skeet.venues.binance.normaliser import Normaliser
from skeet.venues.binance.parsers import SCALE
from skeet.venues.binance.scanning import DEPTH, HASH_FACTOR, LEVEL_BYTES, QUOTE, TRADE, scan

PLACE = 7
"""Numbers that the kernel notes of a trade, quote or depth frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """The first ``count`` frames of a burst.

    ``instruments`` are numbers, of each frame and of each event, in the order of the reader's ``instrument_ids``.
    """

    count: int
    instruments: Ints
    events: tuple[tuple[Columns, Ints], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """Frames one after the other in a buffer, and when each was received; the last of ``starts`` is the end of all."""

    buffer: Bytes
    starts: Longs
    received_ns: Longs

    def __len__(self) -> int:
        return len(self.received_ns)


def burst_of(frames: Sequence[tuple[str, int]]) -> Burst | None:
    """The frames, each with its time of receipt (ns); None when one is not plain ASCII, which no market frame is."""
    text = "".join([frame for frame, _ in frames])
    if not text.isascii():
        return None
    starts = np.zeros(len(frames) + 1, np.int64)
    np.cumsum([len(frame) for frame, _ in frames], out=starts[1:])
    received_ns = np.fromiter((received for _, received in frames), np.int64, len(frames))
    return Burst(buffer=_bytes(text.encode()), starts=starts, received_ns=received_ns)


class BurstReader:
    """Reads bursts with the sequences of a normaliser, which it moves on.

    Parameters
    ----------
    instrument_ids
        instrument id of each venue symbol, as the normaliser's.
    """

    def __init__(self, normaliser: Normaliser, instrument_ids: Mapping[str, str]) -> None:
        self.instrument_ids = tuple(instrument_ids.values())
        self._sequences = [normaliser.sequences[each] for each in self.instrument_ids]
        self._symbols = _symbol_table(list(instrument_ids))
        encoded = [each.encode() for each in self.instrument_ids]
        self._id_lengths = np.array([len(each) for each in encoded], np.int32)
        self._id_starts = np.cumsum(self._id_lengths, dtype=np.int64) - self._id_lengths
        self._id_pool = np.frombuffer(b"".join(encoded), np.uint8)
        symbols = next(field.symbols for field in plan_of(Trade).tables[0].fields if field.name == "aggressor_side")
        self._sides = np.array([symbols.index(Side.BUY), symbols.index(Side.SELL)], np.int32)
        nothing = burst_of([])
        assert nothing is not None
        self.read(nothing)  # loads the kernel, or compiles it

    burst_of = staticmethod(burst_of)

    def read(self, burst: Burst, first: int = 0) -> Read:
        """The frames from number ``first`` on, as far as they are the usual ones; their sequences have moved on."""
        starts = burst.starts[first:]
        frames = len(starts) - 1
        instruments = np.empty(frames, np.int32)
        trades, quotes, depths = (np.empty((frames, PLACE), np.int64) for _ in range(3))
        levels = np.empty((4, int(starts[-1] - starts[0]) // LEVEL_BYTES + 1), np.int64)
        counts, state = np.zeros(3, np.int64), self._state()
        before = state.copy()
        out = (instruments, trades, quotes, depths, levels)
        count = int(scan(burst.buffer, starts, self._symbols, state, out, counts))
        self._move_on(before, state)
        instruments = instruments[:count]
        received = burst.received_ns[first:]
        events = []
        for kind, noted in ((TRADE, trades), (QUOTE, quotes), (DEPTH, depths)):
            rows = noted[: counts[kind]]
            if len(rows):
                of = instruments[rows[:, 0]]
                events.append((self._columns(kind, burst, rows, levels, of, received[rows[:, 0]]), of))
        return Read(count=count, instruments=instruments, events=tuple(events))

    def raw_frames(
        self, burst: Burst, first: int, read: Read, *, venue: str, connection_id: str, sequence: int
    ) -> Columns:
        """The frames that were read, as received; ``sequence`` is the number of the first in its connection."""
        begins, ends = burst.starts[first : first + read.count], burst.starts[first + 1 : first + 1 + read.count]
        received = burst.received_ns[first : first + read.count]
        return columns_of(
            RawFrame,
            read.count,
            {
                "instrument_id": self._ids(read.instruments),
                "ts_event": received,
                "ts_init": received,
                "venue": venue,
                "connection_id": connection_id,
                "sequence": np.arange(sequence, sequence + read.count),
                "payload": TextColumn(buffer=burst.buffer, starts=begins, lengths=(ends - begins).astype(np.int32)),
            },
        )

    def _state(self) -> Longs:
        state = np.full((3, len(self._sequences)), -1, np.int64)
        for number, each in enumerate(self._sequences):
            book = None if each.book.waiting else each.book.last_id
            for kind, last_id in ((TRADE, each.trades.last_id), (QUOTE, each.quotes.last_id), (DEPTH, book)):
                if last_id is not None:
                    state[kind, number] = last_id
        return state

    def _move_on(self, before: Longs, after: Longs) -> None:
        for kind, number in zip(*np.nonzero(before != after), strict=True):
            each = self._sequences[number]
            sequence: Any = (each.trades, each.quotes, each.book)[kind]
            sequence.last_id = int(after[kind, number])

    def _ids(self, instruments: Ints) -> TextColumn:
        return TextColumn(
            buffer=self._id_pool, starts=self._id_starts[instruments], lengths=self._id_lengths[instruments]
        )

    def _columns(self, kind: int, burst: Burst, rows: Longs, levels: Longs, of: Ints, received: Longs) -> Columns:
        common: dict[str, Value] = {
            "instrument_id": self._ids(of),
            "ts_init": received,
            "price_scale": SCALE,
            "size_scale": SCALE,
        }
        match kind:
            case scanning.TRADE:
                return columns_of(Trade, len(rows), common | self._trades(burst, rows))
            case scanning.QUOTE:
                return columns_of(Quote, len(rows), common | {"ts_event": received} | _quotes(rows))
            case _:
                return columns_of(BookDelta, len(rows), common | _depths(rows, levels))

    def _trades(self, burst: Burst, rows: Longs) -> dict[str, Value]:
        return {
            "ts_event": rows[:, 1],
            "trade_id": TextColumn(buffer=burst.buffer, starts=rows[:, 2], lengths=rows[:, 3].astype(np.int32)),
            "price_mantissa": rows[:, 4],
            "size_mantissa": rows[:, 5],
            "aggressor_side": self._sides[rows[:, 6]],
            "backfilled": False,
        }


def _quotes(rows: Longs) -> dict[str, Value]:
    return {
        "update_id": rows[:, 1],
        "bid_price_mantissa": rows[:, 2],
        "bid_size_mantissa": rows[:, 3],
        "ask_price_mantissa": rows[:, 4],
        "ask_size_mantissa": rows[:, 5],
    }


def _depths(rows: Longs, levels: Longs) -> dict[str, Value]:
    sides = zip(("bid_prices", "bid_sizes", "ask_prices", "ask_sizes"), (4, 4, 5, 5), levels, strict=True)
    lists = {name: ListValues(ends=rows[:, at], items={"item": items[: rows[-1, at]]}) for name, at, items in sides}
    return lists | {"ts_event": rows[:, 1], "first_update_id": rows[:, 2], "last_update_id": rows[:, 3]}


def _bytes(content: bytes) -> Bytes:
    """Read-only, also of nothing: the kernel is compiled for one kind of buffer."""
    return np.frombuffer(content + b"\0", np.uint8)[: len(content)]


def _symbol_table(symbols: Sequence[str]) -> tuple[Bytes, Longs, Longs]:
    """Pool, ends, and numbers by hash: a table four times as long, so that a search ends soon."""
    encoded = [symbol.encode() for symbol in symbols]
    table = np.full(1 << (4 * len(encoded)).bit_length(), -1, np.int64)
    for number, symbol in enumerate(encoded):
        hashed = 0
        for byte in symbol:
            hashed = (hashed * HASH_FACTOR + byte) & 0x7FFF_FFFF
        place = hashed & (len(table) - 1)
        while table[place] >= 0:
            place = (place + 1) & (len(table) - 1)
        table[place] = number
    ends = np.cumsum([len(each) for each in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), ends, table
