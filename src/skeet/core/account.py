"""The account as an aggregate: ``decide`` what a command or a report means, before anything is changed.

A refusal is an event with all its reasons. Every input yields at least one event, which names the input's position, or
changes nothing. Reports are in :mod:`skeet.core.account_reports`, the fold in :mod:`skeet.core.account_state`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from skeet.core.account_reports import DECIDE_REPORT
from skeet.core.account_state import AccountState, OrderState, deposit_text
from skeet.core.accounts import (
    AccountEvent,
    AccountOpened,
    Breach,
    CancelAuthorized,
    CommandDenied,
    DuplicateIgnored,
    FundsDeposited,
    OrderAuthorized,
    OrderDenied,
)
from skeet.core.admission import MAX_BALANCE, flaws, recordable_amount, recordable_text
from skeet.core.commands import CancelAllOrders, CancelOrder, Command, Deposit, OpenAccount, SubmitOrder
from skeet.core.control import KillSwitchSet
from skeet.core.controls import scopes_of
from skeet.core.errors import InvalidInput
from skeet.core.ids import account_event_id, derive_id
from skeet.core.ledger import ZERO, deposit, reservation, reserve
from skeet.core.orders import Trigger, next_status
from skeet.core.record import Event, Meta, Record
from skeet.core.risk import (
    Context,
    Standing,
    check,
    check_account,
    check_epoch,
    check_validity,
    limit_price_of,
    limits_of,
)
from skeet.core.values import AccountId, OrderStatus, OrderType, TenantId, TimeInForce

Decision = tuple[AccountEvent, ...]


def decide(state: AccountState, record: Record[Event], context: Context) -> Decision:
    """The events that the input causes, in order. Pure: the state is only read.

    Raises
    ------
    InvalidInput
        the record is no input of an account, or contradicts what it claims to be about.
    """
    event, meta = record.event, record.meta
    if meta is None:
        raise InvalidInput(f"{type(event).__name__} has no envelope; account inputs carry one")
    if isinstance(event, Command):
        # An order outlives the memory of its command's id: while it is known, its command stays a duplicate.
        if meta.event_id in state.command_ids or state.order(meta.event_id) is not None:
            return (DuplicateIgnored(duplicate_of=meta.event_id, input=type(event).__name__),)
        return DECIDE_COMMAND[type(event)](state, event, meta, context)
    handler = DECIDE_REPORT.get(type(event))
    if handler is None:
        raise InvalidInput(f"{type(event).__name__} is neither a command nor a report")
    return handler(state, event, meta)


def decide_kill(state: AccountState, kill: KillSwitchSet, kill_id: str) -> Decision:
    """The cancels that a kill switch authorises for this account: every open order when it says so, else none."""
    if not (kill.active and kill.cancel_open and kill.scope in scopes_of(state.tenant_id, state.account_id)):
        return ()
    return tuple(_cancel(order, derive_id("kill-cancel", kill_id, order.order_id)) for order in state.orders.values())


def stamp(state: AccountState, record: Record[Event], now_ns: int, events: Iterable[AccountEvent]) -> list[Meta]:
    """The envelopes of the events that the record caused, numbered on from the state's version."""
    cause = record.meta
    if cause is None:
        raise InvalidInput(f"{record.at} has no envelope; account inputs carry one")
    account = AccountId(state.account_id)
    return [
        Meta(
            event_id=account_event_id(account, version),
            tenant_id=TenantId(state.tenant_id) if state.opened else cause.tenant_id,
            account_id=account,
            principal_id=cause.principal_id,
            correlation_id=cause.correlation_id,
            causation_id=cause.event_id,
            cause_at=str(record.at),
            ts_event=now_ns,
            ts_init=cause.ts_init,
            stream_version=version,
        )
        for version, _ in enumerate(events, start=state.version + 1)
    ]


