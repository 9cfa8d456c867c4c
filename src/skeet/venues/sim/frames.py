"""The frames of the market streams, as Binance prints them. Pure functions from what happened to JSON values."""

from __future__ import annotations

from typing import Any

from skeet.venues.sim.book import Book
from skeet.venues.sim.exchange import Exchange
from skeet.venues.sim.instruments import Instrument
from skeet.venues.sim.orders import TopChanged, Trade
from skeet.venues.sim.public_api import aggregate, levels, ticker
from skeet.venues.sim.tape import TapeTrade
from skeet.venues.sim.units import format_units


class PendingDepth:
    """Level changes of one instrument that are still to be sent on one rhythm."""

    def __init__(self) -> None:
        self.first_id = 0
        self.last_id = 0
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}

    def add(self, first_id: int, last_id: int, bids: dict[int, int], asks: dict[int, int]) -> None:
        """Take over changes; the newest quantity of a level wins."""
        self.first_id = self.first_id or first_id
        self.last_id = last_id
        self.bids |= bids
        self.asks |= asks


def trade_frame(instrument: Instrument, trade: Trade) -> dict[str, Any]:
    """One trade."""
    time_ms = trade.ts_ns // 1_000_000
    return {
        "e": "trade",
        "E": time_ms,
        "s": instrument.symbol,
        "t": trade.trade_id,
        "p": format_units(trade.price * instrument.tick),
        "q": format_units(trade.quantity * instrument.step),
        "T": time_ms,
        "m": trade.buyer_is_maker,
        "M": True,
    }


def aggregate_frame(instrument: Instrument, trades: list[Trade]) -> dict[str, Any]:
    """The trades of one taker order at one price."""
    rows = [TapeTrade(t.trade_id, t.aggregate_id, t.price, t.quantity, t.ts_ns, int(t.buyer_is_maker)) for t in trades]
    row = aggregate(instrument, rows)
    return {"e": "aggTrade", "E": row["T"], "s": instrument.symbol, **row}


def top_frame(instrument: Instrument, change: TopChanged) -> dict[str, Any]:
    """Best prices; Binance gives this frame no event name."""
    top = change.top
    return {
        "u": change.update_id,
        "s": instrument.symbol,
        "b": format_units(top.bid * instrument.tick),
        "B": format_units(top.bid_quantity * instrument.step),
        "a": format_units(top.ask * instrument.tick),
        "A": format_units(top.ask_quantity * instrument.step),
    }


def depth_frame(instrument: Instrument, depth: PendingDepth, now_ms: int) -> dict[str, Any]:
    """Level changes; a quantity of 0 says that the level is gone."""
    return {
        "e": "depthUpdate",
        "E": now_ms,
        "s": instrument.symbol,
        "U": depth.first_id,
        "u": depth.last_id,
        "b": _rows(instrument, depth.bids),
        "a": _rows(instrument, depth.asks),
    }


def _rows(instrument: Instrument, changed: dict[int, int]) -> list[list[str]]:
    return [
        [format_units(price * instrument.tick), format_units(lots * instrument.step)] for price, lots in changed.items()
    ]


def partial_frame(instrument: Instrument, book: Book, count: int) -> dict[str, Any]:
    """The best levels as they stand."""
    return {
        "lastUpdateId": book.update_id,
        "bids": levels(instrument, book.bids, count),
        "asks": levels(instrument, book.asks, count),
    }


def kline_frame(instrument: Instrument, interval: str, row: list[Any], now_ms: int, *, closed: bool) -> dict[str, Any]:
    """One bar, printed by `kline`."""
    open_ms, opened, high, low, close, volume, close_ms, value, trades, taker_volume, taker_value, _ = row
    bar = {
        "t": open_ms,
        "T": close_ms,
        "s": instrument.symbol,
        "i": interval,
        "f": -1,
        "L": -1,
        "o": opened,
        "c": close,
        "h": high,
        "l": low,
        "v": volume,
        "n": trades,
        "x": closed,
        "q": value,
        "V": taker_volume,
        "Q": taker_value,
        "B": "0",
    }
    return {"e": "kline", "E": now_ms, "s": instrument.symbol, "k": bar}


_TICKER_FIELDS = {
    "p": "priceChange",
    "P": "priceChangePercent",
    "w": "weightedAvgPrice",
    "x": "prevClosePrice",
    "c": "lastPrice",
    "Q": "lastQty",
    "b": "bidPrice",
    "B": "bidQty",
    "a": "askPrice",
    "A": "askQty",
    "o": "openPrice",
    "h": "highPrice",
    "l": "lowPrice",
    "v": "volume",
    "q": "quoteVolume",
    "O": "openTime",
    "C": "closeTime",
    "F": "firstId",
    "L": "lastId",
    "n": "count",
}


def ticker_frame(exchange: Exchange, instrument: Instrument, now_ms: int) -> dict[str, Any]:
    """24-hour statistics."""
    day = ticker(exchange, instrument)
    return {
        "e": "24hrTicker",
        "E": now_ms,
        "s": instrument.symbol,
        **{short: day[name] for short, name in _TICKER_FIELDS.items()},
    }


def mini_ticker_frame(exchange: Exchange, instrument: Instrument, now_ms: int) -> dict[str, Any]:
    """24-hour statistics, the short form."""
    day = ticker(exchange, instrument)
    return {
        "e": "24hrMiniTicker",
        "E": now_ms,
        "s": instrument.symbol,
        **{short: day[_TICKER_FIELDS[short]] for short in ("c", "o", "h", "l", "v", "q")},
    }
