"""Instruments as versioned events: from ccxt's market table for a live venue, from a recorded file for a replay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from skeet.core.errors import InvalidInput, VenueError
from skeet.core.market import BookDelta, BookSnapshot, InstrumentDefined, Quote, Trade
from skeet.core.values import from_mantissa
from skeet.venues.binance.parsers import SCALE, MarketData

QUOTE_ASSETS = ("FDUSD", "USDT", "USDC", "TUSD", "BUSD", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL", "JPY")
"""Where a concatenated symbol is cut; longest first where one ends another."""
DEFAULT_FEE = Decimal("0.001")
"""Binance's public spot fee, maker and taker, for recorded sessions: their files hold no fees."""
NONE = Decimal(0)


def instrument_id(venue: str, symbol: str) -> str:
    """``BINANCE:BTC/USDT`` of venue and unified symbol."""
    return f"{venue}:{symbol}"


def unified_symbol(venue_symbol: str) -> str:
    """``BTC/USDT`` of ``BTCUSDT``.

    Raises
    ------
    InvalidInput
        none of the known quote assets ends it.
    """
    for quote in QUOTE_ASSETS:
        if venue_symbol.endswith(quote) and len(venue_symbol) > len(quote):
            return f"{venue_symbol.removesuffix(quote)}/{quote}"
    raise InvalidInput(f"symbol {venue_symbol} ends in no known quote asset; name it: --symbol BASE/QUOTE")


def definition_from_market(market: Mapping[str, Any], venue: str, now_ns: int) -> InstrumentDefined:
    """Version 1 of an instrument from ccxt's market structure (whose ``info`` is Binance's exchangeInfo entry).

    Raises
    ------
    VenueError
        the entry lacks a filter that prices or quantities cannot do without.
    """
    filters = {entry["filterType"]: entry for entry in market["info"].get("filters", ())}
    notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL") or {}
    try:
        price, lot = filters["PRICE_FILTER"], filters["LOT_SIZE"]
        return InstrumentDefined(
            instrument_id=instrument_id(venue, market["symbol"]),
            ts_event=now_ns,
            ts_init=now_ns,
            version=1,
            venue=venue,
            symbol=market["symbol"],
            venue_symbol=market["id"],
            base=market["base"],
            quote=market["quote"],
            active=bool(market["active"]),
            tick_size=_plain(price["tickSize"]),
            step_size=_plain(lot["stepSize"]),
            min_quantity=_plain(lot.get("minQty", "0")),
            max_quantity=_plain(lot.get("maxQty", "0")),
            min_notional=_plain(notional.get("minNotional", "0")),
            max_notional=_plain(notional.get("maxNotional", "0")),
            maker_fee=_fee(market, "makerCommission", "maker"),
            taker_fee=_fee(market, "takerCommission", "taker"),
            price_scale=SCALE,
            size_scale=SCALE,
        )
    except KeyError as error:
        raise VenueError(f"{venue} {market['symbol']}: the venue's instrument table lacks {error}") from error


def definition_from_capture(
    venue: str, symbol: str, venue_symbol: str, events: Iterable[MarketData], ts_ns: int
) -> InstrumentDefined:
    """Version 1 of a recorded instrument. Tick and step are the finest decimals that its prices and sizes use.

    A recording holds no filters and no fees: bounds are none, fees Binance's public spot fee.
    """
    prices, sizes = 0, 0
    for event in events:
        event_prices, event_sizes = _numbers(event)
        prices = max(prices, *map(_decimals, event_prices), 0)
        sizes = max(sizes, *map(_decimals, event_sizes), 0)
    base, _, quote = symbol.partition("/")
    return InstrumentDefined(
        instrument_id=instrument_id(venue, symbol),
        ts_event=ts_ns,
        ts_init=ts_ns,
        version=1,
        venue=venue,
        symbol=symbol,
        venue_symbol=venue_symbol,
        base=base,
        quote=quote,
        active=True,
        tick_size=from_mantissa(1, prices),
        step_size=from_mantissa(1, sizes),
        min_quantity=NONE,
        max_quantity=NONE,
        min_notional=NONE,
        max_notional=NONE,
        maker_fee=DEFAULT_FEE,
        taker_fee=DEFAULT_FEE,
        price_scale=SCALE,
        size_scale=SCALE,
    )


def next_version(found: InstrumentDefined, known: InstrumentDefined | None) -> InstrumentDefined | None:
    """What is to be published: the first version, the next one when any rule changed, None when nothing did."""
    if known is None:
        return found
    if replace(found, version=known.version, ts_event=known.ts_event, ts_init=known.ts_init) == known:
        return None
    return replace(found, version=known.version + 1)


def _numbers(event: MarketData) -> tuple[tuple[int, ...], tuple[int, ...]]:
    match event:
        case Trade():
            return (event.price_mantissa,), (event.size_mantissa,)
        case Quote():
            return (event.bid_price_mantissa, event.ask_price_mantissa), (
                event.bid_size_mantissa,
                event.ask_size_mantissa,
            )
        case BookSnapshot() | BookDelta():
            return event.bid_prices + event.ask_prices, event.bid_sizes + event.ask_sizes


def _decimals(mantissa: int) -> int:
    """Decimal places that a mantissa of :data:`SCALE` really uses."""
    if mantissa == 0:
        return 0
    places = SCALE
    while places and mantissa % 10 == 0:
        mantissa, places = mantissa // 10, places - 1
    return places


def _fee(market: Mapping[str, Any], venue_name: str, ccxt_name: str) -> Decimal:
    """The venue's own decimal string where it gives one; ccxt's table of the public fees otherwise."""
    value = market["info"].get(venue_name)
    if value is None:
        value = market.get(ccxt_name) or 0
    return _plain(str(value))


def _plain(text: str) -> Decimal:
    """``"0.01000000"`` as 0.01: equal rules have one form."""
    value = Decimal(text).normalize()
    return value.quantize(Decimal(1)) if value == value.to_integral_value() else value
