"""Columns of events into windows: groups of rows are folded at once, and only groups become Python objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any, TypeAlias

import numpy as np

from skeet.core.windows import UNSEEN, Closed, Hopping, Key, Late, Mergeable, Tumbling, Windows, WindowState
from skeet.core.windows.rules import AlignedRule
from skeet.core.windows.windows import late
from skeet.schemas.columns.columns import Flags, Longs
from skeet.streams.windows.marks import marks
from skeet.streams.windows.parts import Groups, has_parts, parts

Rows: TypeAlias = slice | Longs


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Events of one partition in the order of its log. Arrays are int64, a row for each event.

    ``keys`` are numbers of ``names``. ``now_ns`` are the log's times, or None. ``values`` are columns by field.
    """

    keys: Longs
    names: Sequence[Key]
    ts: Longs
    values: Mapping[str, Longs]
    partition: int = 0
    now_ns: Longs | None = None

    def __len__(self) -> int:
        return len(self.ts)


@dataclass(frozen=True, slots=True)
class ColumnOutcome:
    """As :class:`skeet.core.windows.Outcome`, with the row that closed each window and the row of each late event."""

    closed: tuple[Closed, ...] = ()
    closed_by: tuple[int, ...] = ()
    late: tuple[Late, ...] = ()
    late_rows: tuple[int, ...] = ()


class ColumnWindows:
    """:class:`Windows` on columns. What it makes of a state is equal to adding the events one by one, in any chunks.

    Tumbling and hopping windows with folds that can be merged and know groups (all of ours do) are computed at once, other
    windows and folds row by row.
    """

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        folds = windows.folding.folds
        self._at_once = isinstance(windows.rule, Tumbling | Hopping) and all(
            has_parts(fold) and isinstance(fold, Mergeable) for fold in folds
        )

    def add(self, state: WindowState, events: Events) -> ColumnOutcome:
        """All events in turn: the windows that they close, and those that are late."""
        if not len(events):
            return ColumnOutcome()
        rule = self.windows.rule
        if self._at_once and isinstance(rule, Tumbling | Hopping):
            return self._all_at_once(state, events, rule)
        return self._row_by_row(state, events)

    def _row_by_row(self, state: WindowState, events: Events) -> ColumnOutcome:
        closed: list[Closed] = []
        late_ones: list[Late] = []
        closed_by: list[int] = []
        late_rows: list[int] = []
        for row, (key, ts, value, now_ns) in enumerate(_rows(events)):
            outcome = self.windows.add(state, key, ts, value, partition=events.partition, now_ns=now_ns)
            closed += outcome.closed
            closed_by += [row] * len(outcome.closed)
            late_ones += outcome.late
            late_rows += [row] * len(outcome.late)
        return ColumnOutcome(tuple(closed), tuple(closed_by), tuple(late_ones), tuple(late_rows))

    def _all_at_once(self, state: WindowState, events: Events, rule: AlignedRule) -> ColumnOutcome:
        windows = self.windows
        mark = marks(state.watermark, events.partition, events.ts, events.now_ns, windows.idle_after_ns)
        bounds = np.where(mark == UNSEEN, UNSEEN, mark - windows.grace_ns)
        first, last = _first_and_last(rule, events.ts)
        whole = last + rule.size_ns <= bounds
        late_ones: list[Late] = []
        late_rows = np.flatnonzero(first + rule.size_ns <= bounds).tolist()
        begin = 0
        for row in late_rows:
            if not whole[row]:
                # It counts in some of its windows: by itself, between what came before and after it.
                self._fold(state, events, rule, _kept(whole, begin, row))
                begin = row + 1
            late_ones.append(self._late(state, events, row, int(bounds[row]), int(mark[row])))
        self._fold(state, events, rule, _kept(whole, begin, len(events)))
        closed = windows.timed.close(state, int(bounds[-1]))
        ends = np.array([each.span.end for each in closed], np.int64)
        closed_by = tuple(np.searchsorted(bounds, ends).tolist())
        return ColumnOutcome(closed, closed_by, tuple(late_ones), tuple(late_rows))

    def _late(self, state: WindowState, events: Events, row: int, bound: int, mark: int) -> Late:
        key, ts = events.names[int(events.keys[row])], int(events.ts[row])
        value = {name: int(column[row]) for name, column in events.values.items()}
        missed, taken = self.windows.timed.add(state, key, ts, value, bound)
        return late(state, key, ts, value, missed, taken, mark)

    def _fold(self, state: WindowState, events: Events, rule: AlignedRule, rows: Rows) -> None:
        if not len(events.ts[rows]):
            return
        # All times of a pane are in the same windows.
        width = gcd(rule.size_ns, rule.step_ns)
        keys, panes, groups = _grouped(events, rows, rule.offset_ns, width)
        folds = self.windows.folding.folds
        columns = [parts(fold, groups) for fold in folds]
        merges: list[Any] = [fold.merge for fold in folds if isinstance(fold, Mergeable)]
        aligned = state.aligned
        for key, pane, *group in zip(keys, panes, *columns, strict=True):
            name = events.names[key]
            for start in rule.starts(pane * width + rule.offset_ns):
                open_keys = aligned.get(start)
                if open_keys is None:
                    open_keys = aligned[start] = {}
                held = open_keys.get(name)
                if held is None:
                    open_keys[name] = group.copy()
                else:
                    open_keys[name] = [merge(a, b) for merge, a, b in zip(merges, held, group, strict=True)]


def _first_and_last(rule: AlignedRule, ts: Longs) -> tuple[Longs, Longs]:
    """Where the first and the last window begin that hold each time: ``rule.starts`` of each."""
    last = ts - (ts - rule.offset_ns) % rule.step_ns
    return last - (rule.size_ns - 1 - (ts - last)) // rule.step_ns * rule.step_ns, last


def _kept(dropped: Flags, begin: int, end: int) -> Rows:
    """The rows of a range, without those that count nowhere."""
    part = dropped[begin:end]
    return np.flatnonzero(~part) + begin if part.any() else slice(begin, end)


def _grouped(events: Events, rows: Rows, offset: int, width: int) -> tuple[list[int], list[int], Groups]:
    """Keys and panes of the groups, and the rows in groups, each in order of time and arrival."""
    keys, ts = events.keys[rows], events.ts[rows]
    order = np.argsort(keys, kind="stable") if bool((ts[1:] >= ts[:-1]).all()) else np.lexsort((ts, keys))
    keys, ts = keys[order], ts[order]
    panes = (ts - offset) // width
    changes = np.flatnonzero((keys[1:] != keys[:-1]) | (panes[1:] != panes[:-1])) + 1
    starts = np.concatenate([[0], changes])
    values = {name: column[rows][order] for name, column in events.values.items()}
    groups = Groups(ts=ts, values=values, starts=starts, ends=np.concatenate([changes, [len(ts)]]))
    return keys[starts].tolist(), panes[starts].tolist(), groups


def _rows(events: Events) -> Iterator[tuple[Key, int, dict[str, int], int | None]]:
    names = tuple(events.values)
    columns = [column.tolist() for column in events.values.values()]
    times = events.ts.tolist()
    nows = events.now_ns.tolist() if events.now_ns is not None else [None] * len(times)
    values = zip(*columns, strict=True) if columns else iter([()] * len(times))
    for key, ts, value, now_ns in zip(events.keys.tolist(), times, values, nows, strict=True):
        yield events.names[key], ts, dict(zip(names, value, strict=True)), now_ns
