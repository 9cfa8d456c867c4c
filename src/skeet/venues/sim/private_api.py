"""Account and order requests of Binance's spot API. Each function takes the exchange, the account and parameters."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from skeet.venues.sim.account_events import OrderFilled
from skeet.venues.sim.behaviour import Behaviour
from skeet.venues.sim.blotter import OrderView
from skeet.venues.sim.commands import CancelOrder
from skeet.venues.sim.engine import UNKNOWN_ORDER
from skeet.venues.sim.exchange import Exchange
from skeet.venues.sim.orders import OrderKind, OrderRequest, Rejection, Side, TimeInForce
from skeet.venues.sim.parameters import Parameters
from skeet.venues.sim.public_api import MAX_ROWS, Json
from skeet.venues.sim.units import format_units

PrivateHandler = Callable[[Exchange, str, Parameters], Json]
_Row = TypeVar("_Row")

ORDER_DOES_NOT_EXIST = (-2013, "Order does not exist.")
NEITHER_ID = (-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")


def read_order(exchange: Exchange, account: str, parameters: Parameters, behaviour: Behaviour) -> OrderRequest:
    """The order that a request asks for.

    Raises
    ------
    Rejection
        a parameter is missing, superfluous or malformed.
    """
    instrument = parameters.instrument(exchange.instruments)
    side = parameters.choice("side", Side, -1117, "Invalid side.")
    kind = parameters.choice("type", OrderKind, -1116, "Invalid orderType.")
    time_in_force = TimeInForce.GTC
    if kind is OrderKind.LIMIT:
        parameters.require(("timeInForce", "quantity", "price"))
        time_in_force = parameters.choice("timeInForce", TimeInForce, -1115, "Invalid timeInForce.")
    elif parameters.get("timeInForce"):
        raise Rejection(-1106, "Parameter 'timeInForce' sent when not required.")
    elif kind is OrderKind.LIMIT_MAKER:
        parameters.require(("quantity", "price"))
    elif parameters.get("price"):
        raise Rejection(-1106, "Parameter 'price' sent when not required.")
    elif bool(parameters.get("quantity")) == bool(parameters.get("quoteOrderQty")):
        raise Rejection(-1102, "Mandatory parameter 'quantity' was not sent, was empty/null, or malformed.")
    return OrderRequest(
        account=account,
        symbol=instrument.symbol,
        side=side,
        kind=kind,
        client_order_id=parameters.client_id("newClientOrderId") or f"sim-{secrets.token_hex(12)}",
        time_in_force=time_in_force,
        price=parameters.amount("price"),
        quantity=parameters.amount("quantity"),
        quote_budget=parameters.amount("quoteOrderQty"),
        unique_among=behaviour.faults.duplicate_client_ids,
    )


def accepted(exchange: Exchange, account: str, symbol: str, order_id: int, answer: str) -> Json:
    """The answer to a new order: ``ACK``, ``RESULT`` or ``FULL``."""
    view = exchange.blotter.order(account, symbol, order_id)
    assert view is not None
    time_ms = view.accepted.ts_ns // 1_000_000
    reply: dict[str, Any] = {
        "symbol": symbol,
        "orderId": order_id,
        "orderListId": -1,
        "clientOrderId": view.accepted.client_order_id,
        "transactTime": time_ms,
    }
    if answer == "ACK":
        return reply
    reply |= {**_state(view), "workingTime": time_ms, "selfTradePreventionMode": "NONE"}
    if answer == "FULL":
        reply["fills"] = [
            {
                "price": fill.price,
                "qty": fill.quantity,
                "commission": fill.commission,
                "commissionAsset": fill.commission_asset,
                "tradeId": fill.trade_id,
            }
            for fill in view.fills
        ]
    return reply


def get_order(exchange: Exchange, account: str, parameters: Parameters) -> Json:
    """One order by either id (-2013 if there is none)."""
    return order_row(_find(exchange, account, parameters, ORDER_DOES_NOT_EXIST))


def cancel_order(exchange: Exchange, account: str, parameters: Parameters) -> Json:
    """Cancel one open order by either id (-2011 if it is not open)."""
    view = _find(exchange, account, parameters, UNKNOWN_ORDER)
    return _cancel(exchange, view, parameters.client_id("newClientOrderId"))


def open_orders(exchange: Exchange, account: str, parameters: Parameters) -> Json:
    """Open orders of one symbol or of all."""
    return [order_row(view) for view in _open(exchange, account, parameters)]


def cancel_open_orders(exchange: Exchange, account: str, parameters: Parameters) -> Json:
    """Cancel every open order of a symbol (-2011 if there is none)."""
    parameters.instrument(exchange.instruments)
    found = _open(exchange, account, parameters)
    if not found:
        raise Rejection(*UNKNOWN_ORDER)
    return [_cancel(exchange, view, "") for view in found]


def all_orders(exchange: Exchange, account: str, parameters: Parameters) -> Json:
    """Orders of a symbol whatever their state: from an id on, within times, or the newest."""
    symbol = parameters.instrument(exchange.instruments).symbol
    views = exchange.blotter.orders(account, symbol)
    if parameters.get("orderId"):
        first = parameters.integer("orderId", 0)
        chosen = [view for view in views if view.accepted.order_id >= first]
    else:
        chosen = _within(views, parameters, lambda view: view.accepted.ts_ns)
    from_start = bool(parameters.get("orderId") or parameters.get("startTime"))
    return [order_row(view) for view in _page(chosen, parameters, from_start=from_start)]


def my_trades(exchange: Exchange, account: str, parameters: Parameters) -> Json:
    """Fills of a symbol: of one order, from a trade id on, within times, or the newest."""
    symbol = parameters.instrument(exchange.instruments).symbol
    fills = exchange.blotter.fills(account, symbol)
    if parameters.get("orderId"):
        order_id = parameters.integer("orderId", 0)
        fills = [fill for fill in fills if fill.order_id == order_id]
    if parameters.get("fromId"):
        first = parameters.integer("fromId", 0)
        fills = [fill for fill in fills if fill.trade_id >= first]
    fills = _within(fills, parameters, lambda fill: fill.ts_ns)
    from_start = bool(parameters.get("fromId") or parameters.get("startTime"))
    return [_fill_row(fill) for fill in _page(fills, parameters, from_start=from_start)]


def account_state(exchange: Exchange, account: str, parameters: Parameters) -> Json:
    """Balances and fee rates."""
    first = next(iter(exchange.instruments.values()))
    maker, taker = f"{first.maker_ppm / 1e6:.8f}", f"{first.taker_ppm / 1e6:.8f}"
    return {
        "makerCommission": first.maker_ppm // 100,
        "takerCommission": first.taker_ppm // 100,
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {"maker": maker, "taker": taker, "buyer": "0.00000000", "seller": "0.00000000"},
        "canTrade": True,
        "canWithdraw": False,
        "canDeposit": False,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": exchange.now_ns // 1_000_000,
        "accountType": "SPOT",
        "balances": [
            {"asset": asset, "free": format_units(free), "locked": format_units(locked)}
            for asset, (free, locked) in sorted(exchange.engine.balances.of(account).items())
        ],
        "permissions": ["SPOT"],
    }


ROUTES: dict[tuple[str, str], PrivateHandler] = {
    ("GET", "order"): get_order,
    ("DELETE", "order"): cancel_order,
    ("GET", "openOrders"): open_orders,
    ("DELETE", "openOrders"): cancel_open_orders,
    ("GET", "allOrders"): all_orders,
    ("GET", "account"): account_state,
    ("GET", "myTrades"): my_trades,
}


def order_row(view: OrderView) -> dict[str, Any]:
    """An order as the lookups print it."""
    created_ms = view.accepted.ts_ns // 1_000_000
    return {
        "symbol": view.accepted.symbol,
        "orderId": view.accepted.order_id,
        "orderListId": -1,
        "clientOrderId": view.accepted.client_order_id,
        **_state(view),
        "stopPrice": "0.00000000",
        "icebergQty": "0.00000000",
        "time": created_ms,
        "updateTime": view.updated_ns // 1_000_000,
        "isWorking": True,
        "workingTime": created_ms,
        "selfTradePreventionMode": "NONE",
    }


def _state(view: OrderView) -> dict[str, Any]:
    return {
        "price": view.accepted.price,
        "origQty": format_units(view.quantity),
        "executedQty": format_units(view.executed),
        "origQuoteOrderQty": view.accepted.quote_budget,
        "cummulativeQuoteQty": format_units(view.cost),  # Binance's spelling
        "status": view.status.value,
        "timeInForce": view.accepted.time_in_force,
        "type": view.accepted.kind,
        "side": view.accepted.side,
    }


def _fill_row(fill: OrderFilled) -> dict[str, Any]:
    return {
        "symbol": fill.symbol,
        "id": fill.trade_id,
        "orderId": fill.order_id,
        "orderListId": -1,
        "price": fill.price,
        "qty": fill.quantity,
        "quoteQty": fill.quote_quantity,
        "commission": fill.commission,
        "commissionAsset": fill.commission_asset,
        "time": fill.ts_ns // 1_000_000,
        "isBuyer": fill.side == Side.BUY,
        "isMaker": fill.is_maker,
        "isBestMatch": True,
    }


def _find(exchange: Exchange, account: str, parameters: Parameters, unknown: tuple[int, str]) -> OrderView:
    symbol = parameters.instrument(exchange.instruments).symbol
    if parameters.get("orderId"):
        view = exchange.blotter.order(account, symbol, parameters.integer("orderId", 0))
    elif parameters.get("origClientOrderId"):
        view = exchange.blotter.order_by_client_id(account, symbol, parameters["origClientOrderId"])
    else:
        raise Rejection(*NEITHER_ID)
    if view is None:
        raise Rejection(*unknown)
    return view


def _open(exchange: Exchange, account: str, parameters: Parameters) -> list[OrderView]:
    only = parameters.instrument(exchange.instruments).symbol if parameters.get("symbol") else None
    found = []
    for symbol, order_id in exchange.engine.open_orders.get(account, {}):
        if only in (None, symbol):
            view = exchange.blotter.order(account, symbol, order_id)
            assert view is not None
            found.append(view)
    return found


def _cancel(exchange: Exchange, view: OrderView, cancel_id: str) -> dict[str, Any]:
    order = view.accepted
    cancel_id = cancel_id or f"sim-{secrets.token_hex(12)}"
    exchange.execute(
        CancelOrder(account=order.account, symbol=order.symbol, order_id=order.order_id, cancel_id=cancel_id)
    )
    return {
        "symbol": order.symbol,
        "origClientOrderId": order.client_order_id,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": cancel_id,
        "transactTime": view.updated_ns // 1_000_000,
        **_state(view),
        "selfTradePreventionMode": "NONE",
    }


def _within(rows: Iterable[_Row], parameters: Parameters, ts_ns: Callable[[_Row], int]) -> list[_Row]:
    start = parameters.integer("startTime", 0) * 1_000_000
    end = (parameters.integer("endTime", 2**43) + 1) * 1_000_000
    return [row for row in rows if start <= ts_ns(row) < end]


def _page(rows: list[_Row], parameters: Parameters, *, from_start: bool) -> list[_Row]:
    limit = parameters.integer("limit", 500, low=1, high=MAX_ROWS)
    return rows[:limit] if from_start else rows[-limit:]