def _open_account(state: AccountState, command: OpenAccount, meta: Meta, context: Context) -> Decision:
    breaches = list(check_validity(command, context.now_ns))
    if state.opened:
        breaches.append(_breach("account", "the account is already open", state.account_id, "a new account id"))
    breaches += _flaws(command)
    if not command.venue:
        breaches.append(_breach("format", "an account needs a venue", "", "a venue's name"))
    return _denied(command, meta, breaches) or (AccountOpened(venue=command.venue, label=command.label),)


def _deposit(state: AccountState, command: Deposit, meta: Meta, context: Context) -> Decision:
    sound = _flaws(command)
    known = state.external_refs.get(command.external_ref)
    if not sound and known == deposit_text(command.asset, command.amount) and state.tenant_id == meta.tenant_id:
        return (DuplicateIgnored(duplicate_of=command.external_ref, input=type(command).__name__),)
    breaches = [*check_account(standing(state, meta)), *check_validity(command, context.now_ns), *sound]
    if known is not None:
        detail = "the reference was already used for another deposit"
        breaches.append(_breach("external_ref", detail, command.external_ref, known))
    if not command.external_ref:
        breaches.append(_breach("external_ref", "a deposit needs its venue's transfer id", "", "a unique reference"))
    if not (command.amount.is_finite() and command.amount > ZERO and command.asset):
        observed = f"{command.amount} {command.asset}"
        breaches.append(_breach("format", "a deposit needs an asset and a positive amount", observed, "> 0"))
    if not breaches and state.balance(command.asset).total + command.amount > MAX_BALANCE:
        detail = "the balance would be larger than any may be"
        breaches.append(_breach("balance", detail, str(command.amount), f"{MAX_BALANCE} {command.asset} in all"))
    return _denied(command, meta, breaches) or (
        FundsDeposited(
            asset=command.asset,
            amount=command.amount,
            external_ref=command.external_ref,
            postings=deposit(command.asset, command.amount),
        ),
    )


def _submit(state: AccountState, order: SubmitOrder, meta: Meta, context: Context) -> Decision:
    breaches = check(order, standing(state, meta), context)
    if breaches:
        return (_order_denied(state, order, meta, context, breaches),)
    return (_order_authorized(state, order, meta, context),)


def _order_denied(
    state: AccountState, order: SubmitOrder, meta: Meta, context: Context, breaches: tuple[Breach, ...]
) -> OrderDenied:
    seen = context.reference
    return OrderDenied(
        order_id=meta.event_id,
        book_id=recordable_text(order.book_id),
        instrument_id=recordable_text(order.instrument_id),
        status=OrderStatus.DENIED,
        side=order.side,
        order_type=order.order_type,
        quantity=recordable_amount(order.quantity),
        limit_price=None if order.limit_price is None else recordable_amount(order.limit_price),
        code_version=recordable_text(order.code_version),
        rule=recordable_text(order.rule),
        breaches=breaches,
        reference_bid=seen.reference.bid if seen else None,
        reference_ask=seen.reference.ask if seen else None,
        reference_ts=seen.reference.ts_event if seen else 0,
        reference_at=seen.at if seen else "",
        instrument_version=context.instrument.version if context.instrument else 0,
        limits_version=limits_of(standing(state, meta), context).version,
    )


def _order_authorized(state: AccountState, order: SubmitOrder, meta: Meta, context: Context) -> OrderAuthorized:
    price, instrument, seen = limit_price_of(order, context), context.instrument, context.reference
    if price is None or instrument is None or seen is None:
        raise InvalidInput(f"order {meta.event_id} passed risk without price, instrument or reference")
    asset, amount = reservation(order.instrument_id, order.side, order.quantity, price, instrument.taker_fee)
    return OrderAuthorized(
        order_id=meta.event_id,
        book_id=order.book_id,
        instrument_id=order.instrument_id,
        status=OrderStatus.AUTHORIZED,
        side=order.side,
        order_type=order.order_type,
        time_in_force=TimeInForce.IOC if order.order_type is OrderType.MARKET else order.time_in_force,
        post_only=order.post_only,
        quantity=order.quantity,
        limit_price=price,
        ts_cause=order.ts_cause,
        valid_until=order.valid_until,
        code_version=order.code_version,
        rule=order.rule,
        reserved_asset=asset,
        reserved_amount=amount,
        reference_bid=seen.reference.bid,
        reference_ask=seen.reference.ask,
        reference_ts=seen.reference.ts_event,
        reference_at=seen.at,
        instrument_version=instrument.version,
        limits_version=limits_of(standing(state, meta), context).version,
        postings=reserve(asset, amount, order.book_id),
    )


