"""Imbalance of whole chunks of quotes: the same signals, byte for byte, as one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit

from skeet.agents.instrument_rows import ROOM, InstrumentRows
from skeet.agents.signals import ImbalanceSignals
from skeet.config import SignalSettings
from skeet.core.errors import InvalidInput
from skeet.core.market import Quote
from skeet.core.record import Out, Record
from skeet.schemas.columns.columns import Longs
from skeet.streams.batches.rows import ChunkRows
from skeet.streams.batches.snapshots import pack, unpack


@dataclass(slots=True)
class Published:
    """When each instrument's last signal was published, in the log's time; 0 where none was."""

    rows: InstrumentRows = field(default_factory=InstrumentRows)
    last_ns: Longs = field(default_factory=lambda: np.zeros(ROOM, np.int64))

    def set(self, instrument_id: str, at_ns: int) -> None:
        """The instrument's last signal was published then."""
        row = self.rows.add(instrument_id)
        if row >= len(self.last_ns):
            self.last_ns = np.concatenate([self.last_ns, np.zeros_like(self.last_ns)])
        self.last_ns[row] = at_ns


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _due(last_ns: Any, row_of: Any, records: Any, sizes: Any, when: Any, span: Any, due: Any) -> Any:
    """The records that are to be signalled, up to the first unusual one; where it stopped, and how many they are."""
    bids, asks = sizes
    log_ns, interval_ns = when
    found = 0
    for record in range(span[0], span[1]):
        row = records[0][record]
        instrument = row_of[records[1][row]] if row >= 0 else -1
        if instrument < 0:
            return record, found
        # Two sizes that make nothing together give no signal. Two of -2^63 wrap to 0, and are none.
        something = bids[row] != -asks[row] or (bids[row] < 0 and asks[row] < 0)
        if something and log_ns[record] - last_ns[instrument] >= interval_ns:
            last_ns[instrument] = log_ns[record]
            due[found] = record
            found += 1
    return span[1], found


class ColumnImbalance:
    """The machine. Reads quotes; one by one, or as columns."""

    def __init__(self, settings: SignalSettings) -> None:
        self._one = ImbalanceSignals(settings)
        self.version = self._one.version

    def initial(self) -> Published:
        """None published."""
        return Published()

    def step(self, state: Published, record: Record[Any]) -> tuple[Published, tuple[Out[Any], ...]]:
        """As :meth:`ImbalanceSignals.step`."""
        quote = record.event
        if not isinstance(quote, Quote):
            return state, ()
        row = state.rows.find(quote.instrument_id)
        last_ns = int(state.last_ns[row]) if row is not None else 0
        part, outs = self._one.step({quote.instrument_id: last_ns}, record)
        state.set(quote.instrument_id, part[quote.instrument_id])
        return state, outs

    @property
    def snapshot_version(self) -> str:
        """Of the rules."""
        return self.version

    def packed(self, state: Published, belongs: Callable[[str], bool]) -> bytes:
        """When the last signal of each instrument that belongs was published."""
        rows = [row for row, instrument_id in enumerate(state.rows) if belongs(instrument_id)]
        return pack({"instruments": [state.rows[row] for row in rows]}, state.last_ns[rows])

    def unpack(self, state: Published, content: bytes) -> None:
        """Put a snapshot into the state; InvalidInput when it is none."""
        header, last_ns = unpack(content, np.dtype(np.int64))
        instruments = header.get("instruments")
        if not isinstance(instruments, list) or len(last_ns) != len(instruments):
            raise InvalidInput(f"{len(last_ns)} times of instruments {instruments!r:.60}")
        for instrument_id, at_ns in zip(instruments, last_ns.tolist(), strict=True):
            state.set(instrument_id, at_ns)

    def fold(self, state: Published, rows: ChunkRows, first: int, end: int) -> tuple[int, Sequence[Out[Any]]]:
        """Take records from ``first`` on, up to ``end`` or the first one that only :meth:`step` takes."""
        bids, asks = rows.columns.longs("bid_size_mantissa"), rows.columns.longs("ask_size_mantissa")
        due = np.empty(end - first, np.int64)
        stopped, found = _due(
            state.last_ns,
            state.rows.by_number(rows.known, rows.numbers),
            (rows.row_of, rows.numbers),
            (bids, asks),
            (rows.log_ns, self._one.interval_ns),
            (first, end),
            due,
        )
        outs = [out for record in due[:found].tolist() for out in self._one.signal(rows.record(record))]
        return int(stopped), outs
