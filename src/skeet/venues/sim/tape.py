"""The public past: every trade and every 1-minute bar, in flat files of fixed records.

Trade n is record n − 1, so ``historicalTrades?fromId=`` is one seek however old the trade is. The files hold only what
the command log makes again: recovery cuts them back to the snapshot's count and replays.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

KEEP_TRADES = 2_000_000
"""Trades kept per symbol (80 MB); beyond it the older half is dropped at a snapshot."""


class TapeTrade(NamedTuple):
    """One trade as stored: price in ticks, quantity in lots."""

    trade_id: int
    aggregate_id: int
    price: int
    quantity: int
    ts_ns: int
    buyer_is_maker: int


class RecordFile:
    """Records of signed 64-bit integers, numbered from 0; the first `base` may have been dropped."""

    def __init__(self, path: Path, width: int) -> None:
        self._path = path
        self._record = struct.Struct(f"<{width}q")
        self._open()

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        header = os.pread(self._file, 8, 0)
        if len(header) < 8:
            os.pwrite(self._file, bytes(8), 0)
            header = bytes(8)
        self.base = int.from_bytes(header, "little")
        self.count = self.base + (os.fstat(self._file).st_size - 8) // self._record.size

    def __len__(self) -> int:
        return self.count

    def append(self, records: Sequence[Sequence[int]]) -> None:
        """Add records at the end."""
        packed = b"".join(self._record.pack(*record) for record in records)
        os.pwrite(self._file, packed, self._offset(self.count))
        self.count += len(records)

    def read(self, start: int, stop: int) -> list[tuple[int, ...]]:
        """Records start ≤ n < stop, as far as they are kept."""
        start, stop = max(start, self.base), min(stop, self.count)
        if start >= stop:
            return []
        raw = os.pread(self._file, (stop - start) * self._record.size, self._offset(start))
        return list(self._record.iter_unpack(raw))

    def first_at_least(self, key: Callable[[tuple[int, ...]], int], value: int) -> int:
        """The lowest record number whose key (never falling from record to record) is ≥ `value`."""
        numbers = range(self.base, self.count)
        return self.base + bisect_left(numbers, value, key=lambda n: key(self.read(n, n + 1)[0]))

    def truncate(self, count: int) -> None:
        """Forget records from number `count` on."""
        os.ftruncate(self._file, self._offset(max(count, self.base)))
        self.count = max(min(count, self.count), self.base)

    def drop_before(self, number: int) -> None:
        """Forget the records below `number`; a killed process leaves either the old file or the new one."""
        kept = os.pread(self._file, (self.count - number) * self._record.size, self._offset(number))
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(number.to_bytes(8, "little") + kept)
        os.close(self._file)
        fresh.replace(self._path)
        self._open()

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _offset(self, number: int) -> int:
        return 8 + (number - self.base) * self._record.size


class Tape:
    """The trades of one symbol."""

    def __init__(self, directory: Path, symbol: str) -> None:
        self.file = RecordFile(directory / f"trades-{symbol}.bin", 5)

    def append(self, trades: Sequence[TapeTrade]) -> None:
        """Add trades; their ids must continue the tape."""
        self.file.append([trade[1:] for trade in trades])

    def last(self, limit: int) -> list[TapeTrade]:
        """The newest `limit` trades, oldest first."""
        return self.range(len(self.file) - limit + 1, limit)

    def range(self, from_id: int, limit: int) -> list[TapeTrade]:
        """Up to `limit` trades from `from_id` on."""
        start = max(from_id - 1, self.file.base)
        return [TapeTrade(n, *row) for n, row in enumerate(self.file.read(start, start + limit), start=start + 1)]

    def id_at(self, ts_ns: int) -> int:
        """The id of the first trade at or after a time."""
        return 1 + self.file.first_at_least(lambda row: row[3], ts_ns)

    def id_of_aggregate(self, aggregate_id: int) -> int:
        """The id of the first trade of an aggregate (or of the first later one)."""
        return 1 + self.file.first_at_least(lambda row: row[0], aggregate_id)
