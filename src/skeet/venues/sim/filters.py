"""Binance's order filters: which prices and quantities an instrument takes.

Pure functions from a request to ticks and lots; a breach raises `Rejection` with Binance's code and text, by which ccxt
decides what kind of error it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from skeet.venues.sim.instruments import Instrument
from skeet.venues.sim.orders import OrderKind, OrderRequest, Rejection
from skeet.venues.sim.units import format_units

FILTER_FAILURE = -1013
MAX_OPEN_ORDERS = 200
"""Open orders an account may have per symbol (Binance's MAX_NUM_ORDERS)."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that passed: price in ticks (0: market), quantity in lots (0: market by quote)."""

    price: int
    lots: int


def admit(instrument: Instrument, request: OrderRequest, last_price: int, open_orders: int) -> Admitted:
    """The request in ticks and lots.

    Parameters
    ----------
    last_price : ticks; what a market order's notional is judged by.
    open_orders : how many orders the account has open on this symbol.

    Raises
    ------
    Rejection
        the first filter that the request breaks.
    """
    if open_orders >= MAX_OPEN_ORDERS and request.kind is not OrderKind.MARKET:
        raise _failure("MAX_NUM_ORDERS")
    price = 0 if request.kind is OrderKind.MARKET else _ticks(instrument, request.price)
    if request.quote_budget:
        if request.quote_budget < instrument.min_notional:
            raise _failure("NOTIONAL")
        return Admitted(price, 0)
    lots = _lots(instrument, request.quantity)
    if instrument.value(price or last_price, lots) < instrument.min_notional:
        raise _failure("NOTIONAL")
    return Admitted(price, lots)


def describe(instrument: Instrument) -> list[dict[str, object]]:
    """The filters as ``exchangeInfo`` lists them."""
    step = {
        "minQty": format_units(instrument.step),
        "maxQty": format_units(instrument.max_quantity),
        "stepSize": format_units(instrument.step),
    }
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": format_units(instrument.tick),
            "maxPrice": format_units(instrument.max_price),
            "tickSize": format_units(instrument.tick),
        },
        {"filterType": "LOT_SIZE", **step},
        {"filterType": "MARKET_LOT_SIZE", **step},
        {
            "filterType": "NOTIONAL",
            "minNotional": format_units(instrument.min_notional),
            "applyMinToMarket": True,
            "maxNotional": "9000000.00000000",
            "applyMaxToMarket": False,
            "avgPriceMins": 0,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": MAX_OPEN_ORDERS},
    ]


def _ticks(instrument: Instrument, price: int) -> int:
    ticks, rest = divmod(price, instrument.tick)
    if rest or ticks == 0 or price > instrument.max_price:
        raise _failure("PRICE_FILTER")
    return ticks


def _lots(instrument: Instrument, quantity: int) -> int:
    lots, rest = divmod(quantity, instrument.step)
    if rest or lots == 0 or quantity > instrument.max_quantity:
        raise _failure("LOT_SIZE")
    return lots


def _failure(name: str) -> Rejection:
    return Rejection(FILTER_FAILURE, f"Filter failure: {name}")
