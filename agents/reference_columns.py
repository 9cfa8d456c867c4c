"""References of whole chunks: the same, byte for byte, as :class:`skeet.agents.reference.ReferenceAgent` makes one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skeet.agents.instrument_rows import ROOM, InstrumentRows, grown
from skeet.agents.reference import INTERVAL_NS, Change, ReferenceAgent, ReferenceState, Watched, publish
from skeet.agents.reference_kernel import STATUSES, WATCHED, fold
from skeet.core.market import Quote
from skeet.core.record import MarketEvent, Out, Record, TopicPosition
from skeet.schemas.columns.columns import Columns
from skeet.streams.batches.rows import ChunkRows
from skeet.streams.topics import MARKET_QUOTES, MARKET_STATUS, MARKET_TRADES

TOPICS = (MARKET_TRADES.name, MARKET_QUOTES.name, MARKET_STATUS.name)
FITS = 1 << 63
MAX_SCALE = 18


@dataclass(slots=True)
class ReferenceColumns:
    """All instruments as arrays; open gaps, and numbers that no array holds, beside them."""

    rows: InstrumentRows = field(default_factory=InstrumentRows)
    watched: NDArray[np.void] = field(default_factory=lambda: np.zeros(ROOM, WATCHED))
    gaps: dict[int, set[tuple[str, int, int]]] = field(default_factory=dict)
    outside: dict[int, Watched] = field(default_factory=dict)


class ColumnReferences:
    """The machine. Reads quotes, trades and the feeds' status; one by one, or quotes and trades as columns."""

    version = ReferenceAgent.version

    def __init__(self) -> None:
        self._one = ReferenceAgent()

    def initial(self) -> ReferenceColumns:
        """Nothing seen."""
        return ReferenceColumns()

    def step(self, state: ReferenceColumns, record: Record[Any]) -> tuple[ReferenceColumns, tuple[Out[Any], ...]]:
        """As :meth:`ReferenceAgent.step`."""
        if not isinstance(record.event, MarketEvent):
            return state, ()
        part = _part(state, record.event.instrument_id)
        part, outs = self._one.step(part, record)
        put(state, part)
        return state, outs

    def due(self, state: ReferenceColumns, now_ns: int) -> tuple[ReferenceColumns, tuple[Out[Any], ...]]:
        """As :meth:`ReferenceAgent.due`."""
        held = state.watched[: len(state.rows)]
        outs: list[Out[Any]] = []
        for row in np.flatnonzero(held["changed"] & (now_ns - held["published_ns"] >= INTERVAL_NS)).tolist():
            part, made = self._one.due(_part(state, state.rows[row]), now_ns)
            put(state, part)
            outs.extend(made)
        return state, tuple(outs)

    def fold(self, state: ReferenceColumns, rows: ChunkRows, first: int, end: int) -> tuple[int, Sequence[Out[Any]]]:
        """Take records from ``first`` on, up to ``end`` or the first one that only :meth:`step` takes."""
        columns = rows.columns
        published, published_at = np.empty(end - first, WATCHED), np.empty((end - first, 2), np.int64)
        quotes = columns.event_class is Quote
        stopped, found = fold(
            (state.watched, state.rows.by_number(rows.known, rows.numbers)),
            (rows.row_of, rows.numbers),
            (
                columns.longs("ts_event"),
                columns.longs("ts_init"),
                columns.longs("price_scale"),
                np.ones(len(columns), np.bool_) if quotes else ~columns.booleans("backfilled"),
            ),
            (*_prices(columns, quotes=quotes), quotes),
            (TOPICS.index(rows.topic), rows.partition, rows.offsets, rows.log_ns),
            (first, end),
            (published, published_at),
        )
        outs: list[Out[Any]] = []
        for number, (row, record) in enumerate(published_at[:found].tolist()):
            outs.extend(
                publish(state.rows[row], _watched(published[number], state.gaps.get(row)), int(rows.log_ns[record]))
            )
        return int(stopped), outs


def _prices(columns: Columns, *, quotes: bool) -> tuple[Any, Any]:
    if quotes:
        return columns.longs("bid_price_mantissa"), columns.longs("ask_price_mantissa")
    return columns.longs("price_mantissa"), columns.longs("price_mantissa")


def state_of(state: ReferenceColumns) -> ReferenceState:
    """The state as ReferenceAgent has it."""
    return {instrument_id: _part(state, instrument_id)[instrument_id] for instrument_id in state.rows}


def put(state: ReferenceColumns, part: ReferenceState) -> None:
    """Put these instruments in, each in its place."""
    for instrument_id, watched in part.items():
        row = state.rows.add(instrument_id)
        state.watched = grown(state.watched, len(state.rows))
        prices = (watched.bid, watched.ask, watched.last)
        fits = watched.scale <= MAX_SCALE and all(-FITS < price < FITS for price in prices)
        state.watched[row] = _row(watched, prices if fits else (0, 0, 0), outside=not fits)
        state.gaps[row] = watched.gaps
        if fits:
            state.outside.pop(row, None)
        else:
            state.outside[row] = watched


def _part(state: ReferenceColumns, instrument_id: str) -> ReferenceState:
    row = state.rows.find(instrument_id)
    if row is None:
        return {}
    return {instrument_id: state.outside.get(row) or _watched(state.watched[row], state.gaps.get(row))}


def _watched(stored: np.void, gaps: set[tuple[str, int, int]] | None) -> Watched:
    named = dict(zip(WATCHED.names or (), stored.item(), strict=True))
    place = TopicPosition(TOPICS[named["change_topic"]], named["change_partition"], named["change_offset"])
    return Watched(
        bid=named["bid"],
        ask=named["ask"],
        last=named["last"],
        scale=named["scale"],
        stale=named["stale"],
        gaps=gaps if gaps is not None else set(),
        published_ns=named["published_ns"],
        published_status=STATUSES[named["published_status"]],
        changed=Change(named["change_ts_event"], named["change_ts_init"], place) if named["changed"] else None,
    )


def _row(watched: Watched, prices: tuple[int, int, int], *, outside: bool) -> tuple[Any, ...]:
    change = watched.changed
    return (
        *prices,
        watched.scale,
        watched.published_ns,
        change.ts_event if change else 0,
        change.ts_init if change else 0,
        TOPICS.index(change.at.topic) if change else 0,
        change.at.partition if change else 0,
        change.at.offset if change else 0,
        STATUSES.index(watched.status),
        STATUSES.index(watched.published_status),
        True,
        watched.stale,
        bool(watched.gaps),
        change is not None,
        outside,
    )
