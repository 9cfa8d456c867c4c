"""``skeet bench engine``: agents on whole chunks against stock Faust and a bare client, on a Kafka that it starts itself."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from statistics import median
from typing import Annotated

import typer
from confluent_kafka import Producer

from skeet.cli.bench_kafka import INSTRUMENTS, PARTITIONS, broker, create, fill, read_values
from skeet.cli.bench_process import Figures, agent_side
from skeet.cli.bench_ratio import Comparison, Floor, Json, Rounds, report
from skeet.core.errors import BugError
from skeet.core.market import Signal, Trade
from skeet.schemas.codec import numbered_codec

STOCK_RECORDS = 20_000
"""What a stock agent reads in a round: its rate does not depend on how many, and it needs a second for 10,000."""
MESSAGES_PER_SECOND = 1_000
LATENCY_S = 5
TOLERANCE = 1e-9
"""Relative difference of a signal's values that counts as equal: both sides add doubles in the same order."""

RATES = (
    # what, baseline, ours, goal, floor
    ("signals against decoding", "stock-decode", "batch-signals", 100.0, 40.0),
    ("count against count", "stock-count", "batch-count", 150.0, 60.0),
    ("signals against a bare client", "confluent", "batch-signals", 1.2, 0.5),
    ("two workers against one", "batch-signals", "two workers", 1.3, None),
)
WORKERS = 2
LATENCIES = (("p50 at 1,000 msg/s", 50, 0.7, 1.0), ("p99 at 1,000 msg/s", 99, 1.0, 1.5))


def bench_engine(
    records: Annotated[int, typer.Option(min=20_000, help="Trades in the topic, and that our sides read.")] = 3_000_000,
    rounds: Rounds = 3,
    pairs: Annotated[int, typer.Option(min=0, help="Pairs of latency runs of 5 s; 0 leaves them out.")] = 10,
    floor: Floor = None,
    as_json: Json = False,
) -> None:
    """Trades through Faust in whole chunks against stock Faust and a bare confluent-kafka loop, side by side in one run.

    Starts a Kafka of its own in a temporary directory (about 1 GB for 3 million trades). Exit 1 when a ratio is below its
    floor, or when the sides' signals differ. --floor is of the rates' ratios; without it 40, 60 and 0.5. Latencies keep
    theirs, and what two workers bring is only reported.
    """
    with broker() as bootstrap:
        create(bootstrap, "trades")
        fill(bootstrap, "trades", records)
        for number in range(WORKERS):
            create(bootstrap, f"share-{number}")
            fill(bootstrap, f"share-{number}", records // WORKERS)
        runs = [_round(bootstrap, records, number) for number in range(rounds + 1)][1:]
        compared = _compare(bootstrap, "signals-1", runs[0]["stock-decode"]["signals"])
        found = [
            _comparison(
                what,
                base,
                ours,
                [_rate(r[base]) for r in runs],
                [_rate(r[ours]) for r in runs],
                goal,
                own and (floor or own),
            )
            for what, base, ours, goal, own in RATES
        ]
        found += _latencies(bootstrap, pairs) if pairs else []
    notes = (
        f"{records:,} trades of {INSTRUMENTS} instruments in {PARTITIONS} partitions; stock Faust reads {STOCK_RECORDS:,}",
        _processor_times(runs),
        f"compared: {compared:,} signals of both sides, equal within {TOLERANCE:g}",
    )
    report("Stream engine", found, notes=notes, as_json=as_json)


def _round(bootstrap: str, records: int, number: int) -> Mapping[str, Figures]:
    """What every side found, in turn."""
    out = f"signals-{number}"
    create(bootstrap, out)
    sides = ("stock-count", "batch-count", "stock-decode", "batch-signals", "confluent")
    found = {}
    for side in sides if number % 2 else reversed(sides):
        count = min(records, STOCK_RECORDS) if side.startswith("stock") else records
        found[side] = agent_side(side, bootstrap, "trades", out, count).figures()
    found["two workers"] = _side_by_side(bootstrap, f"{out}-shares", records)
    return found


def _side_by_side(bootstrap: str, out: str, records: int) -> Figures:
    """Two workers at once, each with half of the trades: from the first one's beginning to the last one's end."""
    create(bootstrap, out)
    shares = range(WORKERS)
    sides = [agent_side("batch-signals", bootstrap, f"share-{n}", out, records // WORKERS) for n in shares]
    each = [side.figures() for side in sides]
    ended = max(found["began"] + found["seconds"] for found in each)
    return {
        "records": sum(found["records"] for found in each),
        "seconds": ended - min(found["began"] for found in each),
        "cpu_seconds": sum(found["cpu_seconds"] for found in each),
    }


def _rate(figures: Figures) -> float:
    return float(figures["records"] / figures["seconds"])


def _processor_times(runs: list[Mapping[str, Figures]]) -> str:
    """Processor time of each side: what other work on the machine disturbs least."""
    times = {
        side: median(1e9 * run[side]["cpu_seconds"] / run[side]["records"] for run in runs) for side in sorted(runs[0])
    }
    return "processor time, ns a record: " + ", ".join(f"{side} {ns:,.0f}" for side, ns in times.items())


def _compare(bootstrap: str, topic: str, plain: list[tuple[str, list[float]]]) -> int:
    """How many signals of a plain fold are in the topic as well.

    Raises
    ------
    BugError
        two differ, or one that must be there is not.
    """
    emitted: dict[tuple[str, float], list[float]] = {}
    codec = numbered_codec((Trade, Signal))
    for record in read_values(bootstrap, topic):
        signal, _ = codec.decode(record)
        if not isinstance(signal, Signal):
            raise BugError(f"a {type(signal).__name__} among the signals")
        named = dict(signal.values)
        emitted[signal.instrument_id, named["trades"]] = [named["ema"], named["imbalance"], named["rsi"]]
    for instrument, (*values, number) in plain:
        found = emitted.get((instrument, number))
        if found is None or not all(map(_equal, values, found)):
            raise BugError(f"signal {number:.0f} of {instrument}: {found}; expected {values}")
    if not plain:
        raise BugError("the plain fold has no signals to compare")
    return len(plain)


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
    create(bootstrap, topic)
    count = MESSAGES_PER_SECOND * (LATENCY_S + 1)
    process = agent_side(side, bootstrap, topic, "", count)
    process.wait_ready()
    client = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / MESSAGES_PER_SECOND - time.monotonic()))
        client.produce(topic, b"%d" % time.monotonic_ns(), partition=number % PARTITIONS)
        client.poll(0)
    client.flush(30)
    ages: list[float] = process.figures()["ages_ms"]
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
    floor: float | None,
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
