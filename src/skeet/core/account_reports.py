"""What the venue's reports mean for an account.

The order of arrival is not trusted: fills come before acknowledgements and after cancels, cancels count fills that have not
arrived yet, everything comes twice. A fill is a fact whatever the order's status, once per trade id and order.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from skeet.core import reports
from skeet.core.account_state import AccountState, OrderEnd, OrderState, difference_text
from skeet.core.accounts import (
    AccountEvent,
    AccountHalted,
    BalanceDiffered,
    CancelRejected,
    DuplicateIgnored,
    ExternalOrderFound,
    OrderAbsent,
    OrderAccepted,
    OrderCanceled,
    OrderEndAwaitsFills,
    OrderExpired,
    OrderFilled,
    OrderOutcomeUnknown,
    OrderRejected,
    OrderSubmitted,
    Posting,
    ReportIgnored,
)
from skeet.core.admission import MAX_AMOUNT
from skeet.core.errors import InvalidInput
from skeet.core.ledger import ZERO, Balance, Execution, assets_of, release, settle, share_of
from skeet.core.orders import CONTRADICTIONS, Trigger, fill_trigger, next_status
from skeet.core.record import Meta
from skeet.core.values import OrderStatus

Decision = tuple[AccountEvent, ...]
UNKNOWN_ORDER = "the order is not known (any more)"


def _attempted(state: AccountState, report: reports.SubmitAttempted, _: Meta) -> Decision:
    return _moved(
        state,
        report,
        Trigger.ATTEMPT,
        lambda order, status: OrderSubmitted(
            **_order_fields(order, status), sent_ts=report.sent_ts, send_until=report.send_until
        ),
    )


def _acknowledged(state: AccountState, report: reports.SubmitAcknowledged, _: Meta) -> Decision:
    return _moved(
        state,
        report,
        Trigger.ACK,
        lambda order, status: OrderAccepted(**_order_fields(order, status), venue_order_id=report.venue_order_id),
    )


def _rejected(state: AccountState, report: reports.SubmitRejected, _: Meta) -> Decision:
    return _moved(
        state,
        report,
        Trigger.REJECT,
        lambda order, status: OrderRejected(
            **_order_fields(order, status), code=report.code, reason=report.reason, postings=_rest(order)
        ),
    )


def _not_sent(state: AccountState, report: reports.SubmitNotSent, _: Meta) -> Decision:
    return _moved(
        state,
        report,
        Trigger.NOT_SENT,
        lambda order, status: OrderRejected(
            **_order_fields(order, status), code="NOT_SENT", reason=report.reason, postings=_rest(order)
        ),
    )


def _outcome_unknown(state: AccountState, report: reports.SubmitOutcomeUnknown, _: Meta) -> Decision:
    return _moved(
        state,
        report,
        Trigger.UNKNOWN,
        lambda order, status: OrderOutcomeUnknown(**_order_fields(order, status), reason=report.reason),
    )


def _found_absent(state: AccountState, report: reports.OrderFoundAbsent, _: Meta) -> Decision:
    return _moved(
        state,
        report,
        Trigger.ABSENT,
        lambda order, status: OrderAbsent(
            **_order_fields(order, status), evidence=report.evidence, postings=_rest(order)
        ),
    )


def _cancel_refused(state: AccountState, report: reports.CancelRejectedByVenue, _: Meta) -> Decision:
    return _moved(
        state,
        report,
        Trigger.CANCEL_REJECTED,
        lambda order, status: CancelRejected(
            **_order_fields(order, status), cancel_id=report.cancel_id, reason=f"{report.code} {report.reason}".strip()
        ),
    )


def _canceled(state: AccountState, report: reports.CancelReported, _: Meta) -> Decision:
    end = OrderEnd(outcome=OrderStatus.CANCELED, filled_quantity=report.filled_quantity, reason="")
    return _ended(state, report, Trigger.CANCELED, end)


def _expired(state: AccountState, report: reports.ExpiryReported, _: Meta) -> Decision:
    end = OrderEnd(outcome=OrderStatus.EXPIRED, filled_quantity=report.filled_quantity, reason=report.reason)
    return _ended(state, report, Trigger.EXPIRED, end)


def _ended(state: AccountState, report: reports.OrderReport, trigger: Trigger, end: OrderEnd) -> Decision:
    """An end counts its fills: while some of them are not booked, the order and its reservation stay."""

    def event(order: OrderState, _: OrderStatus) -> AccountEvent:
        if end.filled_quantity > order.filled_quantity:
            return OrderEndAwaitsFills(
                **_order_fields(order, order.status),
                outcome=end.outcome,
                filled_quantity=end.filled_quantity,
                reason=end.reason,
            )
        return _end_event(order, end, order.filled_quantity, _rest(order))

    order = state.orders.get(report.order_id)
    if order is not None and order.end == end:
        return _ignored(report, "this end was already reported, and awaits its fills")
    return _moved(state, report, trigger, event)


def _end_event(order: OrderState, end: OrderEnd, filled: Decimal, postings: tuple[Posting, ...]) -> AccountEvent:
    fields = _order_fields(order, end.outcome)
    if end.outcome is OrderStatus.CANCELED:
        return OrderCanceled(**fields, filled_quantity=filled, postings=postings)
    return OrderExpired(**fields, filled_quantity=filled, reason=end.reason, postings=postings)


def _filled(state: AccountState, report: reports.FillReported, _: Meta) -> Decision:
    order = state.order(report.order_id)
    if order is None:
        return _ignored(report, UNKNOWN_ORDER)
    if report.trade_id in order.trade_ids:
        return (DuplicateIgnored(duplicate_of=report.trade_id, input=type(report).__name__),)
    if (report.instrument_id, report.side) != (order.instrument_id, order.side):
        ours = f"{order.side} {order.instrument_id}"
        raise InvalidInput(f"fill {report.trade_id} is {report.side} {report.instrument_id}, its order is {ours}")
    if not (report.quantity > ZERO and report.price > ZERO):
        raise InvalidInput(
            f"fill {report.trade_id} has quantity {report.quantity} at price {report.price}; expected > 0"
        )
    if report.quantity * report.price > MAX_AMOUNT or abs(report.fee) > MAX_AMOUNT:
        raise InvalidInput(f"fill {report.trade_id} moves more than 10^18: {report.quantity} at {report.price}")
    filled = order.filled_quantity + report.quantity
    status = next_status(order.status, fill_trigger(order.quantity, filled))
    if status is None:
        return _ignored(report, f"the order is {order.status}")
    return _book_fill(state, order, report, filled, status)


def _book_fill(
    state: AccountState, order: OrderState, report: reports.FillReported, filled: Decimal, status: OrderStatus
) -> Decision:
    leaves = max(ZERO, order.quantity - filled)
    open_after = status is OrderStatus.PARTIALLY_FILLED
    kept = min(order.reserved, share_of(order.reserved_at_first, leaves, order.quantity)) if open_after else ZERO
    fill = _fill_event(state, order, report, filled, status, order.reserved - kept)
    events: list[AccountEvent] = [fill]
    end = order.end
    if open_after and end is not None and filled >= end.filled_quantity:
        events.append(_end_event(order, end, filled, release(order.reserved_asset, kept, order.book_id)))
    if filled > order.quantity:
        events.append(AccountHalted(reason=f"order {order.order_id} executed {filled} of {order.quantity} commanded"))
    return (*events, *_contradiction(order, status))


def _fill_event(
    state: AccountState,
    order: OrderState,
    report: reports.FillReported,
    filled: Decimal,
    status: OrderStatus,
    released: Decimal,
) -> OrderFilled:
    base, quote = assets_of(order.instrument_id)
    execution = Execution(
        base=base,
        quote=quote,
        side=order.side,
        quantity=report.quantity,
        price=report.price,
        fee=report.fee,
        fee_asset=report.fee_asset or quote,
        reserved_asset=order.reserved_asset,
        released=released,
    )
    return OrderFilled(
        **_order_fields(order, status),
        side=order.side,
        venue_order_id=report.venue_order_id,
        trade_id=report.trade_id,
        quantity=report.quantity,
        price=report.price,
        fee=report.fee,
        fee_asset=execution.fee_asset,
        liquidity=report.liquidity,
        filled_quantity=filled,
        leaves_quantity=max(ZERO, order.quantity - filled),
        postings=settle(execution, state.free(), order.book_id),
    )


def _balance(state: AccountState, report: reports.BalanceReported, meta: Meta) -> Decision:
    """Compared at quiescence only: with an order open, or money moved since, a difference means nothing yet."""
    if state.orders or meta.ts_event <= state.moved_ns:
        return ()
    ours, theirs = state.balances.get(report.asset, Balance()).total, report.free + report.locked
    if ours == theirs or state.differences.get(report.asset) == difference_text(ours, theirs):
        return ()
    return (BalanceDiffered(asset=report.asset, ledger_total=ours, venue_total=theirs),)


def _external(_: AccountState, report: reports.ExternalOrderSeen, __: Meta) -> Decision:
    return (
        ExternalOrderFound(
            instrument_id=report.instrument_id, venue_order_id=report.venue_order_id, reason=report.reason
        ),
    )


def _cancel_attempted(_: AccountState, __: reports.CancelAttempted, ___: Meta) -> Decision:
    """The gateway's own note; nothing about the order is known by it."""
    return ()


