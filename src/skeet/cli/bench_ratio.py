"""What the measurements against a baseline share: sides run in turn in one run, medians, ratios, a floor, one table.

Two figures of different runs, machines or hours say little about each other. So each round takes a figure of every side,
one right after the other and in alternating order, and the first round (imports, compilation, cold caches) is dropped.
Nothing here knows what is measured.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Annotated, Any

import typer

from skeet.cli.output import console, print_json, table

Sample = Callable[[], float]
"""One figure of one side: records per second, or milliseconds."""

Floor = Annotated[float | None, typer.Option("--floor", metavar="RATIO", help="Exit 1 below this; default: CI's.")]
Rounds = Annotated[int, typer.Option("--rounds", min=1, help="Rounds that count; one more goes before them.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Figures of a baseline and of ours, pair by pair in the order of the rounds.

    ``floor`` and ``goal`` bound the ratio ours / baseline, or our median itself where ``absolute``: from below, or from
    above where ``less_is_better``. None: it is reported and holds whatever it is. What is absolute may have no baseline.
    """

    what: str
    unit: str
    baseline_name: str
    our_name: str
    baseline: tuple[float, ...]
    ours: tuple[float, ...]
    goal: float | None = None
    floor: float | None = None
    less_is_better: bool = False
    absolute: bool = False

    @cached_property
    def ratio(self) -> float | None:
        """Our median over the baseline's; None where there is no baseline."""
        return median(self.ours) / median(self.baseline) if self.baseline else None

    @cached_property
    def ratios(self) -> tuple[float, ...]:
        """The ratio of each round: what the machine's noise leaves of it."""
        return tuple(
            ours / baseline for ours, baseline in zip(self.ours, self.baseline or (), strict=bool(self.baseline))
        )

    @property
    def held(self) -> bool:
        """Whether the ratio kept the floor."""
        return self._kept(self.floor)

    @property
    def reached(self) -> bool:
        """Whether the ratio reached the goal."""
        return self._kept(self.goal)

    def _kept(self, bound: float | None) -> bool:
        if bound is None:
            return True
        found = median(self.ours) if self.absolute else self.ratio
        if found is None:
            return False
        return found <= bound if self.less_is_better else found >= bound


def rate(records: int, run: Callable[[], object]) -> float:
    """Records per second of a call that handles so many."""
    began = time.perf_counter()
    run()
    return records / (time.perf_counter() - began)


def interleave(baseline: Sample, ours: Sample, rounds: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """So many figures of each side, taken in turn; who goes first alternates. One round before them does not count."""
    figures: tuple[list[float], list[float]] = ([], [])
    for index in range(rounds + 1):
        order = ((0, baseline), (1, ours))
        for side, sample in order if index % 2 else reversed(order):
            figures[side].append(sample())
    return tuple(figures[0][1:]), tuple(figures[1][1:])


def report(title: str, found: list[Comparison], *, notes: tuple[str, ...] = (), as_json: bool = False) -> None:
    """Print the comparisons with their ratios, and what else was seen.

    Raises
    ------
    typer.Exit
        code 1, after printing, when a ratio is on the wrong side of its floor.
    """
    if as_json:
        print_json(
            {"title": title, "machine": machine(), "notes": notes, "comparisons": [_row(each) for each in found]}
        )
    else:
        console().print(table(title, tuple(_cells(found[0])), (list(_cells(each).values()) for each in found)))
        for line in (*notes, ", ".join(f"{name} {value}" for name, value in machine().items())):
            console().print(line)
    if not all(each.held for each in found):
        raise typer.Exit(1)


def machine() -> dict[str, str | int]:
    """What the figures depend on and can be told from here."""
    return {
        "cores": os.cpu_count() or 0,
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - a pseudo-file, read line by line
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _row(each: Comparison) -> dict[str, Any]:
    return {
        "what": each.what,
        "unit": each.unit,
        "baseline": _figures(each.baseline_name, each.baseline) if each.baseline else None,
        "ours": _figures(each.our_name, each.ours),
        "ratio": None if each.ratio is None else round(each.ratio, 3),
        "ratio_range": [round(min(each.ratios), 3), round(max(each.ratios), 3)] if each.ratios else None,
        "goal": each.goal,
        "floor": each.floor,
        "bounds": each.unit if each.absolute else "ratio",
        "less_is_better": each.less_is_better,
        "held": each.held,
        "reached": each.reached,
    }


def _figures(name: str, figures: tuple[float, ...]) -> dict[str, Any]:
    return {"name": name, "median": median(figures), "min": min(figures), "max": max(figures), "all": figures}


def _cells(each: Comparison) -> dict[str, str]:
    ratio = "" if each.ratio is None else f"{each.ratio:.2f}x ({min(each.ratios):.2f}-{max(each.ratios):.2f})"
    return {
        "what": f"{each.what}, {each.unit}",
        "baseline": f"{each.baseline_name} {_spread(each.baseline)}" if each.baseline else "",
        "ours": f"{each.our_name} {_spread(each.ours)}",
        "ratio": ratio,
        "goal": ""
        if each.goal is None
        else f"{_bound(each, each.goal)} {'reached' if each.reached else 'not reached'}",
        "floor": "" if each.floor is None else f"{_bound(each, each.floor)} {'held' if each.held else 'NOT HELD'}",
    }


def _bound(each: Comparison, bound: float) -> str:
    return f"{'≤' if each.less_is_better else '≥'} {f'{bound:,.10g}' if each.absolute else f'{bound:g}x'}"


def _spread(figures: tuple[float, ...]) -> str:
    return f"{_number(median(figures))} ({_number(min(figures))}-{_number(max(figures))})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
