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

from skeet.core.errors import DecodeError
from skeet.core.market import BookDelta, BookSnapshot, Channel, GapClosed, GapOpened, GapOutcome, Quote, Trade
from skeet.core.record import MarketEvent

MAX_HELD_DIFFS = 10_000
"""Diffs held while a snapshot is awaited: 1,000 s of ``depth@100ms``. Beyond it the oldest goes (it stays in the raw
topic), and the snapshot that comes is newer than it anyway."""

MAX_JUMP = 10_000_000_000
"""Books of the liveliest symbols count some 10^8 updates a day: a hundred days away, and more is no gap but a wrong digit."""

NO_VENUE = "recorded frames: no venue to ask"

Events = tuple[MarketEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Ids ``first`` to ``last`` of a channel, both included, that did not arrive."""

    instrument_id: str
    channel: Channel
    first: int
    last: int

    def opened(self, ts_event: int, ts_init: int) -> GapOpened:
        """The event of its discovery; times are those of the record behind the gap."""
        return GapOpened(
            instrument_id=self.instrument_id,
            ts_event=ts_event,
            ts_init=ts_init,
            channel=self.channel,
            first_missing=self.first,
            last_missing=self.last,
        )

    def closed(
        self, ts_event: int, ts_init: int, outcome: GapOutcome, *, recovered: int = 0, reason: str = ""
    ) -> GapClosed:
        """The event of its end; times are those of what ended it."""
        return GapClosed(
            instrument_id=self.instrument_id,
            ts_event=ts_event,
            ts_init=ts_init,
            channel=self.channel,
            first_missing=self.first,
            last_missing=self.last,
            outcome=outcome,
            recovered=recovered,
            reason=reason,
        )

    def ended(self, trades: Sequence[Trade], received_ns: int, reason: str = "") -> Events:
        """The end of a gap in trades: those of it that were fetched, then FILLED if that was all, else UNFILLABLE.

        ``trades`` may reach past the gap on both sides. ``reason`` says why some are missing, where that is known.
        """
        inside = {int(trade.trade_id): trade for trade in trades if self.first <= int(trade.trade_id) <= self.last}
        missing = self.last - self.first + 1 - len(inside)
        outcome = GapOutcome.UNFILLABLE if missing else GapOutcome.FILLED
        why = (reason or f"the venue did not give {missing} of them") if missing else ""
        found = tuple(replace(inside[trade_id], backfilled=True) for trade_id in sorted(inside))
        return *found, self.closed(received_ns, received_ns, outcome, recovered=len(found), reason=why)

    def unfillable(self, behind: MarketEvent) -> Events:
        """Discovery and end in one, where there is no venue to ask."""
        times = (behind.ts_event, behind.ts_init)
        return self.opened(*times), self.closed(*times, GapOutcome.UNFILLABLE, reason=NO_VENUE)


class ImplausibleId(DecodeError):
    """An id so far ahead of the last that a digit of the frame is wrong: believing it would make repeats of all that follow."""


def check_jump(what: str, last: int | None, new: int) -> None:
    """Nothing, where ``new`` may follow ``last``; the state of a sequence is unchanged where not.

    Raises
    ------
    ImplausibleId
        it lies more than :data:`MAX_JUMP` ahead.
    """
    if last is not None and new - last > MAX_JUMP:
        raise ImplausibleId(f"{what} {new} follows {last}; expected less than {MAX_JUMP} in between")


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
        check_jump("trade id", last, trade_id)
        if last is not None and trade_id <= last:
            return ()
        self.last_id = trade_id
        if last is None or trade_id == last + 1:
            return (trade,)
        gap = Gap(instrument_id=trade.instrument_id, channel=Channel.TRADES, first=last + 1, last=trade_id - 1)
        if not self._recoverable:
            return *gap.unfillable(trade), trade
        self.open_gaps.append(gap)
        return gap.opened(trade.ts_event, trade.ts_init), trade

    def fill(self, gap: Gap, trades: Sequence[Trade], received_ns: int, reason: str = "") -> Events:
        """What the venue gave for an open gap, and its end (:meth:`Gap.ended`); nothing if it is not open any more."""
        if gap not in self.open_gaps:
            return ()
        self.open_gaps.remove(gap)
        return gap.ended(trades, received_ns, reason)


class QuoteSequence:
    """Update ids of book tickers only grow; there is no next one to miss, so there are no gaps."""

    def __init__(self, last_id: int | None = None) -> None:
        self.last_id = last_id

    def on_quote(self, quote: Quote) -> Events:
        """The quote; nothing for a repeat."""
        check_jump("update id", self.last_id, quote.update_id)
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
        check_jump("last update id", self.last_id, delta.last_update_id)
        if self.waiting:
            self._held.append(delta)
            return ()
        assert self.last_id is not None
        if delta.last_update_id <= self.last_id:
            return ()
        if delta.first_update_id <= self.last_id + 1:
            self.last_id = delta.last_update_id
            return (delta,)
        gap = Gap(
            instrument_id=delta.instrument_id,
            channel=Channel.BOOK,
            first=self.last_id + 1,
            last=delta.first_update_id - 1,
        )
        if not self._recoverable:
            self.last_id = delta.last_update_id
            return *gap.unfillable(delta), delta
        self.open_gap, self.waiting = gap, True
        self._held.append(delta)
        return (gap.opened(delta.ts_event, delta.ts_init),)

    def on_snapshot(self, snapshot: BookSnapshot) -> Events:
        """The snapshot, the end of the gap that made it necessary, and the held diffs that apply to it.

        A snapshot older than the first held diff cannot be used: nothing is returned and another is needed (a recorded
        file has no other: there it is published, with the gap behind it). One older than the chain is a repeat.
        """
        at = snapshot.last_update_id
        check_jump("last update id", self.last_id, at)
        if self.last_id is not None and at < self.last_id:
            return ()
        held = [delta for delta in self._held if at < delta.last_update_id <= at + MAX_JUMP]
        if held and held[0].first_update_id > at + 1 and self._recoverable:
            return ()
        if not self.waiting and at == self.last_id:
            return ()
        events: list[MarketEvent] = [snapshot]
        if self.open_gap is not None:
            times = (snapshot.ts_event, snapshot.ts_init)
            events.append(self.open_gap.closed(*times, GapOutcome.RESYNCED, reason=f"snapshot {at}"))
        self.open_gap, self.waiting, self.last_id = None, False, at
        self._held.clear()
        for delta in held:
            events += self.on_delta(delta)
        return tuple(events)
