"""An authorised limit order as the desk writes it: buy at 100."""

from __future__ import annotations

from decimal import Decimal

from skeet.core.accounts import OrderAuthorized
from skeet.core.record import Meta, Record, TopicPosition
from skeet.core.values import (
    AccountId,
    EventId,
    OrderStatus,
    OrderType,
    PrincipalId,
    Side,
    TenantId,
    TimeInForce,
)

INSTRUMENT = "SIM:BTC/USDT"
ORDER_ID = "a" * 32


def authorised(quantity: str = "2") -> Record[OrderAuthorized]:
    event = OrderAuthorized(
        order_id=ORDER_ID,
        book_id="manual",
        instrument_id=INSTRUMENT,
        status=OrderStatus.AUTHORIZED,
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTC,
        post_only=False,
        quantity=Decimal(quantity),
        limit_price=Decimal(100),
        ts_cause=1,
        valid_until=10**12,
        code_version="",
        rule="",
        reserved_asset="USDT",
        reserved_amount=Decimal(200),
        reference_bid=Decimal(99),
        reference_ask=Decimal(100),
        reference_ts=1,
        reference_at="",
        instrument_version=1,
        limits_version=0,
        postings=(),
    )
    meta = Meta(
        event_id=EventId("e" * 32),
        tenant_id=TenantId("main"),
        account_id=AccountId("alpha"),
        principal_id=PrincipalId("p"),
        correlation_id=EventId("c" * 32),
        causation_id=EventId("b" * 32),
        cause_at="orders.commands.v1/0/1",
        ts_event=5,
        ts_init=4,
        stream_version=9,
    )
    return Record(event=event, meta=meta, at=TopicPosition("accounts.events.v1", 0, 7), log_ns=6)
