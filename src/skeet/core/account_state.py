"""One account as the desk remembers it, and the fold that makes it from its events.

``evolve`` changes the state in place and never fails on a recorded event; deciding reads the state and changes nothing.
Everything remembered is bounded except what must be unique for ever (deposit references).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from skeet.core import accounts
from skeet.core.accounts import AccountEvent, LedgerAccount
from skeet.core.commands import MAX_VALIDITY_NS, REMEMBER_IDS_NS
from skeet.core.ledger import ZERO, Balance, moved, post
from skeet.core.orders import TERMINAL
from skeet.core.record import Meta
from skeet.core.values import OrderStatus, Side

CLOSED_ORDERS_KEPT = 1_000
"""Ended orders that are still remembered, newest last, so that a late fill finds its book and a repeated one its trade id."""


@dataclass(slots=True, kw_only=True)
class OrderEnd:
    """The venue ended the order after ``filled_quantity``; the order waits until those fills are booked."""

    outcome: OrderStatus
    filled_quantity: Decimal
    reason: str


@dataclass(slots=True, kw_only=True)
class OrderState:
    """One order. ``reserved`` of ``reserved_asset`` is what it still holds of ``reserved_at_first``."""

    order_id: str
    book_id: str
    instrument_id: str
    side: Side
    quantity: Decimal
    status: OrderStatus
    reserved_asset: str
    reserved_at_first: Decimal
    reserved: Decimal
    filled_quantity: Decimal = ZERO
    venue_order_id: str = ""
    end: OrderEnd | None = None
    trade_ids: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class AccountState:
    """An account after its event number ``version``.

    ``now_ns`` is the highest time of its events, ``moved_ns`` that of the last one that moved money or ended an order.
    ``command_ids`` maps each remembered command to when it may be forgotten. The pseudo-account of a partition
    (``~0``) uses only ``version``, ``control_offset``, ``marked_events`` (how many events of the partition its last mark
    covers) and ``rules`` (the text of its last RulesApplied).
    """

    account_id: str
    version: int = 0
    opened: bool = False
    tenant_id: str = ""
    venue: str = ""
    halted: str = ""
    now_ns: int = 0
    moved_ns: int = 0
    control_offset: int = -1
    marked_events: int = 0
    rules: str = ""
    balances: dict[str, Balance] = field(default_factory=dict)
    orders: dict[str, OrderState] = field(default_factory=dict)
    closed: dict[str, OrderState] = field(default_factory=dict)
    command_ids: dict[str, int] = field(default_factory=dict)
    external_refs: dict[str, str] = field(default_factory=dict)
    differences: dict[str, str] = field(default_factory=dict)

    def order(self, order_id: str) -> OrderState | None:
        """The order, open or lately ended."""
        return self.orders.get(order_id) or self.closed.get(order_id)

    def balance(self, asset: str) -> Balance:
        """What the account owns of the asset; nothing where it never had any."""
        return self.balances.get(asset) or Balance()

    def free(self) -> dict[str, Decimal]:
        """Free balance by asset."""
        return {asset: balance.free for asset, balance in self.balances.items()}


def deposit_text(asset: str, amount: Decimal) -> str:
    """What a deposit's reference is remembered with."""
    return f"{amount.normalize():f} {asset}"


def difference_text(ledger_total: Decimal, venue_total: Decimal) -> str:
    """What a shown difference of balances is remembered as, so that it is shown once."""
    return f"{ledger_total.normalize():f} {venue_total.normalize():f}"


def rules_text(rules: accounts.RulesApplied) -> str:
    """What applied rules are remembered as, so that they are said once."""
    limits = f"{rules.max_quantity.normalize():f} {rules.max_notional.normalize():f}"
    return f"{limits} {rules.reference_max_age_ns} {rules.collar_bps} {rules.code_version}"


def evolve(state: AccountState, event: AccountEvent, meta: Meta) -> AccountState:
    """The state after the event: the same object, changed in place. Never fails on a recorded event."""
    state.version = meta.stream_version
    state.now_ns = max(state.now_ns, meta.ts_event)
    apply = APPLY.get(type(event))
    if apply is not None:
        apply(state, event, meta)
    postings = getattr(event, "postings", ())
    if postings:
        post(state.balances, postings)
        state.moved_ns = state.now_ns
    _forget_commands(state)
    return state


def _remember_command(state: AccountState, command_id: str) -> None:
    # An upper bound of valid_until: a cause is never later than the decision, and validity is limited.
    state.command_ids.setdefault(command_id, state.now_ns + MAX_VALIDITY_NS + REMEMBER_IDS_NS)


def _forget_commands(state: AccountState) -> None:
    while state.command_ids:
        oldest = next(iter(state.command_ids))
        if state.command_ids[oldest] >= state.now_ns:
            return
        del state.command_ids[oldest]


