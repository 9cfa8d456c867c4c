"""The row of an order through its life. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from skeet.core.accounts import (
    CancelAuthorized,
    OrderAbsent,
    OrderAccepted,
    OrderAuthorized,
    OrderDenied,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderOutcomeUnknown,
    OrderRejected,
    OrderSubmitted,
)
from skeet.core.orders import TERMINAL
from skeet.core.record import Meta
from skeet.core.values import divide

Row = dict[str, Any]
ZERO = Decimal(0)

UNKNOWN_AT_FIRST = (
    *("side", "order_type", "time_in_force", "post_only", "quantity", "limit_price", "average_price", "venue_order_id"),
    *("reason", "reserved_asset", "reserved_amount", "reference_bid", "reference_ask", "code_version", "rule"),
    *("cancel_id", "decided_at", "submitted_at", "accepted_at", "first_fill_at", "last_fill_at", "closed_at"),
)


def new_order(event: OrderEvent, meta: Meta) -> Row:
    """The row before its first event is applied."""
    return {
        "order_id": event.order_id,
        "account_id": meta.account_id,
        "tenant_id": meta.tenant_id,
        "principal_id": meta.principal_id,
        "book_id": event.book_id,
        "instrument_id": event.instrument_id,
        **dict.fromkeys(UNKNOWN_AT_FIRST),
        "filled_quantity": ZERO,
        "leaves_quantity": ZERO,
        "filled_notional": ZERO,
        "fill_count": 0,
        "correlation_id": meta.correlation_id,
        "cause_at": meta.cause_at,
        "ts_init": meta.ts_init,
        "first_version": meta.stream_version,
    }


def after_event(row: Row, event: OrderEvent, meta: Meta) -> Row:
    """The row after one event of the order; called inside exact arithmetic."""
    row = row | {"status": event.status, "last_version": meta.stream_version} | _told_by(row, event, meta)
    if event.status in TERMINAL:
        return row | {"leaves_quantity": ZERO, "closed_at": row["closed_at"] or meta.ts_event}
    return row | {"closed_at": None}


def _told_by(row: Row, event: OrderEvent, meta: Meta) -> Row:
    """The columns that this kind of event sets."""
    match event:
        case OrderAuthorized():
            names = ("side", "order_type", "time_in_force", "post_only", "quantity", "limit_price", "reserved_asset")
            more = ("reserved_amount", "reference_bid", "reference_ask", "code_version", "rule")
            decided = {"decided_at": meta.ts_event, "leaves_quantity": event.quantity}
            return {name: getattr(event, name) for name in (*names, *more)} | decided
        case OrderDenied():
            told = ("side", "order_type", "quantity", "limit_price", "reference_bid", "reference_ask")
            reason = "; ".join(f"{breach.control}: {breach.detail}" for breach in event.breaches)
            decided = {"decided_at": meta.ts_event, "reason": reason}
            return {name: getattr(event, name) for name in (*told, "code_version", "rule")} | decided
        case OrderSubmitted():
            return {"submitted_at": event.sent_ts}
        case OrderAccepted():
            return {"venue_order_id": event.venue_order_id, "accepted_at": meta.ts_event}
        case OrderFilled():
            return _filled(row, event, meta)
        case CancelAuthorized():
            return {"cancel_id": event.cancel_id}
        case OrderAbsent():
            return {"reason": event.evidence}
        case OrderRejected():
            return {"reason": f"{event.code}: {event.reason}" if event.code else event.reason}
        case OrderExpired() | OrderOutcomeUnknown():
            return {"reason": event.reason}
        case _:
            return {}


def _filled(row: Row, event: OrderFilled, meta: Meta) -> Row:
    notional = row["filled_notional"] + event.price * event.quantity
    filled = event.filled_quantity
    return {
        "venue_order_id": event.venue_order_id or row["venue_order_id"],
        "filled_quantity": filled,
        "leaves_quantity": event.leaves_quantity,
        "filled_notional": notional,
        "average_price": divide(notional, filled) if filled else None,
        "fill_count": row["fill_count"] + 1,
        "first_fill_at": row["first_fill_at"] or meta.ts_event,
        "last_fill_at": meta.ts_event,
    }
