"""How the worker's machines get their state back: from the log, before the first record is delivered.

Bars: from the newest snapshot of the arrays that lies before the start, the bars published and the trades made since. Where
there is none, the last closed bars name the last trade that is accounted for (``through_at``); the trades from there on up
to where reading starts are folded again. So a restart in mid-minute goes on with the bars that were open, and what was closed
stays closed. Imbalance: from its snapshot and the quotes since. Signals of bars: the bars before the start are folded again,
without publishing. Reference: the status records before the start say what is stale or has a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from skeet.agents.bars import INTERVALS, BarsAgent, BarsState, Series
from skeet.agents.bars_arrays import state_of
from skeet.agents.bars_columns import ColumnBars
from skeet.config import Settings
from skeet.core.errors import InvalidInput
from skeet.core.machine import Agent
from skeet.core.market import Bar
from skeet.core.record import Out, Record
from skeet.core.snapshots import MachineSnapshot
from skeet.core.values import NS_PER_S
from skeet.process import logger
from skeet.schemas.codec import Codec
from skeet.streams.batches.snapshots import Snapshotting, newest_fitting
from skeet.streams.ranges import Partition, offsets_at, records_between, watermarks
from skeet.streams.stages import Restore, Restored
from skeet.streams.topics import MARKET_BARS, MARKET_STATUS, MARKET_TRADES, Topic, topic_name

TAIL_BARS = 5_000
"""Bars read back per partition: more than an hour of the one-second bars of one instrument."""
TAIL_STATUS = 10_000
MAX_TRADES = 200_000
"""Trades folded again per partition. An instrument whose open bar began before them loses that bar: never a partial one."""


CLOCKS_APART_NS = 60 * NS_PER_S
"""A snapshot is dated by its writer's clock, bars by the broker's. A minute of bars read twice costs nothing."""


class _Snapshotted(Agent[Any], Snapshotting, Protocol):
    """A machine whose state is kept in snapshots."""


class Restorer:
    """Restores machines from one log. Methods block and are called from a thread."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec

    def bars(self, machine: ColumnBars, name: str) -> Restore:
        """A restore of the bars' state where reading starts, with the bars whose publishing was cut off."""

        def restore(starts: Mapping[Partition, int]) -> Restored:
            trades = self._of(MARKET_TRADES, starts)
            inputs = trades | self._of(MARKET_STATUS, starts)
            snapshots, state = self._snapshots(machine, name, inputs)
            return self._bars_from(state_of(state), snapshots, starts)

        return restore

    def _bars_from(
        self, state: BarsState, snapshots: Mapping[int, MachineSnapshot], starts: Mapping[Partition, int]
    ) -> Restored:
        one, trades = BarsAgent(), self._of(MARKET_TRADES, starts)
        for record in self._published([number for _, number in trades], snapshots):
            if isinstance(record.event, Bar):
                remember(state, record.event)
        status = {
            place: (max(0, start - TAIL_STATUS), start) for place, start in self._of(MARKET_STATUS, starts).items()
        }
        for record in records_between(self._settings, self._codec, self._behind(MARKET_STATUS, snapshots, status)):
            one.step(state, record)
        outs: list[Out[Any]] = []
        firsts = watermarks(self._settings, list(trades))
        for partition, start in trades.items():
            first, _ = firsts[partition]
            floor = max(first, start - MAX_TRADES, self._floor(state, partition, start))
            ranges = self._behind(MARKET_TRADES, snapshots, {partition: (floor, start)})
            if partition[1] not in snapshots:
                blind_before(state, partition[1], floor)
                state.blind = floor > 0
            for record in records_between(self._settings, self._codec, ranges):
                state, new = one.step(state, record)
                outs.extend(new)
            state.blind = False
        return state, tuple(outs)

    def held(self, machine: _Snapshotted, name: str, topic: Topic) -> Restore:
        """A restore from the machine's snapshots; the records behind them are folded, their outputs are in the log."""

        def restore(starts: Mapping[Partition, int]) -> Restored:
            inputs = self._of(topic, starts)
            snapshots, state = self._snapshots(machine, name, inputs)
            held = {place: (start, start) for place, start in inputs.items()}
            for record in records_between(self._settings, self._codec, self._behind(topic, snapshots, held)):
                state, _ = machine.step(state, record)
            return state, ()

        return restore

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

    def _published(self, partitions: list[int], snapshots: Mapping[int, MachineSnapshot]) -> Iterator[Record[Any]]:
        """The newest bars; where there is a snapshot all that were published since it was taken."""
        name = topic_name(MARKET_BARS, self._settings.kafka)
        marks = watermarks(self._settings, [(name, p) for p in partitions])
        ranges = {p: (max(first, end - TAIL_BARS), end) for p, (first, end) in marks.items()}
        for number in set(partitions) & set(snapshots):
            since_ns = max(0, snapshots[number].taken_ns - CLOCKS_APART_NS)
            found = offsets_at(self._settings, [(name, number)], since_ns)
            ranges[name, number] = (found[name, number], marks[name, number][1])
        return records_between(self._settings, self._codec, ranges)

    def _snapshots(
        self, machine: _Snapshotted, name: str, inputs: Mapping[Partition, int]
    ) -> tuple[dict[int, MachineSnapshot], Any]:
        """The snapshots to go on from, by partition, and a state that holds them."""
        state = machine.initial()
        found = newest_fitting(self._settings, self._codec, name, machine.snapshot_version, inputs) if inputs else {}
        firsts = watermarks(self._settings, list(inputs))
        for number, snapshot in list(found.items()):
            missing = [
                place for place in inputs if place[1] == number and self._position(snapshot, place) < firsts[place][0]
            ]
            try:
                if missing:
                    raise InvalidInput(f"the log no longer has what follows it: {missing}")
                machine.unpack(state, snapshot.state)
            except InvalidInput as error:
                logger().warning("no snapshot", machine=name, partition=number, cause=str(error))
                del found[number]
        return found, state

    def _behind(
        self, topic: Topic, snapshots: Mapping[int, MachineSnapshot], ranges: Mapping[Partition, tuple[int, int]]
    ) -> dict[Partition, tuple[int, int]]:
        """The ranges, those of partitions with a snapshot from its position on."""
        return {
            place: (self._position(snapshots[place[1]], place), end) if place[1] in snapshots else (first, end)
            for place, (first, end) in ranges.items()
        }

    def _position(self, snapshot: MachineSnapshot, place: Partition) -> int:
        name = f"{place[0].removeprefix(self._settings.kafka.topic_prefix)}/{place[1]}"
        return snapshot.positions.get(name, -1)

    def _of(self, topic: Topic, starts: Mapping[Partition, int]) -> dict[Partition, int]:
        name = topic_name(topic, self._settings.kafka)
        return {partition: start for partition, start in starts.items() if partition[0] == name}


def remember(state: BarsState, bar: Bar) -> None:
    """Note that the bar is closed and which trades it accounts for. The newest bar of a series wins."""
    series = state.series.setdefault((bar.instrument_id, bar.interval), Series())
    if bar.ts_close <= series.closed_until:
        return
    series.closed_until, series.bar, series.whole = bar.ts_close, None, True
    series.late_trades, series.torn, series.last_at = 0, False, bar.through_at
    if bar.through_at:
        _, partition, offset = bar.through_at.rsplit("/", 2)
        series.partition, series.through = int(partition), int(offset)


def blind_before(state: BarsState, partition: int, floor: int) -> None:
    """Series whose open bar may have begun before what is read again do not publish that bar."""
    for series in state.series.values():
        if series.partition == partition and series.through + 1 < floor:
            series.whole = False
