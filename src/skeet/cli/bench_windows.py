"""``skeet bench windows``: windows over trades on columns, against the same windows event by event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import typer

from skeet.cli.bench_ratio import Comparison, Floor, Json, Rounds, interleave, rate, report
from skeet.core.errors import BugError
from skeet.core.values import NS_PER_MS, NS_PER_S
from skeet.core.windows import Count, Hopping, Ohlcv, Sum, Tumbling, WeightedMean, Windows
from skeet.schemas.columns.columns import Longs
from skeet.streams.windows.columns import ColumnWindows, Events

CHUNK = 8_192
"""Trades in a chunk: the most that the batch transport hands over at once."""
BASELINE_CHUNKS = 4
"""The slow side's share of a round; of these, results are compared, too."""
INSTRUMENTS = 64
FIRST_NS = 1_760_000_000 * NS_PER_S
DISORDER_NS = 20 * NS_PER_MS
GRACE_NS = 50 * NS_PER_MS
LATE_ONE_IN = 10_000
FOLDS: dict[str, Any] = {
    "trades": Count(),
    "volume": Sum("size"),
    "vwap": WeightedMean("price", "size"),
    "candle": Ohlcv("price", "size"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Windows, and how many trades come in a second of event time: so many share a window."""

    name: str
    windows: Windows
    per_second: int
    floor: float


CASES = (
    Case(
        name="tumbling 250 ms, 200,000 trades/s",
        windows=Windows(Tumbling(size_ns=250 * NS_PER_MS), FOLDS, grace_ns=GRACE_NS),
        per_second=200_000,
        floor=5.0,
    ),
    Case(
        name="hopping 250 ms by 50 ms, 200,000 trades/s",
        windows=Windows(Hopping(size_ns=250 * NS_PER_MS, step_ns=50 * NS_PER_MS), FOLDS, grace_ns=GRACE_NS),
        per_second=200_000,
        floor=10.0,
    ),
    Case(
        name="hopping 250 ms by 50 ms, 5,000 trades/s",
        windows=Windows(Hopping(size_ns=250 * NS_PER_MS, step_ns=50 * NS_PER_MS), FOLDS, grace_ns=GRACE_NS),
        per_second=5_000,
        floor=1.2,
    ),
)


def bench_windows(
    records: Annotated[int, typer.Option(min=CHUNK, help="Trades of each case on columns.")] = 3_000_000,
    rounds: Rounds = 5,
    floor: Floor = None,
    as_json: Json = False,
) -> None:
    """Windows on chunks of columns against the same windows event by event, in turn; both sides' results compared.

    Four aggregations at once over 64 instruments; trades are up to 20 ms out of order and a few are late. Event by event
    starts from Python values: decoding them is not in its figure.
    """
    report(
        f"Windows: {records:,} trades of {INSTRUMENTS} instruments, chunks of {CHUNK:,}",
        [measured(case, records, rounds, floor) for case in CASES],
        notes=(f"compared: {CHUNK * BASELINE_CHUNKS:,} trades of each case, every window and late trade equal",),
        as_json=as_json,
    )


def measured(case: Case, records: int, rounds: int, floor: float | None = None) -> Comparison:
    """One case, after a look at whether both sides have the same results.

    Raises
    ------
    BugError
        they have not.
    """
    chunks = max(BASELINE_CHUNKS, records // (rounds * CHUNK))
    events = list(_chunks(case, chunks))
    single = [row for each in events[:BASELINE_CHUNKS] for row in _rows(each)]
    _compare(case, single, events[:BASELINE_CHUNKS])

    def one_by_one() -> None:
        state = case.windows.initial()
        for key, ts, value in single:
            case.windows.add(state, key, ts, value)

    def at_once() -> None:
        state, windows = case.windows.initial(), ColumnWindows(case.windows)
        for each in events:
            windows.add(state, each)

    ours = chunks * CHUNK
    figures = interleave(lambda: rate(len(single), one_by_one), lambda: rate(ours, at_once), rounds)
    return Comparison(
        what=case.name,
        unit="trades/s",
        baseline_name="event by event",
        our_name="columns",
        baseline=figures[0],
        ours=figures[1],
        floor=floor or case.floor,
    )


def _chunks(case: Case, count: int) -> Iterator[Events]:
    draw = np.random.default_rng(7)
    names = [f"SIM:X{number:02d}/USDT" for number in range(INSTRUMENTS)]
    for number in range(count):
        index = np.arange(number * CHUNK, (number + 1) * CHUNK, dtype=np.int64)
        ts: Longs = FIRST_NS + index * (NS_PER_S // case.per_second) - draw.integers(0, DISORDER_NS, CHUNK)
        ts[draw.integers(0, LATE_ONE_IN, CHUNK) == 0] -= NS_PER_S
        yield Events(
            keys=draw.integers(0, INSTRUMENTS, CHUNK),
            names=names,
            ts=ts,
            values={
                # Prices and sizes with eight decimal places: their products need more than 64 bits.
                "price": draw.integers(6_000_000_000_000, 6_200_000_000_000, CHUNK),
                "size": draw.integers(1, 10_000_000_000, CHUNK),
            },
        )


def _rows(events: Events) -> Iterator[tuple[str, int, dict[str, int]]]:
    price, size = (events.values[name].tolist() for name in ("price", "size"))
    for key, ts, *value in zip(events.keys.tolist(), events.ts.tolist(), price, size, strict=True):
        yield str(events.names[key]), ts, {"price": value[0], "size": value[1]}


def _compare(case: Case, single: list[tuple[str, int, dict[str, int]]], chunks: list[Events]) -> None:
    windows, columns = case.windows, ColumnWindows(case.windows)
    one, other = windows.initial(), windows.initial()
    expected = [windows.add(one, key, ts, value) for key, ts, value in single]
    found = [columns.add(other, each) for each in chunks]
    closed = [each for outcome in expected for each in outcome.closed]
    if closed != [each for outcome in found for each in outcome.closed]:
        raise BugError(f"{case.name}: columns close other windows than event by event")
    late = [each for outcome in expected for each in outcome.late]
    if late != [each for outcome in found for each in outcome.late] or one != other:
        raise BugError(f"{case.name}: columns leave other late trades, or another state, than event by event")
