"""``skeet bench latency``: from a tick to an order at the venue's socket, hop by hop, on the platform as it runs now.

It adds no load of its own: it notes where the log ends, waits, and folds what the strategies did in between. With a rate
it steers the simulated market meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import typer

from skeet.cli.bench_rate import HeldRate
from skeet.cli.bench_ratio import Comparison, Json, report
from skeet.cli.output import console, count_down, table
from skeet.cli.session import HopRow, SessionFold, hop_cells
from skeet.config import Settings, load_settings
from skeet.core.errors import InvalidInput
from skeet.streams.ranges import Partition, records_between, watermarks
from skeet.streams.reading import partitions_of
from skeet.streams.registry import registered_codec
from skeet.streams.topics import ACCOUNT_EVENTS, COMMANDS, MARKET_RAW, REPORTS

WHOLE = "tick → socket"
GOAL_P50_MS, FLOOR_P50_MS = 15.0, 40.0
GOAL_P99_MS, FLOOR_P99_MS = 60.0, 200.0
"""At 1,000 ticks a second with everything running on two cores; the floor is what noisy machines keep too."""
P99_OF_P50 = FLOOR_P99_MS / FLOOR_P50_MS
STATED_RATE = 1_000
"""Frames a second that goals and floors are stated for."""
MIN_ORDERS = 30
"""Fewer say nothing about a 99th percentile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """The hops of ``seconds`` of trading at ``frames_per_second``."""

    seconds: float
    frames_per_second: float
    hops: list[HopRow]

    @property
    def whole(self) -> HopRow | None:
        """Tick to socket; None when nothing was ordered because of a tick."""
        return next((row for row in self.hops if row.hop == WHOLE), None)


def bench_latency(
    for_s: Annotated[int, typer.Option("--for", min=5, metavar="SECONDS", help="How long to measure.")] = 60,
    floor_ms: Annotated[
        float | None,
        typer.Option("--floor", metavar="MS", help="Exit 1 when p50 is above it, or p99 above five times it."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=1, metavar="FRAMES", help="Hold the simulated market at so many frames a second; afterwards as before."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tick to order at the venue's socket, a row for each hop, of strategies that trade now (``skeet demo --no-watch``).

    Without --floor p50 may be 40 ms and p99 200 ms. Goals and floors are stated for 1,000 frames a second.
    """
    found = measure(load_settings(), for_s, rate)
    if not as_json:
        title = f"{found.seconds:.0f} s at {found.frames_per_second:.0f} frames a second, ms"
        console().print(table(title, ("hop", "orders", "p50", "p99"), map(hop_cells, found.hops)))
    whole = found.whole
    if whole is None or whole.count < MIN_ORDERS:
        raise InvalidInput(
            f"{0 if whole is None else whole.count} orders because of a tick in {for_s} s; at least {MIN_ORDERS} are "
            "needed: let strategies trade (`skeet demo --no-watch`), or measure longer (--for)"
        )
    report("Latency", comparisons(whole, floor_ms), notes=_notes(found), as_json=as_json)


def comparisons(whole: HopRow, floor_ms: float | None) -> list[Comparison]:
    """The two percentiles against goals and floors; there is no baseline."""
    floors = (FLOOR_P50_MS, FLOOR_P99_MS) if floor_ms is None else (floor_ms, floor_ms * P99_OF_P50)
    rows = (("p50", whole.p50_ms, GOAL_P50_MS, floors[0]), ("p99", whole.p99_ms, GOAL_P99_MS, floors[1]))
    return [
        Comparison(
            what=f"{WHOLE}, {name}",
            unit="ms",
            baseline_name="",
            our_name="skeet",
            baseline=(),
            ours=(found,),
            goal=goal,
            floor=floor,
            less_is_better=True,
            absolute=True,
        )
        for name, found, goal, floor in rows
    ]


def _notes(found: Latency) -> tuple[str, ...]:
    hops = (f"{row.hop}: {row.count} orders, p50 {row.p50_ms:g} ms, p99 {row.p99_ms:g} ms" for row in found.hops)
    rate = f"{found.seconds:.0f} s at {found.frames_per_second:.0f} frames a second"
    return (rate + ("" if found.frames_per_second >= 0.9 * STATED_RATE else f", not {STATED_RATE:,}"), *hops)


def measure(settings: Settings, seconds: float, rate: float | None = None) -> Latency:
    """Wait so long, and fold what was written meanwhile; with the simulated market held at a rate of frames a second."""
    if rate is None:
        return _measured(settings, seconds, lambda: None)
    with HeldRate(settings, rate) as market:
        market.settle()
        return _measured(settings, seconds, market.look)


def _measured(settings: Settings, seconds: float, meanwhile: Callable[[], None]) -> Latency:
    frames = partitions_of(settings, [MARKET_RAW])
    folded = partitions_of(settings, [COMMANDS, REPORTS, ACCOUNT_EVENTS])
    before, began = _ends(settings, frames + folded), time.monotonic()
    count_down("measuring", seconds, meanwhile)
    after, took = _ends(settings, frames + folded), time.monotonic() - began
    ranges = {partition: (before[partition], after[partition]) for partition in folded}
    fold = SessionFold().add(records_between(settings, registered_codec(settings), ranges))
    return Latency(
        seconds=round(took, 1),
        frames_per_second=round(sum(after[p] - before[p] for p in frames) / took, 1),
        hops=fold.hops(),
    )


def _ends(settings: Settings, partitions: list[Partition]) -> dict[Partition, int]:
    return {partition: end for partition, (_, end) in watermarks(settings, partitions).items()}
