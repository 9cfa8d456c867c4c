"""What the gateway remembers of one account's orders, and the reports that the venue's word about them makes. Pure.

Facts may come in any order and more than once: by the answer, by the stream, by asking. Each makes its report once, with a
derived id, so what slips through a restart dies at the desk. An order is done when its end and all its fills are known.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from skeet.core.accounts import OrderAuthorized
from skeet.core.ids import client_order_id, derive_id
from skeet.core.record import Meta, Out, Record
from skeet.core.reports import (
    BalanceReported,
    CancelAttempted,
    CancelRejectedByVenue,
    CancelReported,
    ExpiryReported,
    ExternalOrderSeen,
    FillReported,
    OrderFoundAbsent,
    OrderReport,
    SubmitAcknowledged,
    SubmitAttempted,
    SubmitNotSent,
    SubmitOutcomeUnknown,
    SubmitRejected,
)
from skeet.core.values import OrderId
from skeet.streams.ports import OrderKey, VenueOrder, VenueOrderStatus, VenueTrade
from skeet.streams.topics import REPORTS

REMEMBERED_DONE = 20_000
"""Orders that are done are remembered this long, so that a late repetition is not taken for somebody else's order."""

Outs = list[Out[Any]]
ZERO = Decimal(0)


class Stage(StrEnum):
    """Where an attempt stands. SENDING: the answer is awaited. UNKNOWN: there was none. OPEN: the venue has the order."""

    SENDING = "SENDING"
    UNKNOWN = "UNKNOWN"
    OPEN = "OPEN"


@dataclass(slots=True, kw_only=True)
class LiveOrder:
    """An attempted order that is not done. ``meta`` is the envelope its reports are made from; ``end`` the venue's word
    about how it ended, reported once ``end_reported``."""

    meta: Meta
    order_id: str
    key: OrderKey
    quantity: Decimal
    send_until: int
    stage: Stage
    filled: Decimal = ZERO
    trade_ids: set[str] = field(default_factory=set)
    end: VenueOrder | None = None
    end_reported: bool = False
    cancel_id: str = ""

    @property
    def fills_missing(self) -> bool:
        """The venue speaks of more executed quantity than the executions seen."""
        return self.end is not None and self.filled < self.end.filled_quantity


def report(order: LiveOrder, event: OrderReport, ts_event: int, *natural_key: str) -> Out[Any]:
    """A report in the envelope of its order; its id is derived from order, kind and natural key."""
    event_id = derive_id("report", order.order_id, type(event).__name__, *natural_key)
    meta = replace(order.meta, event_id=event_id, ts_event=ts_event)
    return Out(topic=REPORTS.name, key=str(order.meta.account_id), event=event, meta=meta)


def authorised_order(record: Record[OrderAuthorized], send_until: int) -> LiveOrder:
    """The memory of an order about to be attempted."""
    assert record.meta is not None
    event = record.event
    key = OrderKey(instrument_id=event.instrument_id, client_order_id=client_order_id(OrderId(event.order_id)))
    meta = replace(record.meta, causation_id=record.meta.event_id, cause_at=str(record.at), stream_version=0)
    return LiveOrder(
        meta=meta,
        order_id=event.order_id,
        key=key,
        quantity=event.quantity,
        send_until=send_until,
        stage=Stage.SENDING,
    )


