"""The venue's facts, as the gateway saw them. Only gateways write these (``venue.reports.v1``, keyed by account)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from skeet.core.record import Event
from skeet.core.values import LiquiditySide, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReport(Event):
    """A report about one order; ``client_order_id`` is what the venue was given."""

    order_id: str
    client_order_id: str
    instrument_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitAttempted(OrderReport):
    """Written before the request is sent, with what it says. The venue refuses the request after ``send_until`` (ns)."""

    side: Side
    quantity: Decimal
    limit_price: Decimal
    sent_ts: int
    send_until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitAcknowledged(OrderReport):
    """The venue has the order. ``written_ns`` is our clock just before the socket write, ``answered_ns`` just after the
    answer; both 0 when this was learned by asking."""

    venue_order_id: str
    written_ns: int
    answered_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitRejected(OrderReport):
    """The venue answered that it will not take the order. ``code`` is the venue's."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitNotSent(OrderReport):
    """The request was provably never written to a socket (expired before sending, kill switch, not permitted)."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOutcomeUnknown(OrderReport):
    """No answer, or one that proves nothing (timeout, 5xx): resolved by asking the venue, never by sending again."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFoundAbsent(OrderReport):
    """The venue does not have the order, and no longer can: asked after ``send_until`` plus all delays."""

    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FillReported(OrderReport):
    """One execution. ``trade_id`` is unique per instrument at the venue; quantities in base, ``fee`` in ``fee_asset``."""

    venue_order_id: str
    trade_id: str
    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    liquidity: LiquiditySide


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAttempted(OrderReport):
    """Written before a cancel request is sent."""

    cancel_id: str
    sent_ts: int
    send_until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelReported(OrderReport):
    """The order is no longer open at the venue, canceled with ``filled_quantity`` executed before."""

    venue_order_id: str
    filled_quantity: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiryReported(OrderReport):
    """The venue ended the order itself (the rest of an IOC, a FOK, a post-only that would match)."""

    venue_order_id: str
    filled_quantity: Decimal
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRejectedByVenue(OrderReport):
    """The venue refused a cancel (mostly because the order is already filled: the order is looked up, the fill wins)."""

    cancel_id: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalOrderSeen(Event):
    """The venue shows an open order of this account that nobody here commanded. ``reason`` says what is done about it."""

    instrument_id: str
    venue_order_id: str
    client_order_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceReported(Event):
    """The venue's balance of one asset, as of the envelope's ``ts_event``."""

    asset: str
    free: Decimal
    locked: Decimal
