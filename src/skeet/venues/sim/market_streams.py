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
from skeet.venues.sim.behaviour import Behaviour
from skeet.venues.sim.book import Book
from skeet.venues.sim.exchange import Exchange, Report
from skeet.venues.sim.frames import (
    PendingDepth,
    aggregate_frame,
    depth_frame,
    kline_frame,
    mini_ticker_frame,
    partial_frame,
    ticker_frame,
    top_frame,
    trade_frame,
)
from skeet.venues.sim.instruments import Instrument
from skeet.venues.sim.orders import Trade
from skeet.venues.sim.public_api import kline
from skeet.venues.sim.sockets import Client

MAX_STREAMS_PER_CLIENT = 1_024
DEPTH_TICKS_PER_S = 10


class Subscriber:
    """A client with its form of frames and its streams."""

    def __init__(self, client: Client, *, combined: bool) -> None:
        self.client = client
        self.combined = combined
        self.streams: set[str] = set()


class MarketStreams:
    """Subscriptions by stream name, and what feeds them: outcomes as they come, and a tick every 100 ms."""

    def __init__(self, exchange: Exchange, behaviour: Behaviour) -> None:
        self._exchange = exchange
        self._behaviour = behaviour
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
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, RecursionError) as error:
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
            self._send(f"{change.symbol.lower()}@bookTicker", partial(top_frame, instrument, change))

    def _trades(self, instrument: Instrument, trades: list[Trade]) -> None:
        name = instrument.symbol.lower()
        for trade in trades:
            self._send(f"{name}@trade", partial(trade_frame, instrument, trade))
        self._send(f"{name}@aggTrade", partial(aggregate_frame, instrument, trades))

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
            self._send(f"{name}@100ms", partial(depth_frame, instrument, fast, now_ms))
        for count in (5, 10, 20):
            self._send(f"{name}{count}@100ms", partial(partial_frame, instrument, book, count))
        if each_second:
            for count in (5, 10, 20):
                self._send(f"{name}{count}", partial(partial_frame, instrument, book, count))
            if slow.first_id:
                self._send(name, partial(depth_frame, instrument, slow, now_ms))
                self._slow[instrument.symbol] = PendingDepth()

    def _each_second(self) -> None:
        now_ms = self._exchange.now_ns // 1_000_000
        for stream in list(self._subscribers):
            name, _, kind = stream.partition("@")
            instrument = self._exchange.instruments.get(name.upper())
            if instrument is None:
                continue
            if kind == "ticker":
                self._send(stream, partial(ticker_frame, self._exchange, instrument, now_ms))
            elif kind == "miniTicker":
                self._send(stream, partial(mini_ticker_frame, self._exchange, instrument, now_ms))
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
                self._send(stream, partial(kline_frame, instrument, interval, row, now_ms, closed=closed))

    def _send(self, stream: str, frame: Callable[[], dict[str, Any]]) -> None:
        """Encode a frame once, if anybody wants it, and queue it for all who do."""
        subscribers = self._subscribers.get(stream)
        if not subscribers:
            return
        raw = _text(frame())
        if self._behaviour.silences() or self._behaviour.uses_up("lose_frames_next"):
            return
        for subscriber in subscribers:
            subscriber.client.send(f'{{"stream":"{stream}","data":{raw}}}' if subscriber.combined else raw)


def _text(message: dict[str, Any]) -> str:
    return orjson.dumps(message).decode()
