"""Peers' sides of ``skeet bench peers``: a script for an environment that holds the peers and not us.

``python -P bench_peer_side.py SIDE BOOTSTRAP TOPIC COUNT SCHEMA SCRATCH`` reads the topic's COUNT trades (all of them), keeps an
EMA of each instrument's prices with the peer's own state, and prints one line of JSON: records and seconds without the
first, processor time, and the averages at the end. Only the standard library is imported before the side is known.
"""

from __future__ import annotations

import io
import json
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

EMA_WEIGHT = 0.02
HEADER_BYTES = 5
FETCHING = {"queued.min.messages": "1000000", "fetch.queue.backoff.ms": "5"}
"""librdkafka stalls between fetches without these; the bare loop has them too."""

BYTEWAX_BATCH = 10_000
"""Records of a poll at most; bytewax's documentation calls its default of 1,000 a start for throughput."""

Read = Callable[[Any], Any]


class Clock:
    """Counts records, and takes the time from the end of the first event on."""

    def __init__(self, count: int) -> None:
        self.count, self.records, self.left_out = count, 0, 0
        self.began = self.cpu_began = self.ended = self.cpu_ended = 0.0

    def add(self, records: int) -> None:
        """So many more."""
        self.records += records
        if not self.began:
            self.left_out, self.began, self.cpu_began = records, time.perf_counter(), time.process_time()
        elif self.records >= self.count and not self.ended:
            self.ended, self.cpu_ended = time.perf_counter(), time.process_time()

    def found(self, averages: dict[str, float]) -> dict[str, Any]:
        """What is printed."""
        return {
            "records": self.records - self.left_out,
            "seconds": self.ended - self.began,
            "cpu_seconds": self.cpu_ended - self.cpu_began,
            "ema": averages,
        }


def _moved(average: float | None, price: float) -> float:
    return price if average is None else average + EMA_WEIGHT * (price - average)


def quix(bootstrap: str, topic: str, scratch: Path, read: Read, clock: Clock) -> dict[str, float]:
    """Quix Streams: state in RocksDB with a changelog topic, a checkpoint every 5 s: its defaults."""
    from quixstreams import Application

    app = Application(
        broker_address=bootstrap,
        consumer_group=f"quix-{uuid.uuid4().hex[:8]}",
        auto_offset_reset="earliest",
        state_dir=scratch,
        loglevel="ERROR",
        consumer_extra_config=FETCHING,
    )
    averages: dict[str, float] = {}

    def average(value: bytes, state: Any) -> float:
        trade = read(value)
        price = trade["price_mantissa"] / 10.0 ** trade["price_scale"]
        moved = _moved(state.get("ema"), price)
        state.set("ema", moved)
        averages[trade["instrument_id"]] = moved
        clock.add(1)
        return moved

    trades = app.dataframe(app.topic(topic, key_deserializer="str", value_deserializer="bytes"))
    trades.apply(average, stateful=True)
    app.run(count=clock.count, timeout=60.0, collect=False)
    return averages


def bytewax(bootstrap: str, topic: str, scratch: Path, read: Read, clock: Clock) -> dict[str, float]:
    """bytewax: one worker, decoding by whole batches, a stateful operator on batches, recovery snapshots every 10 s."""
    from bytewax import operators
    from bytewax.connectors.kafka import KafkaSource
    from bytewax.dataflow import Dataflow
    from bytewax.operators import StatefulBatchLogic
    from bytewax.outputs import DynamicSink, StatelessSinkPartition
    from bytewax.recovery import RecoveryConfig, init_db_dir
    from bytewax.run import cli_main

    averages: dict[str, float] = {}

    class Average(StatefulBatchLogic):  # type: ignore[misc]
        def __init__(self, average: float | None) -> None:
            self.average = average

        def on_batch(self, batch: list[float]) -> Any:
            for price in batch:
                self.average = _moved(self.average, price)
            clock.add(len(batch))
            return (self.average,), StatefulBatchLogic.RETAIN

        def snapshot(self) -> float | None:
            return self.average

    class Last(StatelessSinkPartition):  # type: ignore[misc]
        def write_batch(self, items: Any) -> None:
            averages.update(items)

    class Lasts(DynamicSink):  # type: ignore[misc]
        def build(self, *_: Any) -> Any:
            return Last()

    def decoded(messages: list[Any]) -> list[tuple[str, float]]:
        trades = [read(message.value) for message in messages]
        return [(trade["instrument_id"], trade["price_mantissa"] / 10.0 ** trade["price_scale"]) for trade in trades]

    flow = Dataflow("ema")
    source = KafkaSource([bootstrap], [topic], tail=False, batch_size=BYTEWAX_BATCH, add_config=FETCHING)
    prices = operators.flat_map_batch("decode", operators.input("trades", flow, source), decoded)
    keyed = operators.stateful_batch("ema", prices, Average)
    operators.output("lasts", keyed, Lasts())
    init_db_dir(scratch, 1)
    cli_main(flow, workers_per_process=1, recovery_config=RecoveryConfig(scratch))
    return averages


SIDES = {"quix": quix, "bytewax": bytewax}


def main() -> None:
    side, bootstrap, topic, count, schema, scratch = sys.argv[1:7]
    import fastavro

    parsed = fastavro.parse_schema(json.loads(Path(schema).read_text()))
    reader = fastavro.schemaless_reader

    def read(value: Any) -> Any:
        return reader(io.BytesIO(value[HEADER_BYTES:]), parsed)

    clock = Clock(int(count))
    averages = SIDES[side](bootstrap, topic, Path(scratch), read, clock)
    sys.stdout.write(json.dumps(clock.found(averages)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
