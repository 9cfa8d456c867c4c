"""How the worker's machines get their state back: from the log, before the first record is delivered.

Bars: the last closed bars name the last trade that is accounted for (``through_at``); the trades from there on up to where
reading starts are folded again, so that a restart in mid-minute goes on with the bars that were open, and what was closed
stays closed. Signals: the bars before the start are folded again, without publishing. Reference: the status records before
the start say what is stale or has a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from skeet.agents.bars import INTERVALS, BarsAgent, BarsState, Series
from skeet.config import Settings
from skeet.core.machine import Agent
from skeet.core.market import Bar
from skeet.core.record import Out, Record
from skeet.schemas.codec import Codec
from skeet.streams.ranges import Partition, records_between, watermarks
from skeet.streams.stages import Restored
from skeet.streams.topics import MARKET_BARS, MARKET_STATUS, MARKET_TRADES, Topic, topic_name

TAIL_BARS = 5_000
"""Bars read back per partition: more than an hour of the one-second bars of one instrument."""
TAIL_STATUS = 10_000
MAX_TRADES = 200_000
"""Trades folded again per partition. An instrument whose open bar began before them loses that bar: never a partial one."""


class Restorer:
    """Restores machines from one log. Methods block and are called from a thread."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec

    def bars(self, starts: Mapping[Partition, int]) -> Restored:
        """State of :class:`BarsAgent` where reading starts, and the bars whose publishing was cut off."""
        machine, state = BarsAgent(), BarsState()
        trades = self._of(MARKET_TRADES, starts)
        for record in self._tail_to_end(MARKET_BARS, [p for _, p in trades]):
            if isinstance(record.event, Bar):
                remember(state, record.event)
        for record in self._tail_before(MARKET_STATUS, starts, TAIL_STATUS):
            machine.step(state, record)
        outs: list[Out[Any]] = []
        firsts = watermarks(self._settings, list(trades))
        for partition, start in trades.items():
            first, _ = firsts[partition]
            floor = max(first, start - MAX_TRADES, self._floor(state, partition, start))
            blind_before(state, partition[1], floor)
            state.blind = floor > 0
            for record in records_between(self._settings, self._codec, {partition: (floor, start)}):
                state, new = machine.step(state, record)
                outs.extend(new)
        state.blind = False
        return state, tuple(outs)

    def folded(self, machine: Agent[Any], topic: Topic, count: int) -> Callable[[Mapping[Partition, int]], Restored]:
        """A restore that folds the last ``count`` records of a topic before the start; their outputs are in the log."""

        def restore(starts: Mapping[Partition, int]) -> Restored:
            state = machine.initial()
            for record in self._tail_before(topic, starts, count):
                state, _ = machine.step(state, record)
            return state, ()

        return restore

    def _floor(self, state: BarsState, partition: Partition, start: int) -> int:
        """The offset after the last trade that is accounted for in every series of the partition.

        0 when nothing is known, or when an instrument has bars of one interval only (its first minute).
        """
        through: dict[str, list[int]] = {}
        for (instrument_id, _), series in state.series.items():
            if series.partition == partition[1]:
                through.setdefault(instrument_id, []).append(series.through + 1)
        if not through or any(len(offsets) < len(INTERVALS) for offsets in through.values()):
            return 0
        return min(start, *(min(offsets) for offsets in through.values()))

    def _tail_before(self, topic: Topic, starts: Mapping[Partition, int], count: int) -> Iterator[Record[Any]]:
        ranges = {p: (max(0, start - count), start) for p, start in self._of(topic, starts).items()}
        return records_between(self._settings, self._codec, ranges)

    def _tail_to_end(self, topic: Topic, partitions: list[int]) -> Iterator[Record[Any]]:
        name = topic_name(topic, self._settings.kafka)
        marks = watermarks(self._settings, [(name, p) for p in partitions])
        ranges = {p: (max(first, end - TAIL_BARS), end) for p, (first, end) in marks.items()}
        return records_between(self._settings, self._codec, ranges)

    def _of(self, topic: Topic, starts: Mapping[Partition, int]) -> dict[Partition, int]:
        name = topic_name(topic, self._settings.kafka)
        return {partition: start for partition, start in starts.items() if partition[0] == name}


def remember(state: BarsState, bar: Bar) -> None:
    """Note that the bar is closed and which trades it accounts for. The newest bar of a series wins."""
    series = state.series.setdefault((bar.instrument_id, bar.interval), Series())
    if bar.ts_close <= series.closed_until:
        return
    series.closed_until = bar.ts_close
    if bar.through_at:
        _, partition, offset = bar.through_at.rsplit("/", 2)
        series.partition, series.through = int(partition), int(offset)


def blind_before(state: BarsState, partition: int, floor: int) -> None:
    """Series whose open bar may have begun before what is read again do not publish that bar."""
    for series in state.series.values():
        if series.partition == partition and series.through + 1 < floor:
            series.whole = False
