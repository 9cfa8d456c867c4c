"""``skeet bench latency``: from a tick to an order at the venue's socket, hop by hop, on the platform as it runs now.

It adds no load of its own: it notes where the log ends, waits, and folds what the strategies did in between.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

import typer

from skeet.cli.output import console, count_down, print_json, table
from skeet.cli.session import HopRow, SessionFold, hop_cells
from skeet.config import Settings, load_settings
from skeet.core.errors import InvalidInput
from skeet.streams.ranges import Partition, records_between, watermarks
from skeet.streams.reading import partitions_of
from skeet.streams.registry import registered_codec
from skeet.streams.topics import ACCOUNT_EVENTS, COMMANDS, MARKET_RAW, REPORTS

WHOLE = "tick → socket"
FLOOR_P50_MS = 60.0
FLOOR_P99_MS = 300.0
"""What every machine of two cores must reach with everything running; the goal is half of both."""
MIN_ORDERS = 30
"""Fewer say nothing about a 99th percentile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """The hops of ``seconds`` of trading at ``frames_per_second``, and whether the whole way kept within the limits."""

    seconds: float
    frames_per_second: float
    hops: list[HopRow]
    max_p50_ms: float
    max_p99_ms: float

    @property
    def whole(self) -> HopRow | None:
        """Tick to socket; None when nothing was ordered because of a tick."""
        return next((row for row in self.hops if row.hop == WHOLE), None)

    @property
    def within(self) -> bool:
        """Whether tick to socket kept the limits."""
        return self.whole is not None and self.whole.p50_ms <= self.max_p50_ms and self.whole.p99_ms <= self.max_p99_ms


def bench_latency(
    for_s: Annotated[int, typer.Option("--for", min=5, metavar="SECONDS", help="How long to measure.")] = 60,
    max_p50_ms: Annotated[float, typer.Option("--max-p50", metavar="MS", help="Exit 1 above this.")] = FLOOR_P50_MS,
    max_p99_ms: Annotated[float, typer.Option("--max-p99", metavar="MS", help="Exit 1 above this.")] = FLOOR_P99_MS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tick to order at the venue's socket, a row for each hop, of strategies that trade now (``skeet demo --no-watch``)."""
    settings = load_settings()
    found = measure(settings, for_s, max_p50_ms, max_p99_ms)
    if as_json:
        print_json(found)
    else:
        _show(found)
    if found.whole is None or found.whole.count < MIN_ORDERS:
        made = 0 if found.whole is None else found.whole.count
        raise InvalidInput(
            f"{made} orders because of a tick in {for_s} s; at least {MIN_ORDERS} are needed: "
            "let strategies trade (`skeet demo --no-watch`), or measure longer (--for)"
        )
    if not found.within:
        raise typer.Exit(1)


def measure(settings: Settings, seconds: float, max_p50_ms: float, max_p99_ms: float) -> Latency:
    """Wait so long, and fold what was written meanwhile."""
    frames = partitions_of(settings, [MARKET_RAW])
    folded = partitions_of(settings, [COMMANDS, REPORTS, ACCOUNT_EVENTS])
    before, began = _ends(settings, frames + folded), time.monotonic()
    count_down("measuring", seconds)
    after, took = _ends(settings, frames + folded), time.monotonic() - began
    ranges = {partition: (before[partition], after[partition]) for partition in folded}
    fold = SessionFold().add(records_between(settings, registered_codec(settings), ranges))
    return Latency(
        seconds=round(took, 1),
        frames_per_second=round(sum(after[p] - before[p] for p in frames) / took, 1),
        hops=fold.hops(),
        max_p50_ms=max_p50_ms,
        max_p99_ms=max_p99_ms,
    )


def _ends(settings: Settings, partitions: list[Partition]) -> dict[Partition, int]:
    return {partition: end for partition, (_, end) in watermarks(settings, partitions).items()}


def _show(found: Latency) -> None:
    out = console()
    title = f"{found.seconds:.0f} s at {found.frames_per_second:.0f} frames a second, ms"
    out.print(table(title, ("hop", "orders", "p50", "p99"), map(hop_cells, found.hops)))
    out.print(f"limits: p50 {found.max_p50_ms:g} ms, p99 {found.max_p99_ms:g} ms: ", end="")
    out.print("[green]kept[/green]" if found.within else "[red]not kept[/red]")