def _moved(
    state: AccountState,
    report: reports.OrderReport,
    trigger: Trigger,
    event: Callable[[OrderState, OrderStatus], AccountEvent],
) -> Decision:
    order = state.order(report.order_id)
    if order is None:
        return _ignored(report, UNKNOWN_ORDER)
    status = next_status(order.status, trigger)
    if status is None:
        return _ignored(report, f"the order is {order.status}")
    return (event(order, status), *_contradiction(order, status))


def _contradiction(order: OrderState, status: OrderStatus) -> Decision:
    if order.status in CONTRADICTIONS and status is not order.status:
        return (AccountHalted(reason=f"order {order.order_id} was {order.status} and lives at the venue"),)
    return ()


def _ignored(report: reports.OrderReport, reason: str) -> Decision:
    return (ReportIgnored(order_id=report.order_id, report=type(report).__name__, reason=reason),)


def _rest(order: OrderState) -> tuple[Posting, ...]:
    return release(order.reserved_asset, order.reserved, order.book_id)


def _order_fields(order: OrderState, status: OrderStatus) -> dict[str, Any]:
    return {
        "order_id": order.order_id,
        "book_id": order.book_id,
        "instrument_id": order.instrument_id,
        "status": status,
    }


DECIDE_REPORT: dict[type[Any], Callable[[AccountState, Any, Meta], Decision]] = {
    reports.SubmitAttempted: _attempted,
    reports.SubmitAcknowledged: _acknowledged,
    reports.SubmitRejected: _rejected,
    reports.SubmitNotSent: _not_sent,
    reports.SubmitOutcomeUnknown: _outcome_unknown,
    reports.OrderFoundAbsent: _found_absent,
    reports.FillReported: _filled,
    reports.CancelAttempted: _cancel_attempted,
    reports.CancelReported: _canceled,
    reports.ExpiryReported: _expired,
    reports.CancelRejectedByVenue: _cancel_refused,
    reports.BalanceReported: _balance,
    reports.ExternalOrderSeen: _external,
}
