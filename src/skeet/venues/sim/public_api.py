"""Market data requests of Binance's spot API. Each function takes the exchange and parameters and returns JSON values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from typing import Any

from skeet.venues.sim.bars import INTERVALS_MS, MINUTE_MS, Bar, combine, regroup
from skeet.venues.sim.book import HalfBook
from skeet.venues.sim.exchange import Exchange
from skeet.venues.sim.filters import MAX_OPEN_ORDERS, describe
from skeet.venues.sim.instruments import Instrument
from skeet.venues.sim.orders import Rejection
from skeet.venues.sim.parameters import Parameters
from skeet.venues.sim.signing import missing
from skeet.venues.sim.tape import TapeTrade
from skeet.venues.sim.units import format_units

MAX_ROWS = 1_000
MAX_DEPTH = 5_000
DAY_MS = 86_400_000
_BARS_SCAN_LIMIT = 60_000
"""1-minute bars read for one klines request at most."""

Json = dict[str, Any] | list[Any]
PublicHandler = Callable[[Exchange, Parameters], Json]


def ping(exchange: Exchange, parameters: Parameters) -> Json:
    """Nothing, quickly."""
    return {}


def server_time(exchange: Exchange, parameters: Parameters) -> Json:
    """The exchange's clock in milliseconds."""
    return {"serverTime": exchange.now_ns // 1_000_000}


def exchange_info(exchange: Exchange, parameters: Parameters) -> Json:
    """Instruments with their filters."""
    if parameters.get("symbol"):
        listed = [parameters.instrument(exchange.instruments)]
    else:
        listed = list(exchange.instruments.values())
    return {
        "timezone": "UTC",
        "serverTime": exchange.now_ns // 1_000_000,
        "rateLimits": [],
        "exchangeFilters": [],
        "symbols": [_symbol(each) for each in listed],
    }


def depth(exchange: Exchange, parameters: Parameters) -> Json:
    """Price levels with the update id that they stand at."""
    instrument = parameters.instrument(exchange.instruments)
    limit = parameters.integer("limit", 100, low=1, high=MAX_DEPTH)
    book = exchange.engine.markets[instrument.symbol].book
    return {
        "lastUpdateId": book.update_id,
        "bids": levels(instrument, book.bids, limit),
        "asks": levels(instrument, book.asks, limit),
    }


def levels(instrument: Instrument, half: HalfBook, limit: int) -> list[list[str]]:
    """The best `limit` levels of a side as [price, quantity]."""
    return [
        [format_units(level.price * instrument.tick), format_units(level.quantity * instrument.step)]
        for level in islice(half.from_best(), limit)
    ]


def recent_trades(exchange: Exchange, parameters: Parameters) -> Json:
    """The newest trades."""
    instrument = parameters.instrument(exchange.instruments)
    trades = exchange.tapes[instrument.symbol].last(parameters.integer("limit", 500, low=1, high=MAX_ROWS))
    return [_trade(instrument, each) for each in trades]


def historical_trades(exchange: Exchange, parameters: Parameters) -> Json:
    """Trades from an id on, or the newest."""
    if not parameters.get("fromId"):
        return recent_trades(exchange, parameters)
    instrument = parameters.instrument(exchange.instruments)
    limit = parameters.integer("limit", 500, low=1, high=MAX_ROWS)
    trades = exchange.tapes[instrument.symbol].range(parameters.integer("fromId", 1), limit)
    return [_trade(instrument, each) for each in trades]


def aggregate_trades(exchange: Exchange, parameters: Parameters) -> Json:
    """Trades of one taker order at one price, added up. Their ids are a sequence of their own."""
    instrument = parameters.instrument(exchange.instruments)
    tape = exchange.tapes[instrument.symbol]
    limit = parameters.integer("limit", 500, low=1, high=MAX_ROWS)
    if parameters.get("fromId"):
        first = tape.id_of_aggregate(parameters.integer("fromId", 1))
    elif parameters.get("startTime"):
        first = tape.id_at(parameters.integer("startTime", 0) * 1_000_000)
    else:
        newest = tape.last(1)
        first = tape.id_of_aggregate(newest[0].aggregate_id - limit + 1) if newest else 1
    until_ns = (parameters.integer("endTime", 2**43) + 1) * 1_000_000
    rows: Iterable[Any] = (aggregate(instrument, group) for group in _aggregates(exchange, instrument, first, until_ns))
    return list(islice(rows, limit))


def aggregate(instrument: Instrument, trades: list[TapeTrade]) -> dict[str, Any]:
    """One aggregate trade as Binance prints it."""
    first, last = trades[0], trades[-1]
    return {
        "a": first.aggregate_id,
        "p": format_units(first.price * instrument.tick),
        "q": format_units(sum(each.quantity for each in trades) * instrument.step),
        "f": first.trade_id,
        "l": last.trade_id,
        "T": first.ts_ns // 1_000_000,
        "m": bool(first.buyer_is_maker),
        "M": True,
    }


def klines(exchange: Exchange, parameters: Parameters) -> Json:
    """Bars of an interval."""
    instrument = parameters.instrument(exchange.instruments)
    interval = parameters.get("interval")
    if not interval:
        raise missing("interval")
    if interval not in INTERVALS_MS:
        raise Rejection(-1120, "Invalid interval.")
    limit = parameters.integer("limit", 500, low=1, high=MAX_ROWS)
    return [kline(instrument, bar, INTERVALS_MS[interval]) for bar in _bars(exchange, instrument, parameters, limit)]


def kline(instrument: Instrument, bar: Bar, interval_ms: int) -> list[Any]:
    """One bar as Binance prints it."""
    return [
        bar.open_ms,
        *(format_units(price * instrument.tick) for price in (bar.open, bar.high, bar.low, bar.close)),
        format_units(bar.volume * instrument.step),
        bar.open_ms + interval_ms - 1,
        format_units(bar.value * instrument.lot_value),
        bar.trades,
        format_units(bar.taker_volume * instrument.step),
        format_units(bar.taker_value * instrument.lot_value),
        "0",
    ]


def day_ticker(exchange: Exchange, parameters: Parameters) -> Json:
    """24-hour statistics."""
    return _one_or_all(exchange, parameters, ticker)


def price_ticker(exchange: Exchange, parameters: Parameters) -> Json:
    """Last prices."""

    def row(exchange: Exchange, instrument: Instrument) -> dict[str, Any]:
        last = exchange.engine.markets[instrument.symbol].last_price
        return {"symbol": instrument.symbol, "price": format_units(last * instrument.tick)}

    return _one_or_all(exchange, parameters, row)


def book_ticker(exchange: Exchange, parameters: Parameters) -> Json:
    """Best prices."""

    def row(exchange: Exchange, instrument: Instrument) -> dict[str, Any]:
        top = exchange.engine.markets[instrument.symbol].book.top()
        return {
            "symbol": instrument.symbol,
            "bidPrice": format_units(top.bid * instrument.tick),
            "bidQty": format_units(top.bid_quantity * instrument.step),
            "askPrice": format_units(top.ask * instrument.tick),
            "askQty": format_units(top.ask_quantity * instrument.step),
        }

    return _one_or_all(exchange, parameters, row)


def ticker(exchange: Exchange, instrument: Instrument) -> dict[str, Any]:
    """24-hour statistics of one instrument, from its 1-minute bars."""
    now_ms = exchange.now_ns // 1_000_000
    market = exchange.engine.markets[instrument.symbol]
    bars = exchange.bars[instrument.symbol].since(now_ms - DAY_MS, now_ms + 1)
    newest = exchange.tapes[instrument.symbol].last(1)
    last_id = newest[0].trade_id if newest else 0
    day = combine(now_ms - DAY_MS, bars) if bars else Bar(now_ms, *(market.last_price,) * 4, 0, 0, 0, 0, 0)
    top, tick, step = market.book.top(), instrument.tick, instrument.step
    average = day.value * tick // day.volume if day.volume else day.close * tick
    return {
        "symbol": instrument.symbol,
        "priceChange": format_units((day.close - day.open) * tick),
        "priceChangePercent": f"{(day.close - day.open) / day.open * 100:.3f}" if day.open else "0.000",
        "weightedAvgPrice": format_units(average),
        "prevClosePrice": format_units(day.open * tick),
        "lastPrice": format_units(day.close * tick),
        "lastQty": format_units((newest[0].quantity if newest else 0) * step),
        "bidPrice": format_units(top.bid * tick),
        "bidQty": format_units(top.bid_quantity * step),
        "askPrice": format_units(top.ask * tick),
        "askQty": format_units(top.ask_quantity * step),
        "openPrice": format_units(day.open * tick),
        "highPrice": format_units(day.high * tick),
        "lowPrice": format_units(day.low * tick),
        "volume": format_units(day.volume * step),
        "quoteVolume": format_units(day.value * instrument.lot_value),
        "openTime": now_ms - DAY_MS,
        "closeTime": now_ms,
        "firstId": max(1, last_id - day.trades + 1) if last_id else -1,
        "lastId": last_id or -1,
        "count": day.trades,
    }


ROUTES: dict[str, PublicHandler] = {
    "ping": ping,
    "time": server_time,
    "exchangeInfo": exchange_info,
    "depth": depth,
    "trades": recent_trades,
    "historicalTrades": historical_trades,
    "aggTrades": aggregate_trades,
    "klines": klines,
    "ticker/24hr": day_ticker,
    "ticker/price": price_ticker,
    "ticker/bookTicker": book_ticker,
}


def _one_or_all(
    exchange: Exchange, parameters: Parameters, row: Callable[[Exchange, Instrument], dict[str, Any]]
) -> Json:
    if parameters.get("symbol"):
        return row(exchange, parameters.instrument(exchange.instruments))
    return [row(exchange, each) for each in exchange.instruments.values()]


def _bars(exchange: Exchange, instrument: Instrument, parameters: Parameters, limit: int) -> list[Bar]:
    interval_ms = INTERVALS_MS[parameters["interval"]]
    now_ms = exchange.now_ns // 1_000_000
    series = exchange.bars[instrument.symbol]
    series.roll(now_ms // MINUTE_MS * MINUTE_MS, exchange.engine.markets[instrument.symbol].last_price)
    end = min(parameters.integer("endTime", now_ms), now_ms) + 1
    if parameters.get("startTime"):
        start = -(-max(parameters.integer("startTime", 0), series.first_ms()) // interval_ms) * interval_ms
        end = min(end, start + limit * interval_ms)
        return regroup(series.since(start, min(end, start + _BARS_SCAN_LIMIT * MINUTE_MS)), interval_ms)[:limit]
    start = max(end - limit * interval_ms, end - _BARS_SCAN_LIMIT * MINUTE_MS) // interval_ms * interval_ms
    return regroup(series.since(start, end), interval_ms)[-limit:]


def _aggregates(exchange: Exchange, instrument: Instrument, first_id: int, until_ns: int) -> Iterator[list[TapeTrade]]:
    def read() -> Iterator[TapeTrade]:
        next_id = first_id
        while page := exchange.tapes[instrument.symbol].range(next_id, MAX_ROWS):
            yield from page
            next_id = page[-1].trade_id + 1

    for _, group in groupby(read(), key=lambda each: each.aggregate_id):
        trades = list(group)
        if trades[0].ts_ns >= until_ns:
            return
        yield trades


def _trade(instrument: Instrument, trade: TapeTrade) -> dict[str, Any]:
    return {
        "id": trade.trade_id,
        "price": format_units(trade.price * instrument.tick),
        "qty": format_units(trade.quantity * instrument.step),
        "quoteQty": format_units(instrument.value(trade.price, trade.quantity)),
        "time": trade.ts_ns // 1_000_000,
        "isBuyerMaker": bool(trade.buyer_is_maker),
        "isBestMatch": True,
    }


def _symbol(instrument: Instrument) -> dict[str, Any]:
    return {
        "symbol": instrument.symbol,
        "status": "TRADING",
        "baseAsset": instrument.base,
        "baseAssetPrecision": 8,
        "quoteAsset": instrument.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": False,
        "amendAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": describe(instrument),
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "NONE",
        "allowedSelfTradePreventionModes": ["NONE"],
        "maxNumOrders": MAX_OPEN_ORDERS,
    }
