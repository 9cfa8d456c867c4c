"""Imbalance of whole chunks of quotes: the same signals, byte for byte, as one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit

from skeet.agents.instrument_rows import ROOM, InstrumentRows
from skeet.agents.signals import ImbalanceSignals
from skeet.config import SignalSettings
from skeet.core.market import Quote
from skeet.core.record import Out, Record
from skeet.schemas.columns.columns import Longs
from skeet.streams.batches.rows import ChunkRows


@dataclass(slots=True)
class Published:
    """When each instrument's last signal was published, in the log's time; 0 where none was."""

    rows: InstrumentRows = field(default_factory=InstrumentRows)
    last_ns: Longs = field(default_factory=lambda: np.zeros(ROOM, np.int64))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _due(last_ns: Any, row_of: Any, records: Any, sizes: Any, log_ns: Any, span: Any, interval_ns: Any, due: Any) -> Any:
    """The records that are to be signalled, up to the first unusual one; where it stopped, and how many they are."""
    bids, asks = sizes
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
        row = state.rows.add(quote.instrument_id)
        if row >= len(state.last_ns):
            state.last_ns = np.concatenate([state.last_ns, np.zeros_like(state.last_ns)])
        part, outs = self._one.step({quote.instrument_id: int(state.last_ns[row])}, record)
        state.last_ns[row] = part[quote.instrument_id]
        return state, outs

    def fold(self, state: Published, rows: ChunkRows, first: int, end: int) -> tuple[int, Sequence[Out[Any]]]:
        """Take records from ``first`` on, up to ``end`` or the first one that only :meth:`step` takes."""
        bids, asks = rows.columns.longs("bid_size_mantissa"), rows.columns.longs("ask_size_mantissa")
        due = np.empty(end - first, np.int64)
        stopped, found = _due(
            state.last_ns,
            state.rows.by_number(rows.known, rows.numbers),
            (rows.row_of, rows.numbers),
            (bids, asks),
            rows.log_ns,
            (first, end),
            self._one.interval_ns,
            due,
        )
        outs = [out for record in due[:found].tolist() for out in self._one.signal(rows.record(record))]
        return int(stopped), outs