class AccountBook:
    """The live orders of one account. Methods take a fact and return the reports it makes, in order."""

    def __init__(self) -> None:
        self.orders: dict[str, LiveOrder] = {}
        self.last_trade_ids: dict[str, int] = {}
        self.external: OrderedDict[str, None] = OrderedDict()
        """Venue order ids of orders that are not ours, as reported."""
        self.balances: dict[str, tuple[Decimal, Decimal]] = {}
        """Free and locked amount of each asset as last reported."""
        self._by_venue_id: dict[tuple[str, str], str] = {}
        self._done: OrderedDict[str, OrderKey] = OrderedDict()

    def knows(self, order_id: str) -> bool:
        """Whether the order was attempted or refused before."""
        return order_id in self.orders or order_id in self._done

    def find(self, key: OrderKey) -> LiveOrder | None:
        """The live order of a client's or a venue's id."""
        order_id = key.client_order_id or self._by_venue_id.get((key.instrument_id, key.venue_order_id), "")
        return self.orders.get(order_id)

    def is_done(self, key: OrderKey) -> bool:
        """Whether the key names an order of ours that is done."""
        order_id = key.client_order_id or self._by_venue_id.get((key.instrument_id, key.venue_order_id), "")
        return order_id in self._done

    # --- our own acts -------------------------------------------------------------------------------------------------

    def attempt(self, order: LiveOrder, event: OrderAuthorized, sent_ts: int) -> Outs:
        """The write-ahead of a submission."""
        self.orders[order.order_id] = order
        self.last_trade_ids.setdefault(order.key.instrument_id, 0)
        attempted = SubmitAttempted(
            **_names(order),
            side=event.side,
            quantity=event.quantity,
            limit_price=event.limit_price,
            sent_ts=sent_ts,
            send_until=order.send_until,
        )
        return [report(order, attempted, sent_ts)]

    def not_sent(self, order: LiveOrder, reason: str, now_ns: int) -> Outs:
        """Provably never written."""
        self._finish(order)
        return [report(order, SubmitNotSent(**_names(order), reason=reason), now_ns)]

    def cancel_attempt(self, order: LiveOrder, cancel_id: str, sent_ts: int, send_until: int) -> Outs:
        """The write-ahead of a cancel: from here on it is carried out, whatever dies in between."""
        order.cancel_id = cancel_id
        event = CancelAttempted(**_names(order), cancel_id=cancel_id, sent_ts=sent_ts, send_until=send_until)
        return [report(order, event, sent_ts, cancel_id)]

    # --- the venue's word ---------------------------------------------------------------------------------------------

    def acknowledged(self, order: LiveOrder, seen: VenueOrder, written_ns: int = 0, answered_ns: int = 0) -> Outs:
        """The venue has the order. The times are 0 when this was learned by asking, or from the stream."""
        self._learn(order, seen.key)
        order.stage = Stage.OPEN
        event = SubmitAcknowledged(
            **_names(order),
            venue_order_id=order.key.venue_order_id,
            written_ns=written_ns,
            answered_ns=answered_ns,
        )
        return [report(order, event, seen.ts_event), *self.seen(seen)]

    def rejected(self, order: LiveOrder, code: str, reason: str, now_ns: int) -> Outs:
        """The venue refused the order."""
        self._finish(order)
        return [report(order, SubmitRejected(**_names(order), code=code, reason=reason), now_ns)]

    def unknown(self, order: LiveOrder, reason: str, now_ns: int) -> Outs:
        """No answer. What the stream said meanwhile may already resolve it."""
        order.stage = Stage.UNKNOWN
        outs = [report(order, SubmitOutcomeUnknown(**_names(order), reason=reason), now_ns)]
        if order.key.venue_order_id:
            outs += self.acknowledged(order, order.end or _as_open(order, now_ns))
        return outs

    def absent(self, order: LiveOrder, evidence: str, now_ns: int) -> Outs:
        """The venue has no such order, and no longer can."""
        self._finish(order)
        return [report(order, OrderFoundAbsent(**_names(order), evidence=evidence), now_ns)]

    def traded(self, trade: VenueTrade) -> Outs:
        """One execution, from the stream or by asking; nothing when it is known already."""
        order = self.find(trade.key)
        if order is None or trade.trade_id in order.trade_ids:
            return []
        outs = self._exists(order, trade.key, trade.ts_event)
        order.trade_ids.add(trade.trade_id)
        order.filled += trade.quantity
        self._passed(trade.key.instrument_id, trade.trade_id)
        event = FillReported(
            **_names(order),
            venue_order_id=order.key.venue_order_id,
            trade_id=trade.trade_id,
            side=trade.side,
            quantity=trade.quantity,
            price=trade.price,
            fee=trade.fee,
            fee_asset=trade.fee_asset,
            liquidity=trade.liquidity,
        )
        outs.append(report(order, event, trade.ts_event, trade.key.instrument_id, trade.trade_id))
        return outs + self._settle(order)

    def seen(self, venue_order: VenueOrder) -> Outs:
        """The state of an order, from an answer, the stream, or by asking."""
        order = self.find(venue_order.key)
        if order is None:
            return []
        if venue_order.status is VenueOrderStatus.REJECTED and order.stage is not Stage.OPEN:
            return self.rejected(order, "REJECTED", venue_order.reason, venue_order.ts_event)
        outs = self._exists(order, venue_order.key, venue_order.ts_event)
        if venue_order.status is not VenueOrderStatus.OPEN:
            order.end = venue_order
        return outs + self._settle(order)

    def cancel_rejected(self, order: LiveOrder, code: str, reason: str, now_ns: int) -> Outs:
        """The venue will not cancel the order."""
        event = CancelRejectedByVenue(**_names(order), cancel_id=order.cancel_id, code=code, reason=reason)
        order.cancel_id = ""
        return [report(order, event, now_ns, event.cancel_id)]

    def _exists(self, order: LiveOrder, key: OrderKey, ts_event: int) -> Outs:
        """Any word about an order proves that the venue has it; while the answer is awaited, the answer will say so."""
        self._learn(order, key)
        if order.stage is not Stage.UNKNOWN:
            return []
        order.stage = Stage.OPEN
        event = SubmitAcknowledged(
            **_names(order), venue_order_id=order.key.venue_order_id, written_ns=0, answered_ns=0
        )
        return [report(order, event, ts_event)]

    def _settle(self, order: LiveOrder) -> Outs:
        """Report the end once the answer is in; forget the order once its end and its fills are known."""
        if order.stage is not Stage.OPEN:
            return []
        outs: Outs = []
        if order.end is not None and not order.end_reported:
            order.end_reported = True
            outs += _end_report(order, order.end)
        ended = order.end is not None and not order.fills_missing
        if ended or order.filled >= order.quantity:
            self._finish(order)
        return outs

    def _learn(self, order: LiveOrder, key: OrderKey) -> None:
        if key.venue_order_id and not order.key.venue_order_id:
            order.key = replace(order.key, venue_order_id=key.venue_order_id)
            self._by_venue_id[order.key.instrument_id, key.venue_order_id] = order.order_id

    def _passed(self, instrument_id: str, trade_id: str) -> None:
        number = int(trade_id) if trade_id.isdecimal() else 0  # a venue of ours numbers its trades
        self.last_trade_ids[instrument_id] = max(self.last_trade_ids.get(instrument_id, 0), number)

    def _finish(self, order: LiveOrder) -> None:
        self.orders.pop(order.order_id, None)
        self._remember_done(order.order_id, order.key)

    def _remember_done(self, order_id: str, key: OrderKey) -> None:
        self._done[order_id] = key
        while len(self._done) > REMEMBERED_DONE:
            _, forgotten = self._done.popitem(last=False)
            self._by_venue_id.pop((forgotten.instrument_id, forgotten.venue_order_id), None)

    def remember_external(self, venue_order_id: str) -> bool:
        """Whether this order of somebody else is new; it is known from now on, until very many others came."""
        if venue_order_id in self.external:
            return False
        self.external[venue_order_id] = None
        while len(self.external) > REMEMBERED_DONE:
            self.external.popitem(last=False)
        return True

    # --- recovery -----------------------------------------------------------------------------------------------------

    def restore(self, record: Record[Any]) -> None:
        """Fold one of our own reports, in the log's order. An attempt without an outcome stays SENDING."""
        event = record.event
        if isinstance(event, BalanceReported):
            self.balances[event.asset] = (event.free, event.locked)
        if isinstance(event, ExternalOrderSeen):
            self.remember_external(event.venue_order_id)
        if not isinstance(event, OrderReport):
            return
        if isinstance(event, SubmitAttempted):
            assert record.meta is not None
            self.orders[event.order_id] = _restored(event, record.meta)
            self.last_trade_ids.setdefault(event.instrument_id, 0)
            return
        order = self.orders.get(event.order_id)
        if order is not None:
            self._restore_outcome(order, event)
        elif isinstance(event, SubmitNotSent):
            self._remember_done(
                event.order_id, OrderKey(instrument_id=event.instrument_id, client_order_id=event.client_order_id)
            )

    def _restore_outcome(self, order: LiveOrder, event: OrderReport) -> None:
        match event:
            case SubmitAcknowledged():
                order.stage = Stage.OPEN
                self._learn(order, replace(order.key, venue_order_id=event.venue_order_id))
                self._settle(order)
            case SubmitRejected() | SubmitNotSent() | OrderFoundAbsent():
                self._finish(order)
            case SubmitOutcomeUnknown():
                order.stage = Stage.UNKNOWN
            case FillReported():
                self._learn(order, replace(order.key, venue_order_id=event.venue_order_id))
                self._passed(event.instrument_id, event.trade_id)
                order.trade_ids.add(event.trade_id)
                order.filled += event.quantity
                self._settle(order)
            case CancelReported() | ExpiryReported():
                status = VenueOrderStatus.CANCELED if isinstance(event, CancelReported) else VenueOrderStatus.EXPIRED
                order.end = VenueOrder(key=order.key, status=status, filled_quantity=event.filled_quantity, ts_event=0)
                order.end_reported = True
                self._settle(order)
            case CancelAttempted():
                order.cancel_id = event.cancel_id
            case CancelRejectedByVenue():
                order.cancel_id = ""
            case _:
                pass


