"""``skeet bench peers``: an average of each instrument's prices that survives, against other stream processors for Python.

The peers live in an environment of their own (:mod:`skeet.cli.bench_environment`), every side in a process of its own, all on
one Kafka that this command starts.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from statistics import median
from typing import Annotated, NamedTuple

import typer

from skeet.cli.bench_environment import peer_python, peer_versions
from skeet.cli.bench_kafka import INSTRUMENTS, PARTITIONS, broker, create, fill
from skeet.cli.bench_process import Figures, agent_side, started
from skeet.cli.bench_ratio import Comparison, Floor, Json, Rounds, report
from skeet.core.errors import BugError
from skeet.core.market import Trade
from skeet.schemas.catalogue import committed_schema

OURS = "batch-ema"
PEERS = ("quix", "bytewax")
BARE = ("confluent-decode", "aiokafka-decode")
TOLERANCE = 1e-9
"""Relative difference of an average that counts as equal: all sides add the same doubles in the same order."""


class Row(NamedTuple):
    """A row of the table: goal and floor of the ratio, None where there is none."""

    what: str
    baseline: str
    goal: float | None = None
    floor: float | None = None


ROWS = (
    Row("stateful EMA, against Quix Streams", "quix", 25.0, 12.0),
    Row("keyed EMA, against bytewax", "bytewax", 8.0, 4.0),
    Row("EMA, against confluent-kafka and fastavro alone", "confluent-decode"),
    Row("EMA, against aiokafka and fastavro alone", "aiokafka-decode"),
)


def bench_peers(
    records: Annotated[int, typer.Option(min=20_000, help="Trades that our side reads.")] = 3_000_000,
    peer_records: Annotated[
        int, typer.Option(min=10_000, help="Trades that each peer reads: the first of ours.")
    ] = 300_000,
    rounds: Rounds = 3,
    floor: Floor = None,
    as_json: Json = False,
) -> None:
    """An EMA of each instrument, state snapshots on, against Quix Streams and bytewax; bare clients beside them.

    Makes an environment for the peers on first use (a minute, 300 MB in the user's cache directory), and starts a Kafka of
    its own. Exit 1 when a ratio is below its floor (without --floor: 12 and 4), or when the sides' averages differ.
    """
    python = peer_python()
    peer_records = peer_records // INSTRUMENTS * INSTRUMENTS
    with broker() as bootstrap:
        create(bootstrap, "trades", "few")
        fill(bootstrap, "trades", records)
        fill(bootstrap, "few", peer_records)
        runs = [_round(bootstrap, python, records, peer_records, number) for number in range(rounds + 1)]
    for run in runs:
        compare(run, INSTRUMENTS)
    counted = runs[1:]
    notes = (
        f"{records:,} trades of {INSTRUMENTS} instruments in {PARTITIONS} partitions; peers and bare clients read the first "
        f"{peer_records:,}; {', '.join(f'{name} {version}' for name, version in peer_versions().items())}",
        "processor time, ns a record: "
        + ", ".join(f"{side} {_processor_ns(counted, side):,.0f}" for side in (OURS, *PEERS, *BARE)),
        f"compared: {INSTRUMENTS} averages of every side in every round, equal within {TOLERANCE:g}",
    )
    report("Peers", [_comparison(counted, each, floor) for each in ROWS], notes=notes, as_json=as_json)


def _round(bootstrap: str, python: Path, records: int, peer_records: int, number: int) -> Mapping[str, Figures]:
    """What every side found, in turn; who goes first alternates."""
    out, sides = f"states-{number}", (OURS, *PEERS, *BARE)
    create(bootstrap, out)
    found = {}
    for side in sides if number % 2 else reversed(sides):
        if side in PEERS:
            found[side] = peer_figures(python, side, bootstrap, "few", peer_records)
        else:
            topic, count = ("trades", records) if side == OURS else ("few", peer_records)
            found[side] = agent_side(side, bootstrap, topic, out, count, peer_records // INSTRUMENTS).figures()
    return found


def peer_figures(python: Path, side: str, bootstrap: str, topic: str, count: int) -> Figures:
    """What a peer found, whose scratch directory is gone then.

    Raises
    ------
    BugError, InfrastructureError
        it failed, or did not end.
    """
    script = as_file(files("skeet.cli") / "bench_peer_side.py")
    with script as path, tempfile.TemporaryDirectory(prefix="skeet-peer-") as scratch:
        schema = Path(scratch) / "trade.avsc"
        schema.write_text(json.dumps(committed_schema(Trade)), encoding="utf-8")
        state = Path(scratch) / "state"
        state.mkdir()
        words = (str(python), "-P", str(path), side, bootstrap, topic, str(count), str(schema), str(state))
        return started(words).figures()


def compare(run: Mapping[str, Figures], instruments: int) -> None:
    """Nothing, where each peer has the averages that ours has.

    Raises
    ------
    BugError
        one differs, or is not there.
    """
    ours = run[OURS]["ema"]
    if len(ours) != instruments:
        raise BugError(f"{OURS} has averages of {len(ours)} instruments; expected {instruments}")
    for peer in PEERS:
        theirs = run[peer]["ema"]
        if ours.keys() != theirs.keys():
            raise BugError(f"{peer} has averages of {len(theirs)} instruments; expected {instruments}")
        for instrument, average in ours.items():
            if not math.isclose(average, theirs[instrument], rel_tol=TOLERANCE):
                raise BugError(f"average of {instrument}: {OURS} {average}, {peer} {theirs[instrument]}")


def _rate(figures: Figures) -> float:
    return float(figures["records"] / figures["seconds"])


def _processor_ns(runs: list[Mapping[str, Figures]], side: str) -> float:
    return median(1e9 * float(run[side]["cpu_seconds"] / run[side]["records"]) for run in runs)


def _comparison(runs: list[Mapping[str, Figures]], row: Row, floor: float | None) -> Comparison:
    return Comparison(
        what=row.what,
        unit="records/s",
        baseline_name=row.baseline,
        our_name=OURS,
        baseline=tuple(_rate(run[row.baseline]) for run in runs),
        ours=tuple(_rate(run[OURS]) for run in runs),
        goal=row.goal,
        floor=row.floor if row.floor is None or floor is None else floor,
    )
