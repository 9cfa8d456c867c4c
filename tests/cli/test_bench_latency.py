"""``skeet bench latency``: goals, floors and the one shape of all measurements."""

from __future__ import annotations

import dataclasses
import json

import pytest
import typer

from skeet.cli.bench_latency import WHOLE, comparisons
from skeet.cli.bench_ratio import report
from skeet.cli.session import HopRow, SessionFold
from skeet.config import Settings
from skeet.core.commands import SubmitOrder
from skeet.core.record import Meta, Record, TopicPosition
from skeet.core.values import NS_PER_MS
from skeet.schemas.golden import sample
from skeet.streams.topics import COMMANDS
from tests.cli.conftest import Skeet


def row(p50_ms: float, p99_ms: float) -> HopRow:
    return HopRow(hop=WHOLE, count=100, p50_ms=p50_ms, p99_ms=p99_ms)


def test_both_percentiles_are_held_against_goal_and_floor(capsys: pytest.CaptureFixture[str]) -> None:
    report("Latency", comparisons(row(14.0, 61.0), None), as_json=True)
    found = json.loads(capsys.readouterr().out)["comparisons"]
    assert [(each["goal"], each["floor"]) for each in found] == [(15.0, 40.0), (60.0, 200.0)]
    assert [(each["reached"], each["held"]) for each in found] == [(True, True), (False, True)]
    assert [each["baseline"] for each in found] == [None, None]


@pytest.mark.parametrize(("p50_ms", "p99_ms"), [(41.0, 50.0), (10.0, 201.0)])
def test_above_a_floor_it_ends_with_1(p50_ms: float, p99_ms: float, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        report("Latency", comparisons(row(p50_ms, p99_ms), None))
    assert ended.value.exit_code == 1
    assert "NOT HELD" in capsys.readouterr().out


def test_a_floor_of_ones_own_bounds_both() -> None:
    assert [each.held for each in comparisons(row(45.0, 240.0), 50.0)] == [True, True]
    assert [each.held for each in comparisons(row(55.0, 240.0), 50.0)] == [False, True]


def test_a_command_that_stands_twice_counts_from_its_first_record() -> None:
    def record(offset: int, log_ms: int) -> Record[SubmitOrder]:
        submit = dataclasses.replace(sample(SubmitOrder), rule="exit", ts_cause=NS_PER_MS)
        return Record(
            at=TopicPosition(COMMANDS.name, 0, offset), log_ns=log_ms * NS_PER_MS, event=submit, meta=sample(Meta)
        )

    fold = SessionFold().add([record(7, 5), record(8, 10_000)])

    assert [(each.hop, each.p50_ms) for each in fold.hops()] == [("cause → command", 4.0)]


@pytest.mark.integration
def test_without_orders_there_is_nothing_to_say(skeet: Skeet, installation: Settings) -> None:
    ended = skeet("bench", "latency", "--for", "5")
    assert ended.exit_code == 2
