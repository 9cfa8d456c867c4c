"""``skeet bench engine``: agents on whole chunks against stock Faust and a bare client, on a Kafka that it starts itself."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from skeet.cli.bench_ratio import Comparison, Json, report
from skeet.core.errors import BugError, InfrastructureError
from skeet.core.market import Signal, Trade
from skeet.core.values import NS_PER_MS, Side
from skeet.local.kafka import KafkaBroker
from skeet.schemas.codec import numbered_codec

PARTITIONS = 4
INSTRUMENTS = 64
DISTINCT = 64_000
"""Trades that are made; the topic holds them again and again, with ids and times as they are."""
STOCK_RECORDS = 20_000
"""What a stock agent reads in a round: its rate does not depend on how many, and it needs a second for 10,000."""
MESSAGES_PER_SECOND = 1_000
LATENCY_S = 5
SIDE_DEADLINE_S = 400.0
TOLERANCE = 1e-9
"""Relative difference of a signal's values that counts as equal: both sides add doubles in the same order."""

Figures = dict[str, Any]
"""A side's line of JSON."""

RATES = (
    # what, baseline, ours, goal, floor
    ("signals against decoding", "stock-decode", "batch-signals", 100.0, 40.0),
    ("count against count", "stock-count", "batch-count", 150.0, 60.0),
    ("signals against a bare client", "confluent", "batch-signals", 1.2, 0.5),
)
LATENCIES = (("p50 at 1,000 msg/s", 50, 0.7, 1.0), ("p99 at 1,000 msg/s", 99, 1.0, 1.5))


def bench_engine(
    records: Annotated[
        int, typer.Option(min=100_000, help="Trades in the topic, and that our sides read.")
    ] = 3_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of rates; one more goes before them.")] = 3,
    pairs: Annotated[int, typer.Option(min=0, help="Pairs of latency runs of 5 s; 0 leaves them out.")] = 10,
    as_json: Json = False,
) -> None:
    """Trades through Faust in whole chunks against stock Faust and a bare confluent-kafka loop, side by side in one run.

    Starts a Kafka of its own in a temporary directory (about 1 GB for 3 million trades). Exit 1 when a ratio is below its
    floor, or when the sides' signals differ.
    """
    with _broker() as bootstrap:
        _create(bootstrap, "trades")
        _fill(bootstrap, "trades", records)
        runs = [_round(bootstrap, records, number) for number in range(rounds + 1)][1:]
        compared = _compare(bootstrap, records)
        found = [
            _comparison(what, base, ours, [_rate(r[base]) for r in runs], [_rate(r[ours]) for r in runs], goal, floor)
            for what, base, ours, goal, floor in RATES
        ]
        found += _latencies(bootstrap, pairs) if pairs else []
    notes = (
        f"{records:,} trades of {INSTRUMENTS} instruments in {PARTITIONS} partitions; stock Faust reads {STOCK_RECORDS:,}",
        _processor_times(runs),
        f"compared: {compared:,} signals of both sides, equal within {TOLERANCE:g}",
    )
    report("Stream engine", found, notes=notes, as_json=as_json)


@contextmanager
def _broker() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="skeet-bench-") as home:
        broker = KafkaBroker(Path(home))
        try:
            yield broker.start()
        finally:
            broker.stop()


def _create(bootstrap: str, *topics: str) -> None:
    created = AdminClient({"bootstrap.servers": bootstrap})
    for made in created.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in topics]).values():
        made.result(30)


def _trades() -> Iterator[Trade]:
    for number in range(DISTINCT):
        yield Trade(
            instrument_id=f"BINANCE:X{number % INSTRUMENTS}/USDT",
            ts_event=1_760_000_000_000_000_000 + number * NS_PER_MS,
            ts_init=1_760_000_000_000_000_000 + number * NS_PER_MS + 250_000,
            trade_id=str(3_000_000_000 + number),
            price_mantissa=6_000_000 + (number * 7919) % 100_003,
            size_mantissa=1 + (number * 104_729) % 99_991,
            price_scale=2,
            size_scale=5,
            aggressor_side=Side.BUY if (number * 31) % 7 < 4 else Side.SELL,
        )


def _fill(bootstrap: str, topic: str, records: int) -> None:
    codec = numbered_codec((Trade, Signal))
    encoded = [(trade.instrument_id.encode(), codec.encode(trade)) for trade in _trades()]
    client = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "linger.ms": 20,
            "batch.size": 262_144,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    for number in range(records):
        key, value = encoded[number % DISTINCT]
        if number % 10_000 == 0:
            client.flush(SIDE_DEADLINE_S)
        client.produce(topic, value, key)
    if client.flush(SIDE_DEADLINE_S):
        raise InfrastructureError("the broker did not take the trades in time")


def _round(bootstrap: str, records: int, number: int) -> Mapping[str, Figures]:
    """What every side found, in turn."""
    out = f"signals-{number}"
    _create(bootstrap, out)
    sides = ("stock-count", "batch-count", "stock-decode", "batch-signals", "confluent")
    found = {}
    for side in sides if number % 2 else reversed(sides):
        count = min(records, STOCK_RECORDS) if side.startswith("stock") else records
        found[side] = _result(_started(side, bootstrap, "trades", out, count))
    return found


