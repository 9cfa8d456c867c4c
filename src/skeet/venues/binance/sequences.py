"""Whether anything is missing: trade ids without a hole, book updates that chain. Pure state machines, one instrument each.

A machine is given events in the order of arrival and returns what is to be published, gaps included. What the log already
holds (ids at or below the last) is a repeat and returns nothing, so that a second reading of the same frames adds nothing.

``recoverable`` says whether there is a venue to ask. If so a gap stays open until the driver brings what was asked for
(:meth:`TradeSequence.fill`, :meth:`BookSequence.on_snapshot`); if not (a recorded file) it ends at once as UNFILLABLE and
the sequence goes on behind it.

The book follows Binance's recipe ("How to manage a local order book correctly"): hold diffs until a snapshot; drop those
with ``u <= lastUpdateId``; the first applied one straddles, ``U <= lastUpdateId + 1 <= u``; after it ``U = last u + 1``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from skeet.core.market import BookDelta, BookSnapshot, Channel, GapClosed, GapOpened, GapOutcome, Quote, Trade
from skeet.core.record import MarketEvent

MAX_HELD_DIFFS = 10_000
"""Diffs held while a snapshot is awaited: 1,000 s of ``depth@100ms``. Beyond it the oldest goes (it stays in the raw
topic), and the snapshot that comes is newer than it anyway."""

NO_VENUE = "recorded frames: no venue to ask"

Events = tuple[MarketEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Ids ``first`` to ``last`` of a channel, both included, that did not arrive."""

    channel: Channel
    first: int
    last: int

    def opened(self, revealed_by: MarketEvent) -> GapOpened:
        """The event of its discovery; times are those of the record after the gap."""
        return GapOpened(
            instrument_id=revealed_by.instrument_id,
            ts_event=revealed_by.ts_event,
            ts_init=revealed_by.ts_init,
            channel=self.channel,
            first_missing=self.first,
            last_missing=self.last,
        )

    def closed(self, by: MarketEvent, outcome: GapOutcome, *, recovered: int = 0, reason: str = "") -> GapClosed:
        """The event of its end; times are those of the record that ended it."""
        return GapClosed(
            instrument_id=by.instrument_id,
            ts_event=by.ts_event,
            ts_init=by.ts_init,
            channel=self.channel,
            first_missing=self.first,
            last_missing=self.last,
            outcome=outcome,
            recovered=recovered,
            reason=reason,
        )


class TradeSequence:
    """Trade ids of one instrument count up by one.

    A trade behind a gap is published at once, not held: what was missing follows with ``backfilled`` set.
    """

    def __init__(self, *, recoverable: bool, last_id: int | None = None) -> None:
        self._recoverable = recoverable
        self.last_id = last_id
        """The highest id seen; None before the first trade, which opens no gap."""
        self.open_gaps: list[Gap] = []

    def on_trade(self, trade: Trade) -> Events:
        """The trade, after the gap it reveals; nothing for a repeat."""
        trade_id, last = int(trade.trade_id), self.last_id
        if last is not None and trade_id <= last:
            return ()
        self.last_id = trade_id
        if last is None or trade_id == last + 1:
            return (trade,)
        gap = Gap(channel=Channel.TRADES, first=last + 1, last=trade_id - 1)
        if not self._recoverable:
            return gap.opened(trade), gap.closed(trade, GapOutcome.UNFILLABLE, reason=NO_VENUE), trade
        self.open_gaps.append(gap)
        return gap.opened(trade), trade

    def fill(self, gap: Gap, trades: Sequence[Trade], closing: GapOpened) -> Events:
        """What the venue gave for an open gap, and its end: FILLED when it was all of it, else UNFILLABLE.

        ``trades`` may reach past the gap on both sides; ``closing`` is the gap's opening with the answer's times.
        """
        if gap not in self.open_gaps:
            return ()
        self.open_gaps.remove(gap)
        inside = {int(trade.trade_id): trade for trade in trades if gap.first <= int(trade.trade_id) <= gap.last}
        missing = gap.last - gap.first + 1 - len(inside)
        outcome = GapOutcome.UNFILLABLE if missing else GapOutcome.FILLED
        reason = f"the venue does not give {missing} of them" if missing else ""
        found = tuple(replace(inside[trade_id], backfilled=True) for trade_id in sorted(inside))
        return *found, gap.closed(closing, outcome, recovered=len(found), reason=reason)


class QuoteSequence:
    """Update ids of book tickers only grow; there is no next one to miss, so there are no gaps."""

    def __init__(self, last_id: int | None = None) -> None:
        self.last_id = last_id

    def on_quote(self, quote: Quote) -> Events:
        """The quote; nothing for a repeat."""
        if self.last_id is not None and quote.update_id <= self.last_id:
            return ()
        self.last_id = quote.update_id
        return (quote,)


class BookSequence:
    """The chain of one book: a snapshot, then every diff that applies to it.

    While no snapshot is there (at first, or behind a gap of a recoverable feed) diffs are held, not published.
    """

    def __init__(self, *, recoverable: bool, last_id: int | None = None) -> None:
        self._recoverable = recoverable
        self.last_id = last_id
        """The last update published; None before the first snapshot."""
        self.waiting = last_id is None
        """Whether a snapshot is needed."""
        self.open_gap: Gap | None = None
        self._held: deque[BookDelta] = deque(maxlen=MAX_HELD_DIFFS)

    @property
    def held(self) -> int:
        """How many diffs await a snapshot."""
        return len(self._held)

    def on_delta(self, delta: BookDelta) -> Events:
        """The diff where it chains; the gap where it does not; nothing while a snapshot is awaited or for a repeat."""
        if self.waiting:
            self._held.append(delta)
            return ()
        assert self.last_id is not None
        if delta.last_update_id <= self.last_id:
            return ()
        if delta.first_update_id <= self.last_id + 1:
            self.last_id = delta.last_update_id
            return (delta,)
        gap = Gap(channel=Channel.BOOK, first=self.last_id + 1, last=delta.first_update_id - 1)
        if not self._recoverable:
            self.last_id = delta.last_update_id
            return gap.opened(delta), gap.closed(delta, GapOutcome.UNFILLABLE, reason=NO_VENUE), delta
        self.open_gap, self.waiting = gap, True
        self._held.append(delta)
        return (gap.opened(delta),)

    def on_snapshot(self, snapshot: BookSnapshot) -> Events:
        """The snapshot and the held diffs that apply to it, after the end of the gap that made it necessary.

        A snapshot older than the first held diff cannot be used: nothing is returned and another is needed (a recorded
        file has no other: there it is published, with the gap behind it). One older than the chain is a repeat.
        """
        at = snapshot.last_update_id
        if self.last_id is not None and at < self.last_id:
            return ()
        held = [delta for delta in self._held if delta.last_update_id > at]
        if held and held[0].first_update_id > at + 1 and self._recoverable:
            return ()
        if not self.waiting and at == self.last_id:
            return ()
        events: list[MarketEvent] = [snapshot]
        if self.open_gap is not None:
            events.append(self.open_gap.closed(snapshot, GapOutcome.RESYNCED, reason=f"snapshot {at}"))
        self.open_gap, self.waiting, self.last_id = None, False, at
        self._held.clear()
        for delta in held:
            events += self.on_delta(delta)
        return tuple(events)
