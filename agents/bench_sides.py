"""Our sides, stock Faust's and the bare clients' of ``skeet bench engine`` and ``peers``, each run in a process of its own.

``python -m skeet.agents.bench_sides SIDE BOOTSTRAP TOPIC OUT COUNT COMPARE_AT`` reads so many records of the topic under a new
consumer group and prints one line of JSON: records and seconds without the first event, and what the comparison needs.
The latency sides print ``ready`` when they have their partitions, and a line with the milliseconds of every record.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fastavro
import faust

from skeet.agents.bench_bare import BARE
from skeet.agents.bench_clock import Clock
from skeet.agents.bench_ema import Averages
from skeet.agents.bench_signals import EMA_WEIGHT, EVERY, IMBALANCE_KEPT, RSI_PERIOD, TickSignals
from skeet.core.market import Signal, Trade
from skeet.schemas.catalogue import committed_schema
from skeet.schemas.codec import HEADER, numbered_codec
from skeet.streams.batches.app import batch_app, each_chunk
from skeet.streams.batches.chunk import Chunk
from skeet.streams.batches.emission import Outputs

SIDE_DEADLINE_S = 300.0


def _stock_app(bootstrap: str) -> Any:
    """Faust as it comes, but for what would need a directory, a port or topics of its own."""
    return faust.App(
        f"bench-{uuid.uuid4().hex[:8]}",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        datadir=Path("/nonexistent"),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
    )


def _raw_topic(app: Any, topic: str) -> Any:
    return app.topic(topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


def stock_count(bootstrap: str, topic: str, _: str, clock: Clock) -> Any:
    """A stock agent that counts."""
    app = _stock_app(bootstrap)

    async def count(stream: Any) -> None:
        async for _ in stream:
            clock.add(1)

    app.agent(_raw_topic(app, topic), name="count")(count)
    return app


def stock_decode(bootstrap: str, topic: str, _: str, clock: Clock) -> Any:
    """A stock agent that decodes with fastavro, and keeps what the comparison needs."""
    app, schema, kept = _stock_app(bootstrap), fastavro.parse_schema(committed_schema(Trade)), []

    async def decode(stream: Any) -> None:
        async for value in stream:
            kept.append(fastavro.schemaless_reader(io.BytesIO(value[HEADER.size :]), schema))
            clock.add(1)
            if clock.done.is_set():
                clock.found.setdefault("signals", _signals_of(kept))

    app.agent(_raw_topic(app, topic), name="decode")(decode)
    return app


def _signals_of(trades: list[Any]) -> list[tuple[str, list[float]]]:
    """The signals of these trades, one by one in plain Python: what the compiled fold is compared with."""
    kept: dict[str, list[Any]] = defaultdict(list)
    for trade in trades:
        kept[trade["instrument_id"]].append(trade)
    found: list[tuple[str, list[float]]] = []
    for instrument, history in kept.items():
        ema = imbalance = gain = loss = last = 0.0
        for number, trade in enumerate(history, start=1):
            price = trade["price_mantissa"] / 10.0 ** trade["price_scale"]
            size = trade["size_mantissa"] / 10.0 ** trade["size_scale"]
            if number == 1:
                ema = price
            else:
                ema += EMA_WEIGHT * (price - ema)
                gain += (max(price - last, 0.0) - gain) / RSI_PERIOD
                loss += (max(last - price, 0.0) - loss) / RSI_PERIOD
            imbalance = IMBALANCE_KEPT * imbalance + (size if trade["aggressor_side"] == "BUY" else -size)
            last = price
            if number % EVERY == 0:
                rsi = 100.0 * gain / (gain + loss) if gain + loss > 0 else 50.0
                found.append((instrument, [ema, imbalance, rsi, float(number)]))
    return found


def batch_count(bootstrap: str, topic: str, _: str, clock: Clock) -> Any:
    """A batch agent that counts."""

    def count(chunk: Chunk, _: Outputs) -> None:
        clock.add(len(chunk))

    return _batch_app(bootstrap, topic, count)


def batch_signals(bootstrap: str, topic: str, out: str, clock: Clock) -> Any:
    """A batch agent that decodes, folds and emits."""
    signals = TickSignals(numbered_codec((Trade, Signal)), out)

    def handle(chunk: Chunk, outputs: Outputs) -> None:
        signals(chunk, outputs)
        clock.add(len(chunk))

    return _batch_app(bootstrap, topic, handle)


def batch_ema(bootstrap: str, topic: str, out: str, clock: Clock) -> Any:
    """A batch agent that decodes, keeps an average of each instrument, and writes snapshots of its state."""
    averages = Averages(numbered_codec((Trade, Signal)), out, clock.compare_at)

    def handle(chunk: Chunk, outputs: Outputs) -> None:
        averages(chunk, outputs)
        if clock.ends_with(len(chunk)):
            averages.snapshot(outputs)
        clock.add(len(chunk))
        if clock.done.is_set():
            clock.found.setdefault("ema", averages.compared())

    return _batch_app(bootstrap, topic, handle)


def _batch_app(bootstrap: str, topic: str, handle: Callable[[Chunk, Outputs], None]) -> Any:
    app = batch_app(f"bench-{uuid.uuid4().hex[:8]}", bootstrap)
    app.agent(app.topic(topic, value_type=bytes), concurrency=1, name="measured")(each_chunk(app, handle))
    return app


def stock_latency(bootstrap: str, topic: str, _: str, clock: Clock) -> Any:
    """A stock agent that notes how old each record is."""
    app, ages = _stock_app(bootstrap), []

    async def note(stream: Any) -> None:
        async for value in stream:
            ages.append((time.monotonic_ns() - int(value)) / 1e6)
            clock.add(1)
            if clock.done.is_set():
                clock.found["ages_ms"] = ages

    app.agent(_raw_topic(app, topic), name="note")(note)
    return app


def batch_latency(bootstrap: str, topic: str, _: str, clock: Clock) -> Any:
    """A batch agent that notes how old each record is."""
    ages: list[float] = []

    def note(chunk: Chunk, _: Outputs) -> None:
        now = time.monotonic_ns()
        ages.extend((now - int(value or 0)) / 1e6 for value in chunk.values())
        clock.add(len(chunk))
        if clock.done.is_set():
            clock.found["ages_ms"] = ages

    return _batch_app(bootstrap, topic, note)


SIDES: Mapping[str, Callable[[str, str, str, Clock], Any]] = {
    "stock-count": stock_count,
    "stock-decode": stock_decode,
    "stock-latency": stock_latency,
    "batch-count": batch_count,
    "batch-signals": batch_signals,
    "batch-latency": batch_latency,
    "batch-ema": batch_ema,
}


async def _run(side: str, bootstrap: str, topic: str, out: str, clock: Clock) -> dict[str, Any]:
    app = SIDES[side](bootstrap, topic, out, clock)
    await app.start()
    while not app.consumer.assignment():  # noqa: ASYNC110 - Faust has no event for it
        await asyncio.sleep(0.05)
    gc.collect()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.wait_for(clock.done.wait(), SIDE_DEADLINE_S)
    await asyncio.wait_for(app.stop(), SIDE_DEADLINE_S)
    return clock.found


def main() -> None:
    side, bootstrap, topic, out, count, compare_at = sys.argv[1:7]
    if side in BARE:
        found = BARE[side](bootstrap, topic, int(count))
    else:
        found = asyncio.run(_run(side, bootstrap, topic, out, Clock(int(count), int(compare_at))))
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    # Faust's threads may outlive it.
    os._exit(0)


if __name__ == "__main__":
    main()
