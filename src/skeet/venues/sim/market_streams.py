"""Market data streams: who subscribed to what, and the frames that go out.

Raw form on ``/ws`` and ``/stream/ws``, combined form (``{"stream":…,"data":…}``) on ``/stream``. Trades, best prices and
depth differences are never conflated: every one of them is a frame. Depth goes out every 100 ms (``@depth@100ms``) or
second (``@depth``), each diff starting at the previous one's last update id + 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import groupby
from typing import Any

import orjson

from skeet.venues.sim.bars import INTERVALS_MS, MINUTE_MS, combine
from skeet.venues.sim.book import Book
from skeet.venues.sim.exchange import Exchange, Report
from skeet.venues.sim.instruments import Instrument
from skeet.venues.sim.orders import TopChanged, Trade
from skeet.venues.sim.public_api import aggregate, kline, levels, ticker
from skeet.venues.sim.sockets import Client
from skeet.venues.sim.tape import TapeTrade
from skeet.venues.sim.units import format_units

MAX_STREAMS_PER_CLIENT = 1_024
DEPTH_TICKS_PER_S = 10


class Subscriber:
    """A client with its form of frames and its streams."""

    def __init__(self, client: Client, *, combined: bool) -> None:
        self.client = client
        self.combined = combined
        self.streams: set[str] = set()


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


class MarketStreams:
    """Subscriptions by stream name, and what feeds them: outcomes as they come, and a tick every 100 ms."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._subscribers: dict[str, set[Subscriber]] = {}
        self._ticks = 0
        self._slow: dict[str, PendingDepth] = {symbol: PendingDepth() for symbol in exchange.instruments}
        for market in exchange.engine.markets.values():
            market.book.take_changes()
        exchange.listeners.append(self.publish)

    # --- subscriptions ------------------------------------------------------------------------------------------------

    def subscribe(self, subscriber: Subscriber, streams: list[str]) -> None:
        """Add streams; unknown names are accepted and stay silent, as on Binance."""
        for stream in streams:
            if len(subscriber.streams) < MAX_STREAMS_PER_CLIENT:
                subscriber.streams.add(stream)
                self._subscribers.setdefault(stream, set()).add(subscriber)

    def unsubscribe(self, subscriber: Subscriber, streams: list[str]) -> None:
        """Remove streams."""
        for stream in streams:
            subscriber.streams.discard(stream)
            members = self._subscribers.get(stream)
            if members is not None:
                members.discard(subscriber)
                if not members:
                    del self._subscribers[stream]

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a client altogether."""
        self.unsubscribe(subscriber, list(subscriber.streams))

    def request(self, subscriber: Subscriber, text: str) -> None:
        """Answer a client's SUBSCRIBE, UNSUBSCRIBE or LIST_SUBSCRIPTIONS."""
        try:
            message = orjson.loads(text)
            method, request_id = message["method"], message.get("id")
            streams = [str(each) for each in message.get("params") or []]
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            subscriber.client.send(_text({"error": {"code": 2, "msg": f"Invalid request: {error}"}, "id": None}))
            return
        result: Any = None
        if method == "SUBSCRIBE":
            self.subscribe(subscriber, streams)
        elif method == "UNSUBSCRIBE":
            self.unsubscribe(subscriber, streams)
        elif method == "LIST_SUBSCRIPTIONS":
            result = sorted(subscriber.streams)
        else:
            answer = {"error": {"code": 2, "msg": f"Invalid request: unknown method {method}"}, "id": request_id}
            subscriber.client.send(_text(answer))
            return
        subscriber.client.send(_text({"result": result, "id": request_id}))

    # --- frames as things happen --------------------------------------------------------------------------------------

    def publish(self, report: Report) -> None:
        """Send the trades and best prices of an outcome."""
        if not self._subscribers:
            return
        for (symbol, _), group in groupby(report.outcome.trades, key=lambda each: (each.symbol, each.aggregate_id)):
            self._trades(self._exchange.instruments[symbol], list(group))
        for change in report.outcome.tops:
            instrument = self._exchange.instruments[change.symbol]
            self._send(f"{change.symbol.lower()}@bookTicker", partial(_top_frame, instrument, change))

    def _trades(self, instrument: Instrument, trades: list[Trade]) -> None:
        name = instrument.symbol.lower()
        for trade in trades:
            self._send(f"{name}@trade", partial(_trade_frame, instrument, trade))
        self._send(f"{name}@aggTrade", partial(_aggregate_frame, instrument, trades))

    # --- frames on a rhythm -------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """To be called every 100 ms: depth, and once a second bars and tickers."""
        self._ticks += 1
        each_second = self._ticks % DEPTH_TICKS_PER_S == 0
        for symbol, market in self._exchange.engine.markets.items():
            self._depth(market.instrument, market.book, f"{symbol.lower()}@depth", each_second=each_second)
        if each_second:
            self._each_second()

    def _depth(self, instrument: Instrument, book: Book, name: str, *, each_second: bool) -> None:
        now_ms = self._exchange.now_ns // 1_000_000
        changed, slow = book.take_changes(), self._slow[instrument.symbol]
        if changed[1] >= changed[0]:
            fast = PendingDepth()
            fast.add(*changed)
            slow.add(*changed)
            self._send(f"{name}@100ms", partial(_depth_frame, instrument, fast, now_ms))
        for count in (5, 10, 20):
            self._send(f"{name}{count}@100ms", partial(_partial_frame, instrument, book, count))
        if each_second:
            for count in (5, 10, 20):
                self._send(f"{name}{count}", partial(_partial_frame, instrument, book, count))
            if slow.first_id:
                self._send(name, partial(_depth_frame, instrument, slow, now_ms))
                self._slow[instrument.symbol] = PendingDepth()

    def _each_second(self) -> None:
        now_ms = self._exchange.now_ns // 1_000_000
        for stream in list(self._subscribers):
            name, _, kind = stream.partition("@")
            instrument = self._exchange.instruments.get(name.upper())
            if instrument is None:
                continue
            if kind == "ticker":
                self._send(stream, partial(_ticker_frame, self._exchange, instrument, now_ms))
            elif kind == "miniTicker":
                self._send(stream, partial(_mini_ticker_frame, self._exchange, instrument, now_ms))
            elif kind.startswith("kline_") and kind[6:] in INTERVALS_MS:
                self._kline(stream, instrument, kind[6:], now_ms)

    def _kline(self, stream: str, instrument: Instrument, interval: str, now_ms: int) -> None:
        """The current bar; in the first second of a new one, the closed one first."""
        length = INTERVALS_MS[interval]
        series = self._exchange.bars[instrument.symbol]
        last_price = self._exchange.engine.markets[instrument.symbol].last_price
        series.roll(now_ms // MINUTE_MS * MINUTE_MS, last_price)
        start = now_ms // length * length
        starts = (start - length, start) if now_ms - start < 1_000 else (start,)
        for each in starts:
            bars = series.since(each, each + length)
            if bars:
                row = kline(instrument, combine(each, bars), length)
                closed = each < start
                self._send(stream, partial(_kline_frame, instrument, interval, row, now_ms, closed=closed))

    def _send(self, stream: str, frame: Callable[[], dict[str, Any]]) -> None:
        """Encode a frame once, if anybody wants it, and queue it for all who do."""
        subscribers = self._subscribers.get(stream)
        if not subscribers:
            return
        raw = _text(frame())
        for subscriber in subscribers:
            subscriber.client.send(f'{{"stream":"{stream}","data":{raw}}}' if subscriber.combined else raw)


def _text(message: dict[str, Any]) -> str:
    return orjson.dumps(message).decode()


def _trade_frame(instrument: Instrument, trade: Trade) -> dict[str, Any]:
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


def _aggregate_frame(instrument: Instrument, trades: list[Trade]) -> dict[str, Any]:
    rows = [TapeTrade(t.trade_id, t.aggregate_id, t.price, t.quantity, t.ts_ns, int(t.buyer_is_maker)) for t in trades]
    row = aggregate(instrument, rows)
    return {"e": "aggTrade", "E": row["T"], "s": instrument.symbol, **row}


def _top_frame(instrument: Instrument, change: TopChanged) -> dict[str, Any]:
    top = change.top
    return {
        "u": change.update_id,
        "s": instrument.symbol,
        "b": format_units(top.bid * instrument.tick),
        "B": format_units(top.bid_quantity * instrument.step),
        "a": format_units(top.ask * instrument.tick),
        "A": format_units(top.ask_quantity * instrument.step),
    }


def _depth_frame(instrument: Instrument, depth: PendingDepth, now_ms: int) -> dict[str, Any]:
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


def _partial_frame(instrument: Instrument, book: Book, count: int) -> dict[str, Any]:
    return {
        "lastUpdateId": book.update_id,
        "bids": levels(instrument, book.bids, count),
        "asks": levels(instrument, book.asks, count),
    }


def _kline_frame(instrument: Instrument, interval: str, row: list[Any], now_ms: int, *, closed: bool) -> dict[str, Any]:
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


def _ticker_frame(exchange: Exchange, instrument: Instrument, now_ms: int) -> dict[str, Any]:
    day = ticker(exchange, instrument)
    return {
        "e": "24hrTicker",
        "E": now_ms,
        "s": instrument.symbol,
        **{short: day[name] for short, name in _TICKER_FIELDS.items()},
    }


def _mini_ticker_frame(exchange: Exchange, instrument: Instrument, now_ms: int) -> dict[str, Any]:
    day = ticker(exchange, instrument)
    return {
        "e": "24hrMiniTicker",
        "E": now_ms,
        "s": instrument.symbol,
        **{short: day[_TICKER_FIELDS[short]] for short in ("c", "o", "h", "l", "v", "q")},
    }