def _cancel_order(state: AccountState, command: CancelOrder, meta: Meta, context: Context) -> Decision:
    breaches = _cancel_breaches(state, command, meta, context) + list(check_epoch(command, context.control))
    order = state.order(command.order_id)
    if order is None:
        breaches.append(_breach("order", "no such order", command.order_id, "an open order"))
    elif next_status(order.status, Trigger.CANCEL) is None:
        breaches.append(_breach("order", "the order has ended", order.status, "an open order"))
    if breaches or order is None:
        return _denied(command, meta, breaches)
    return (_cancel(order, meta.event_id),)


def _cancel_all(state: AccountState, command: CancelAllOrders, meta: Meta, context: Context) -> Decision:
    breaches = _cancel_breaches(state, command, meta, context)
    orders = [order for order in state.orders.values() if command.book_id in ("", order.book_id)]
    if not orders:
        breaches.append(_breach("order", "nothing is open", command.book_id or "any book", "an open order"))
    return _denied(command, meta, breaches) or tuple(
        _cancel(order, derive_id("cancel-all", meta.event_id, order.order_id)) for order in orders
    )


def _cancel_breaches(state: AccountState, command: Command, meta: Meta, context: Context) -> list[Breach]:
    """A halted account may still cancel: that only lowers its risk."""
    account = [breach for breach in check_account(standing(state, meta)) if breach.observed != "halted"]
    return [*account, *check_validity(command, context.now_ns), *_flaws(command)]


def _cancel(order: OrderState, cancel_id: str) -> CancelAuthorized:
    return CancelAuthorized(
        order_id=order.order_id,
        book_id=order.book_id,
        instrument_id=order.instrument_id,
        status=order.status,
        cancel_id=cancel_id,
    )


def standing(state: AccountState, meta: Meta) -> Standing:
    """The account as risk sees it, for a command under this envelope."""
    return Standing(
        account_id=state.account_id,
        tenant_id=state.tenant_id,
        asking_tenant_id=meta.tenant_id,
        opened=state.opened,
        halted=state.halted,
        venue=state.venue,
        free=state.free(),
        unresolved=frozenset(
            (order.book_id, order.instrument_id)
            for order in state.orders.values()
            if order.status is OrderStatus.OUTCOME_UNKNOWN
        ),
    )


def _denied(command: Command, meta: Meta, breaches: list[Breach]) -> Decision:
    if not breaches:
        return ()
    return (CommandDenied(command_id=meta.event_id, command=type(command).__name__, breaches=tuple(breaches)),)


def _flaws(command: Command) -> list[Breach]:
    """What keeps the command's fields from being recorded as they are."""
    return [
        _breach("format", "a field cannot be recorded", flaw, "see the command's schema") for flaw in flaws(command)
    ]


def _breach(control: str, detail: str, observed: str, allowed: str) -> Breach:
    """A reason of a denial. What was observed is the caller's, so it is cut to what can be recorded."""
    return Breach(control=control, detail=detail, observed=recordable_text(observed), allowed=allowed)


DECIDE_COMMAND: dict[type[Command], Callable[[AccountState, Any, Meta, Context], Decision]] = {
    OpenAccount: _open_account,
    Deposit: _deposit,
    SubmitOrder: _submit,
    CancelOrder: _cancel_order,
    CancelAllOrders: _cancel_all,
}
