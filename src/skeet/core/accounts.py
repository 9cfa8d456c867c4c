"""What happened to an account (past tense): decisions and facts, written by the desk only (``accounts.events.v1``).

Each event that moves money carries its postings, which sum to zero per asset: the ledger is a plain sum over the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from skeet.core.record import Event
from skeet.core.values import LiquiditySide, OrderStatus, OrderType, Side, TimeInForce


class LedgerAccount(StrEnum):
    """Double-entry accounts of one customer account. FREE + RESERVED is what the customer owns."""

    UNKNOWN = "UNKNOWN"
    FREE = "FREE"
    RESERVED = "RESERVED"
    EXTERNAL = "EXTERNAL"
    MARKET = "MARKET"
    FEES = "FEES"


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """One line of a ledger entry; the lines of one event sum to zero per asset."""

    ledger: LedgerAccount
    asset: str
    amount: Decimal
    book_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """One reason of a denial: the control, what was observed, what is allowed."""

    control: str
    detail: str
    observed: str
    allowed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountEvent(Event):
    """Base of the account's stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountOpened(AccountEvent):
    venue: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FundsDeposited(AccountEvent):
    asset: str
    amount: Decimal
    external_ref: str
    postings: tuple[Posting, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandDenied(AccountEvent):
    """A command other than SubmitOrder was refused, with all reasons."""

    command_id: str
    command: str
    breaches: tuple[Breach, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvent(AccountEvent):
    """An event of one order. ``status`` is the order's after the event."""

    order_id: str
    book_id: str
    instrument_id: str
    status: OrderStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAuthorized(OrderEvent):
    """Risk passed and funds are reserved: the gateway may send it until ``valid_until``.

    A market order carries its collar as ``limit_price`` and goes to the venue as IOC at that price. The reference that
    the decision used, and the versions of limits and instrument, are recorded here.
    """

    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    post_only: bool
    quantity: Decimal
    limit_price: Decimal
    ts_cause: int
    valid_until: int
    code_version: str
    rule: str
    reserved_asset: str
    reserved_amount: Decimal
    reference_bid: Decimal
    reference_ask: Decimal
    reference_ts: int
    reference_at: str
    instrument_version: int
    limits_version: int
    postings: tuple[Posting, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderDenied(OrderEvent):
    """Risk refused the order: every breach is listed, in the order of the controls."""

    side: Side
    order_type: OrderType
    quantity: Decimal
    limit_price: Decimal | None
    code_version: str
    rule: str
    breaches: tuple[Breach, ...]
    reference_bid: Decimal | None
    reference_ask: Decimal | None
    reference_ts: int
    reference_at: str
    instrument_version: int
    limits_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSubmitted(OrderEvent):
    """The gateway's attempt is in the log; the request may or may not have reached the venue until answered."""

    sent_ts: int
    send_until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAccepted(OrderEvent):
    venue_order_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRejected(OrderEvent):
    """The venue refused it, or it was provably never sent; the reservation is released."""

    code: str
    reason: str
    postings: tuple[Posting, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderOutcomeUnknown(OrderEvent):
    """Nobody knows whether the venue has the order; the reservation is kept until evidence arrives."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAbsent(OrderEvent):
    """It is proven that the venue never got the order; the reservation is released."""

    evidence: str
    postings: tuple[Posting, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFilled(OrderEvent):
    """One execution, booked. ``filled_quantity`` and ``leaves_quantity`` are the order's after it."""

    side: Side
    venue_order_id: str
    trade_id: str
    quantity: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    liquidity: LiquiditySide
    filled_quantity: Decimal
    leaves_quantity: Decimal
    postings: tuple[Posting, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCanceled(OrderEvent):
    filled_quantity: Decimal
    postings: tuple[Posting, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderExpired(OrderEvent):
    """Ended by the venue's own rules (rest of an IOC, FOK, post-only), or never sent in its time."""

    filled_quantity: Decimal
    reason: str
    postings: tuple[Posting, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEndAwaitsFills(OrderEvent):
    """The venue ended the order (``outcome``) after ``filled_quantity``, but not all of those fills are booked yet.

    The order stays open, and its reservation kept, until they are; then OrderCanceled or OrderExpired follows the fill.
    """

    outcome: OrderStatus
    filled_quantity: Decimal
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAuthorized(OrderEvent):
    """The gateway may cancel it; ``cancel_id`` is the id of the CancelOrder command."""

    cancel_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRejected(OrderEvent):
    cancel_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateIgnored(AccountEvent):
    """An input that was already applied came again: ``duplicate_of`` is its id, ``input`` its type."""

    duplicate_of: str
    input: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportIgnored(AccountEvent):
    """A venue report that changes nothing (late, or about an order already ended), with the reason."""

    order_id: str
    report: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceDiffered(AccountEvent):
    """The venue's balance is not the ledger's: shown, never silently overwritten."""

    asset: str
    ledger_total: Decimal
    venue_total: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalOrderFound(AccountEvent):
    """The venue has an open order of this account that nobody here commanded; ``reason`` says what is done about it. What
    it executes appears as BalanceDiffered."""

    instrument_id: str
    venue_order_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlApplied(AccountEvent):
    """This partition of the desk now acts on ``control.events.v1`` up to ``control_offset`` (included)."""

    control_offset: int
    control_event: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesApplied(AccountEvent):
    """From here on this partition decides under these settings, by code of this version, until the next one.

    Limits here hold for who has none of his own. Without it nobody could run a decision again after a setting changed.
    """

    max_quantity: Decimal
    max_notional: Decimal
    reference_max_age_ns: int
    collar_bps: int
    code_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateMarked(AccountEvent):
    """What the desk remembered of this partition after its first ``marked_events`` events: SHA-256 over its accounts.

    The events covered are those that stand before the mark in the partition. A mark is in the transaction of the last
    events it covers. ``reason`` says what asked for it: so many events, or an operator's SessionMark.
    """

    marked_events: int
    account_count: int
    state_hash: str
    reason: str


PartitionEvent = ControlApplied | RulesApplied | StateMarked
"""Events of a partition's pseudo-account: they say something about the desk, nothing about a customer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountHalted(AccountEvent):
    """The account takes no commands until a person resumes it."""

    reason: str