def _restored(event: SubmitAttempted, meta: Meta) -> LiveOrder:
    key = OrderKey(instrument_id=event.instrument_id, client_order_id=event.client_order_id)
    return LiveOrder(
        meta=meta,
        order_id=event.order_id,
        key=key,
        quantity=event.quantity,
        send_until=event.send_until,
        stage=Stage.SENDING,
    )


def _names(order: LiveOrder) -> dict[str, str]:
    return {
        "order_id": order.order_id,
        "client_order_id": order.key.client_order_id,
        "instrument_id": order.key.instrument_id,
    }


def _as_open(order: LiveOrder, now_ns: int) -> VenueOrder:
    return VenueOrder(key=order.key, status=VenueOrderStatus.OPEN, filled_quantity=order.filled, ts_event=now_ns)


def _end_report(order: LiveOrder, end: VenueOrder) -> Outs:
    fields: dict[str, Any] = {
        **_names(order),
        "venue_order_id": order.key.venue_order_id,
        "filled_quantity": end.filled_quantity,
    }
    if end.status is VenueOrderStatus.CANCELED:
        return [report(order, CancelReported(**fields), end.ts_event)]
    if end.status is VenueOrderStatus.EXPIRED:
        return [report(order, ExpiryReported(**fields, reason=end.reason), end.ts_event)]
    return []  # FILLED: the fills say it; REJECTED after an acknowledgement does not exist
