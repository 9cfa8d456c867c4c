"""The sides of ``skeet bench feed``, each in a process of its own.

``python -m skeet.cli.bench_feed_sides SIDE PORT WARM BURST`` connects to the player at the port, publishes what it sends
through the Kafka and topic prefix of the environment, and prints one line of JSON: the frames of the burst, and seconds and
processor time from its beginning until the broker acknowledged all of them.

``feed`` is the live feed from its socket on. ``plain`` is what one would write in an hour: aiohttp's socket, ``json.loads``,
fastavro, aiokafka; it checks no ids and opens no gaps.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
import time
from typing import Any

import aiohttp
import fastavro
from aiokafka import AIOKafkaProducer

from skeet.agents.feed import event_topics
from skeet.cli.feed_bench import through_feed
from skeet.config import Settings, load_settings
from skeet.core.market import BookDelta, Quote, RawFrame, Trade
from skeet.core.record import Event
from skeet.core.values import NS_PER_MS
from skeet.schemas.catalogue import committed_schema
from skeet.schemas.codec import Codec, numbered_codec
from skeet.venues.binance.generated import SYMBOLS
from skeet.venues.binance.instruments import instrument_id, unified_symbol

VENUE = "BINANCE"
SCALE = 8
EVENTS: tuple[type[Event], ...] = tuple(event_topics())


async def feed(settings: Settings, port: int, warm: int, burst: int) -> dict[str, Any]:
    """Ours. The warm frames are joined by a REST book for each symbol."""

    async def begin() -> None:
        await _begin(port)

    expected = (warm + len(SYMBOLS), burst)
    measured = await through_feed(settings, numbered_codec(EVENTS), port, VENUE, SYMBOLS, expected, begin)
    return {"records": measured.frames, "seconds": measured.seconds, "cpu_seconds": measured.cpu_seconds}


async def plain(settings: Settings, port: int, warm: int, burst: int) -> dict[str, Any]:
    """The baseline."""
    writer = _PlainWriter(numbered_codec(EVENTS), settings.kafka.topic_prefix)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka.bootstrap,
        acks="all",
        enable_idempotence=True,
        linger_ms=5,
        max_batch_size=262_144,
        compression_type="lz4",
    )
    await producer.start()
    begun: asyncio.Task[None] | None = None
    async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://127.0.0.1:{port}/stream/ws") as socket:
        await socket.send_json({"method": "SUBSCRIBE", "params": [], "id": 1})
        await socket.receive()
        for number in range(warm + burst):
            if number == warm:
                await producer.flush()
                began, cpu_began = time.perf_counter(), time.process_time()
                begun = asyncio.create_task(_begin(port))
            message = await socket.receive()
            for topic, key, value in writer.records(message.data, time.time_ns(), number):
                await producer.send(topic, value, key)
        await producer.flush()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        if begun is not None:
            await begun
    await producer.stop()
    return {"records": burst, "seconds": seconds, "cpu_seconds": cpu_seconds}


async def _begin(port: int) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/burst") as answer:
        answer.raise_for_status()


class _PlainWriter:
    def __init__(self, codec: Codec, prefix: str) -> None:
        self._topics = {event: prefix + topic for event, topic in event_topics().items()}
        self._ids = {symbol: instrument_id(VENUE, unified_symbol(symbol)) for symbol in SYMBOLS}
        self._schemas = {event: fastavro.parse_schema(committed_schema(event)) for event in EVENTS}
        self._headers = {event: b"\0" + codec.schema_id(event).to_bytes(4, "big") for event in EVENTS}

    def records(self, text: str, received_ns: int, number: int) -> list[tuple[str, bytes, bytes]]:
        frame = json.loads(text)
        common = {"instrument_id": self._ids[frame["s"]], "ts_init": received_ns}
        raw = {"venue": VENUE, "connection_id": "plain", "sequence": number, "payload": text.encode()}
        event, fields = self._event(frame, received_ns)
        return [
            self._record(RawFrame, {**common, "ts_event": received_ns, **raw}),
            self._record(event, {**common, "price_scale": SCALE, "size_scale": SCALE, **fields}),
        ]

    def _event(self, frame: dict[str, Any], received_ns: int) -> tuple[type[Event], dict[str, Any]]:
        match frame.get("e"):
            case "trade":
                return Trade, {
                    "ts_event": frame["T"] * NS_PER_MS,
                    "trade_id": str(frame["t"]),
                    "price_mantissa": _mantissa(frame["p"]),
                    "size_mantissa": _mantissa(frame["q"]),
                    "aggressor_side": "SELL" if frame["m"] else "BUY",
                    "backfilled": False,
                }
            case "depthUpdate":
                return BookDelta, {
                    "ts_event": frame["E"] * NS_PER_MS,
                    "first_update_id": frame["U"],
                    "last_update_id": frame["u"],
                    "bid_prices": [_mantissa(price) for price, _ in frame["b"]],
                    "bid_sizes": [_mantissa(size) for _, size in frame["b"]],
                    "ask_prices": [_mantissa(price) for price, _ in frame["a"]],
                    "ask_sizes": [_mantissa(size) for _, size in frame["a"]],
                }
            case _:
                return Quote, {
                    "ts_event": received_ns,
                    "update_id": frame["u"],
                    "bid_price_mantissa": _mantissa(frame["b"]),
                    "bid_size_mantissa": _mantissa(frame["B"]),
                    "ask_price_mantissa": _mantissa(frame["a"]),
                    "ask_size_mantissa": _mantissa(frame["A"]),
                }

    def _record(self, event: type[Event], values: dict[str, Any]) -> tuple[str, bytes, bytes]:
        body = io.BytesIO()
        fastavro.schemaless_writer(body, self._schemas[event], values)
        return self._topics[event], values["instrument_id"].encode(), self._headers[event] + body.getvalue()


def _mantissa(text: str) -> int:
    return int(text.replace(".", ""))


SIDES = {"feed": feed, "plain": plain}


def main() -> None:
    """Entry of ``python -m``."""
    side, port, warm, burst = sys.argv[1:5]
    found = asyncio.run(SIDES[side](load_settings(), int(port), int(warm), int(burst)))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
