"""Binance's rows and user-stream events as the port's values. Pure; every amount goes from string to ``Decimal``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from skeet.core.admission import LAST_TIME_NS, MAX_AMOUNT
from skeet.core.errors import InvalidInput, VenueError
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
        filled_quantity=_amount(row["executedQty"]),
        ts_event=_time_ns(row.get("updateTime") or row.get("transactTime") or 0),
    )


def trade_of(row: Mapping[str, Any], instrument_of: InstrumentOf) -> VenueTrade:
    """An execution as ``GET myTrades`` prints it; it names the venue's order id only."""
    return VenueTrade(
        key=OrderKey(
            instrument_id=instrument_of(row["symbol"]), client_order_id="", venue_order_id=str(row["orderId"])
        ),
        trade_id=str(row["id"]),
        side=Side.BUY if row["isBuyer"] else Side.SELL,
        quantity=_amount(row["qty"]),
        price=_amount(row["price"]),
        fee=_amount(row["commission"]),
        fee_asset=str(row["commissionAsset"]),
        liquidity=LiquiditySide.MAKER if row["isMaker"] else LiquiditySide.TAKER,
        ts_event=_time_ns(row["time"]),
    )


def balance_of(row: Mapping[str, Any], ts_event: int) -> VenueBalance:
    """A balance as ``GET account`` prints it."""
    return VenueBalance(
        asset=str(row["asset"]), free=_amount(row["free"]), locked=_amount(row["locked"]), ts_event=ts_event
    )


def reports_of(event: Mapping[str, Any], instrument_of: InstrumentOf) -> tuple[VenueReport, ...]:
    """What a user-stream event says; nothing for kinds that say nothing about orders and balances.

    Raises
    ------
    VenueError
        it cannot be read; nothing else leaves here, whatever the venue sent.
    """
    try:
        return _reports_of(event, instrument_of)
    except (InvalidInput, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise VenueError(f"unreadable event of the user stream: {type(error).__name__} {error}") from error


def _reports_of(event: Mapping[str, Any], instrument_of: InstrumentOf) -> tuple[VenueReport, ...]:
    match event.get("e"):
        case "executionReport":
            return _execution(event, instrument_of)
        case "outboundAccountPosition":
            ts_event = _time_ns(event["u"])
            return tuple(
                VenueBalance(asset=str(row["a"]), free=_amount(row["f"]), locked=_amount(row["l"]), ts_event=ts_event)
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
    ts_event = _time_ns(event["T"])
    status = STATUS[event["X"]]
    trades = (_trade(event, key, ts_event),) if event["x"] == "TRADE" else ()
    if trades and status is VenueOrderStatus.OPEN:
        return trades
    reason = "" if event.get("r") in (None, "NONE") else str(event["r"])
    order = VenueOrder(
        key=key, status=status, filled_quantity=_amount(event["z"]), ts_event=ts_event, reason=reason or event["x"]
    )
    return (*trades, order)


def _trade(event: Mapping[str, Any], key: OrderKey, ts_event: int) -> VenueTrade:
    return VenueTrade(
        key=key,
        trade_id=str(event["t"]),
        side=Side(event["S"]),
        quantity=_amount(event["l"]),
        price=_amount(event["L"]),
        fee=_amount(event["n"] or "0"),
        fee_asset=str(event["N"] or ""),
        liquidity=LiquiditySide.MAKER if event["m"] else LiquiditySide.TAKER,
        ts_event=ts_event,
    )


def _amount(text: str) -> Decimal:
    """The venue's string, exactly. A number of JSON's would have been a float on the way."""
    if not isinstance(text, str):
        raise TypeError(f"an amount is {text!r}; expected a string")
    amount = Decimal(text)
    if not amount.is_finite() or abs(amount) > MAX_AMOUNT:
        raise ValueError(f"an amount is {text!r}; expected a number of at most 10^18")
    return amount


def _time_ns(value: object) -> int:
    at_ns = int(str(value)) * NS_PER_MS
    if not 0 <= at_ns <= LAST_TIME_NS:
        raise ValueError(f"a time is {value!r}; expected ms since 1970, before 2100")
    return at_ns
