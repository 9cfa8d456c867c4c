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
from skeet.core.record import MarketEvent, Out, Record
from skeet.core.values import NS_PER_MS, VenueStatus, rescale
from skeet.streams.topics import MARKET_REFERENCE

INTERVAL_NS = 100 * NS_PER_MS


@dataclass(slots=True)
class Watched:
    """What is known of one instrument. ``changed`` is what has not been published yet."""

    bid: int = 0
    ask: int = 0
    last: int = 0
    scale: int = 0
    stale: bool = False
    gaps: set[tuple[str, int, int]] = field(default_factory=set)
    published_ns: int = 0
    published_status: ReferenceStatus = ReferenceStatus.UNKNOWN
    changed: MarketEvent | None = None
    changed_at: str = ""

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
        watched.changed, watched.changed_at = event, str(record.at)
        if record.log_ns - watched.published_ns >= INTERVAL_NS or watched.status is not watched.published_status:
            return state, _publish(watched, record.log_ns)
        return state, ()

    def due(self, state: ReferenceState, now_ns: int) -> tuple[ReferenceState, tuple[Out[Any], ...]]:
        """The values that were held back and whose time has come."""
        outs: list[Out[Any]] = []
        for watched in state.values():
            if watched.changed is not None and now_ns - watched.published_ns >= INTERVAL_NS:
                outs.extend(_publish(watched, now_ns))
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


def _publish(watched: Watched, at_ns: int) -> tuple[Out[Any], ...]:
    event = watched.changed
    if event is None:
        return ()
    watched.published_ns, watched.published_status, watched.changed = at_ns, watched.status, None
    reference = Reference(
        instrument_id=event.instrument_id,
        ts_event=event.ts_event,
        ts_init=event.ts_init,
        bid_mantissa=watched.bid,
        ask_mantissa=watched.ask,
        last_mantissa=watched.last,
        price_scale=watched.scale,
        status=watched.status,
        source_at=watched.changed_at,
    )
    return (Out(topic=MARKET_REFERENCE.name, key=event.instrument_id, event=reference),)
