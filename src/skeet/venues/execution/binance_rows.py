"""Binance's rows and user-stream events as the port's values. Pure; every amount goes from string to ``Decimal``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from skeet.core.values import NS_PER_MS, LiquiditySide, Side
from skeet.streams.ports import OrderKey, VenueBalance, VenueOrder, VenueOrderStatus, VenueReport, VenueTrade

InstrumentOf = Callable[[str], str]
"""The instrument id of a venue symbol (``BTCUSDT``)."""

STATUS: dict[str, VenueOrderStatus] = {
    "NEW": VenueOrderStatus.OPEN,
    "PENDING_NEW": VenueOrderStatus.OPEN,
    "PARTIALLY_FILLED": VenueOrderStatus.OPEN,
    "PENDING_CANCEL": VenueOrderStatus.OPEN,
    "FILLED": VenueOrderStatus.FILLED,
    "CANCELED": VenueOrderStatus.CANCELED,
    "REJECTED": VenueOrderStatus.REJECTED,
    "EXPIRED": VenueOrderStatus.EXPIRED,
    "EXPIRED_IN_MATCH": VenueOrderStatus.EXPIRED,
}
"""Binance's order status; one that is not listed raises, it is never taken for an end."""


def order_of(row: Mapping[str, Any], instrument_of: InstrumentOf) -> VenueOrder:
    """An order as REST prints it (``GET order``, ``openOrders``; answers to ``POST`` and ``DELETE order``)."""
    return VenueOrder(
        key=OrderKey(
            instrument_id=instrument_of(row["symbol"]),
            client_order_id=str(row.get("origClientOrderId") or row["clientOrderId"]),
            venue_order_id=str(row["orderId"]),
        ),
        status=STATUS[row["status"]],
        filled_quantity=Decimal(row["executedQty"]),
        ts_event=int(row.get("updateTime") or row.get("transactTime") or 0) * NS_PER_MS,
    )


def trade_of(row: Mapping[str, Any], instrument_of: InstrumentOf) -> VenueTrade:
    """An execution as ``GET myTrades`` prints it; it names the venue's order id only."""
    return VenueTrade(
        key=OrderKey(
            instrument_id=instrument_of(row["symbol"]), client_order_id="", venue_order_id=str(row["orderId"])
        ),
        trade_id=str(row["id"]),
        side=Side.BUY if row["isBuyer"] else Side.SELL,
        quantity=Decimal(row["qty"]),
        price=Decimal(row["price"]),
        fee=Decimal(row["commission"]),
        fee_asset=str(row["commissionAsset"]),
        liquidity=LiquiditySide.MAKER if row["isMaker"] else LiquiditySide.TAKER,
        ts_event=int(row["time"]) * NS_PER_MS,
    )


def balance_of(row: Mapping[str, Any], ts_event: int) -> VenueBalance:
    """A balance as ``GET account`` prints it."""
    return VenueBalance(
        asset=str(row["asset"]), free=Decimal(row["free"]), locked=Decimal(row["locked"]), ts_event=ts_event
    )


def reports_of(event: Mapping[str, Any], instrument_of: InstrumentOf) -> tuple[VenueReport, ...]:
    """What a user-stream event says; nothing for kinds that say nothing about orders and balances."""
    match event.get("e"):
        case "executionReport":
            return _execution(event, instrument_of)
        case "outboundAccountPosition":
            ts_event = int(event["u"]) * NS_PER_MS
            return tuple(
                VenueBalance(asset=str(row["a"]), free=Decimal(row["f"]), locked=Decimal(row["l"]), ts_event=ts_event)
                for row in event["B"]
            )
        case _:
            return ()


def _execution(event: Mapping[str, Any], instrument_of: InstrumentOf) -> tuple[VenueReport, ...]:
    key = OrderKey(
        instrument_id=instrument_of(event["s"]),
        # On a cancel, c is the cancel's own id and C the order's.
        client_order_id=str(event["C"] or event["c"]),
        venue_order_id=str(event["i"]),
    )
    ts_event = int(event["T"]) * NS_PER_MS
    status = STATUS[event["X"]]
    trades = (_trade(event, key, ts_event),) if event["x"] == "TRADE" else ()
    if trades and status is VenueOrderStatus.OPEN:
        return trades
    reason = "" if event.get("r") in (None, "NONE") else str(event["r"])
    order = VenueOrder(
        key=key, status=status, filled_quantity=Decimal(event["z"]), ts_event=ts_event, reason=reason or event["x"]
    )
    return (*trades, order)


def _trade(event: Mapping[str, Any], key: OrderKey, ts_event: int) -> VenueTrade:
    return VenueTrade(
        key=key,
        trade_id=str(event["t"]),
        side=Side(event["S"]),
        quantity=Decimal(event["l"]),
        price=Decimal(event["L"]),
        fee=Decimal(event["n"] or 0),
        fee_asset=str(event["N"] or ""),
        liquidity=LiquiditySide.MAKER if event["m"] else LiquiditySide.TAKER,
        ts_event=ts_event,
    )