def _rate(figures: Figures) -> float:
    return float(figures["records"] / figures["seconds"])


def _processor_times(runs: list[Mapping[str, Figures]]) -> str:
    """Processor time of each side: what other work on the machine disturbs least."""
    times = {
        side: median(1e9 * run[side]["cpu_seconds"] / run[side]["records"] for run in runs) for side in sorted(runs[0])
    }
    return "processor time, ns a record: " + ", ".join(f"{side} {ns:,.0f}" for side, ns in times.items())


def _started(side: str, bootstrap: str, topic: str, out: str, count: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "skeet.agents.bench_sides", side, bootstrap, topic, out, str(count)]
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=quiet)


def _result(process: subprocess.Popen[str]) -> Figures:
    try:
        output, _ = process.communicate(timeout=SIDE_DEADLINE_S)
    except subprocess.TimeoutExpired as error:
        process.kill()
        raise InfrastructureError(f"{process.args!r} did not end within {SIDE_DEADLINE_S:.0f} s") from error
    if process.returncode:
        raise BugError(f"{process.args!r} ended with {process.returncode}")
    found: Figures = json.loads(output.splitlines()[-1])
    return found


def _compare(bootstrap: str, records: int) -> int:
    """How many signals of both sides are equal.

    Raises
    ------
    BugError
        two differ, or one that must be there is not.
    """
    plain = _result(_started("stock-decode", bootstrap, "trades", "", min(records, STOCK_RECORDS)))["signals"]
    emitted: dict[tuple[str, float], list[float]] = {}
    codec = numbered_codec((Trade, Signal))
    for record in _values(bootstrap, "signals-1"):
        signal, _ = codec.decode(record)
        if not isinstance(signal, Signal):
            raise BugError(f"a {type(signal).__name__} among the signals")
        values = dict(signal.values)
        emitted[signal.instrument_id, values["trades"]] = [values["ema"], values["imbalance"], values["rsi"]]
    for instrument, (*values, number) in plain:
        found = emitted.get((instrument, number))
        if found is None or not all(map(_equal, values, found)):
            raise BugError(f"signal {number:.0f} of {instrument}: {found}; expected {values}")
    return len(plain)


def _values(bootstrap: str, topic: str) -> Iterator[bytes]:
    """Every record's value, to the ends."""
    client = Consumer({"bootstrap.servers": bootstrap, "group.id": "compare", "enable.partition.eof": True})
    client.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    ended = 0
    while ended < PARTITIONS:
        message = client.poll(SIDE_DEADLINE_S)
        if message is None:
            raise InfrastructureError(f"{topic} was not read to its ends within {SIDE_DEADLINE_S:.0f} s of silence")
        if message.error():
            ended += 1
        else:
            yield message.value() or b""
    client.close()


def _equal(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _latencies(bootstrap: str, pairs: int) -> list[Comparison]:
    """Percentiles of the age at which an agent sees a record, pair by pair."""
    found: dict[str, list[list[float]]] = {"stock-latency": [], "batch-latency": []}
    for number in range(pairs):
        sides = ("stock-latency", "batch-latency")
        for side in sides if number % 2 else reversed(sides):
            found[side].append(_ages(bootstrap, side, f"{side}-{number}"))
    compared: list[Comparison] = []
    for what, percent, goal, floor in LATENCIES:
        stock, batch = ([_percentile(ages, percent) for ages in runs] for runs in found.values())
        compared.append(_comparison(what, "stock-latency", "batch-latency", stock, batch, goal, floor, unit="ms"))
    return compared


def _ages(bootstrap: str, side: str, topic: str) -> list[float]:
    """Milliseconds from a record's making to the agent; those of the first second, while the side warms up, are left out."""
    _create(bootstrap, topic)
    count = MESSAGES_PER_SECOND * (LATENCY_S + 1)
    process = _started(side, bootstrap, topic, "", count)
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise BugError(f"{side} ended before it was ready")
    client = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / MESSAGES_PER_SECOND - time.monotonic()))
        client.produce(topic, b"%d" % time.monotonic_ns(), partition=number % PARTITIONS)
        client.poll(0)
    client.flush(30)
    ages: list[float] = _result(process)["ages_ms"]
    return ages[MESSAGES_PER_SECOND:]


def _percentile(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return median(ordered) if percent == 50 else ordered[len(ordered) * percent // 100]


def _comparison(  # noqa: PLR0913, PLR0917 - a row of the table
    what: str,
    baseline: str,
    ours: str,
    baseline_figures: list[float],
    our_figures: list[float],
    goal: float,
    floor: float,
    unit: str = "records/s",
) -> Comparison:
    return Comparison(
        what=what,
        unit=unit,
        baseline_name=baseline,
        our_name=ours,
        baseline=tuple(baseline_figures),
        ours=tuple(our_figures),
        goal=goal,
        floor=floor,
        less_is_better=unit == "ms",
    )
