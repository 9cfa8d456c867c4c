"""Best bid and ask, last trade and status of each instrument: what risk looks at, at most ten times a second.

A change is published at once when 100 ms have passed since the last one, else when they have (:meth:`ReferenceAgent.due`);
a change of status at once. The newest value is never withheld longer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from skeet.core.market import (
    GapClosed,
    GapOpened,
    MarketDataResumed,
    MarketDataStale,
    Quote,
    Reference,
    ReferenceStatus,
    Trade,
    VenueStatusChanged,
)
from skeet.core.record import MarketEvent, Out, Record, TopicPosition
from skeet.core.values import NS_PER_MS, VenueStatus, in_64_bits, rescale
from skeet.streams.topics import MARKET_REFERENCE

INTERVAL_NS = 100 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class Change:
    """The newest record of an instrument: its times and where it stands."""

    ts_event: int
    ts_init: int
    at: TopicPosition


@dataclass(slots=True)
class Watched:
    """What is known of one instrument. ``changed``: times and place of what has not been published yet."""

    bid: int = 0
    ask: int = 0
    last: int = 0
    scale: int = 0
    stale: bool = False
    gaps: set[tuple[str, int, int]] = field(default_factory=set)
    published_ns: int = 0
    published_status: ReferenceStatus = ReferenceStatus.UNKNOWN
    changed: Change | None = None

    @property
    def status(self) -> ReferenceStatus:
        """The worst that holds."""
        if self.stale:
            return ReferenceStatus.STALE
        if self.gaps:
            return ReferenceStatus.GAP
        if self.bid and self.ask and self.bid >= self.ask:
            return ReferenceStatus.CROSSED
        return ReferenceStatus.LIVE if self.bid and self.ask else ReferenceStatus.UNKNOWN


ReferenceState = dict[str, Watched]
"""By instrument."""


class ReferenceAgent:
    """The machine. Reads quotes, trades and the feeds' status."""

    version = "reference-1"

    def initial(self) -> ReferenceState:
        """Nothing seen."""
        return {}

    def step(self, state: ReferenceState, record: Record[Any]) -> tuple[ReferenceState, tuple[Out[Any], ...]]:
        """Take the record in; publish when it is time, or when the status changed."""
        event = record.event
        if not isinstance(event, MarketEvent):
            return state, ()
        watched = state.setdefault(event.instrument_id, Watched())
        _take(watched, event)
        watched.changed = Change(event.ts_event, event.ts_init, record.at)
        if record.log_ns - watched.published_ns >= INTERVAL_NS or watched.status is not watched.published_status:
            return state, publish(event.instrument_id, watched, record.log_ns)
        return state, ()

    def due(self, state: ReferenceState, now_ns: int) -> tuple[ReferenceState, tuple[Out[Any], ...]]:
        """The values that were held back and whose time has come."""
        outs: list[Out[Any]] = []
        for instrument_id, watched in state.items():
            if watched.changed is not None and now_ns - watched.published_ns >= INTERVAL_NS:
                outs.extend(publish(instrument_id, watched, now_ns))
        return state, tuple(outs)


def _take(watched: Watched, event: MarketEvent) -> None:
    match event:
        case Quote():
            _refine(watched, event.price_scale)
            watched.bid = rescale(event.bid_price_mantissa, event.price_scale, watched.scale)
            watched.ask = rescale(event.ask_price_mantissa, event.price_scale, watched.scale)
        case Trade(backfilled=False):
            _refine(watched, event.price_scale)
            watched.last = rescale(event.price_mantissa, event.price_scale, watched.scale)
        case GapOpened():
            watched.gaps.add((event.channel, event.first_missing, event.last_missing))
        case GapClosed():
            watched.gaps.discard((event.channel, event.first_missing, event.last_missing))
        case MarketDataStale():
            watched.stale = True
        case MarketDataResumed():
            watched.stale = False
        case VenueStatusChanged():
            watched.stale = event.status is VenueStatus.DOWN
        case _:
            pass


def _refine(watched: Watched, scale: int) -> None:
    if scale > watched.scale:
        factor = 10 ** (scale - watched.scale)
        watched.bid, watched.ask, watched.last = watched.bid * factor, watched.ask * factor, watched.last * factor
        watched.scale = scale


def publish(instrument_id: str, watched: Watched, at_ns: int) -> tuple[Out[Any], ...]:
    """The instrument's reference as of now, noted as published; nothing when nothing changed since the last one."""
    change = watched.changed
    if change is None:
        return ()
    watched.published_ns, watched.published_status, watched.changed = at_ns, watched.status, None
    scale, (bid, ask, last) = in_64_bits(watched.scale, watched.bid, watched.ask, watched.last)
    reference = Reference(
        instrument_id=instrument_id,
        ts_event=change.ts_event,
        ts_init=change.ts_init,
        bid_mantissa=bid,
        ask_mantissa=ask,
        last_mantissa=last,
        price_scale=scale,
        status=watched.status,
        source_at=str(change.at),
    )
    return (Out(topic=MARKET_REFERENCE.name, key=instrument_id, event=reference),)