def _opened(state: AccountState, event: accounts.AccountOpened, meta: Meta) -> None:
    state.opened, state.tenant_id, state.venue = True, meta.tenant_id, event.venue
    _remember_command(state, meta.causation_id)


def _deposited(state: AccountState, event: accounts.FundsDeposited, meta: Meta) -> None:
    state.external_refs[event.external_ref] = deposit_text(event.asset, event.amount)
    _remember_command(state, meta.causation_id)


def _denied(state: AccountState, event: accounts.CommandDenied, _: Meta) -> None:
    _remember_command(state, event.command_id)


def _order_denied(state: AccountState, event: accounts.OrderDenied, _: Meta) -> None:
    _remember_command(state, event.order_id)


def _authorized(state: AccountState, event: accounts.OrderAuthorized, _: Meta) -> None:
    state.orders[event.order_id] = OrderState(
        order_id=event.order_id,
        book_id=event.book_id,
        instrument_id=event.instrument_id,
        side=event.side,
        quantity=event.quantity,
        status=event.status,
        reserved_asset=event.reserved_asset,
        reserved_at_first=event.reserved_amount,
        reserved=event.reserved_amount,
    )
    _remember_command(state, event.order_id)


def _order_moved(state: AccountState, event: accounts.OrderEvent, _: Meta) -> None:
    order = state.order(event.order_id)
    if order is None:  # a fact about an order ended long ago: its postings count, the order is forgotten
        return
    order.status = event.status
    order.reserved += moved(getattr(event, "postings", ()), LedgerAccount.RESERVED)
    order.venue_order_id = getattr(event, "venue_order_id", "") or order.venue_order_id
    _file(state, order)


def _filled(state: AccountState, event: accounts.OrderFilled, meta: Meta) -> None:
    order = state.order(event.order_id)
    if order is not None:
        order.filled_quantity = event.filled_quantity
        order.trade_ids.append(event.trade_id)
    _order_moved(state, event, meta)


def _end_awaits_fills(state: AccountState, event: accounts.OrderEndAwaitsFills, _: Meta) -> None:
    order = state.order(event.order_id)
    if order is not None:
        order.end = OrderEnd(outcome=event.outcome, filled_quantity=event.filled_quantity, reason=event.reason)


def _cancel_authorized(state: AccountState, event: accounts.CancelAuthorized, meta: Meta) -> None:
    if event.cancel_id == meta.causation_id:  # of a CancelOrder; a kill switch's or CancelAll's ids are derived
        _remember_command(state, event.cancel_id)
    else:
        _remember_command(state, meta.causation_id)


def _file(state: AccountState, order: OrderState) -> None:
    """Move the order between open and closed by its status, and forget the oldest closed ones."""
    if order.status not in TERMINAL:
        state.closed.pop(order.order_id, None)
        state.orders[order.order_id] = order
        return
    if state.orders.pop(order.order_id, None) is not None:
        state.moved_ns = state.now_ns
    state.closed[order.order_id] = order
    while len(state.closed) > CLOSED_ORDERS_KEPT:
        del state.closed[next(iter(state.closed))]


def _balance_differed(state: AccountState, event: accounts.BalanceDiffered, _: Meta) -> None:
    state.differences[event.asset] = difference_text(event.ledger_total, event.venue_total)


def _control_applied(state: AccountState, event: accounts.ControlApplied, _: Meta) -> None:
    state.control_offset = event.control_offset


def _rules_applied(state: AccountState, event: accounts.RulesApplied, _: Meta) -> None:
    state.rules = rules_text(event)


def _marked(state: AccountState, event: accounts.StateMarked, _: Meta) -> None:
    state.marked_events = event.marked_events


def _halted(state: AccountState, event: accounts.AccountHalted, _: Meta) -> None:
    state.halted = event.reason


APPLY: dict[type[AccountEvent], Callable[[AccountState, Any, Meta], None]] = {
    accounts.AccountOpened: _opened,
    accounts.FundsDeposited: _deposited,
    accounts.CommandDenied: _denied,
    accounts.OrderDenied: _order_denied,
    accounts.OrderAuthorized: _authorized,
    accounts.OrderSubmitted: _order_moved,
    accounts.OrderAccepted: _order_moved,
    accounts.OrderRejected: _order_moved,
    accounts.OrderOutcomeUnknown: _order_moved,
    accounts.OrderAbsent: _order_moved,
    accounts.OrderFilled: _filled,
    accounts.OrderCanceled: _order_moved,
    accounts.OrderExpired: _order_moved,
    accounts.OrderEndAwaitsFills: _end_awaits_fills,
    accounts.CancelAuthorized: _cancel_authorized,
    accounts.BalanceDiffered: _balance_differed,
    accounts.ControlApplied: _control_applied,
    accounts.RulesApplied: _rules_applied,
    accounts.StateMarked: _marked,
    accounts.AccountHalted: _halted,
}
"""What each event changes beside version, time and postings; an event that is not here changes only those."""
