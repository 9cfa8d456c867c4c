"""``skeet bench windows`` compares both sides' results before their speed, and ends with 1 below its floor."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from skeet.cli import bench_windows
from skeet.cli.main import app
from skeet.core.errors import BugError
from skeet.streams.windows.columns import ColumnOutcome, ColumnWindows

RUN = ["bench", "windows", "--records", "2000", "--rounds", "1", "--json"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_windows, "CHUNK", 2_000)


def test_every_case_is_printed_and_held_against_the_floor() -> None:
    ended = CliRunner().invoke(app, [*RUN, "--floor", "0.001"])
    assert ended.exit_code == 0, ended.output
    printed = json.loads(ended.stdout)
    assert [each["what"] for each in printed["comparisons"]] == [case.name for case in bench_windows.CASES]


def test_a_ratio_below_the_floor_ends_with_1() -> None:
    assert CliRunner().invoke(app, [*RUN, "--floor", "1e9"]).exit_code == 1


def test_results_that_differ_are_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    add = ColumnWindows.add

    def less(self: ColumnWindows, *arguments: Any) -> ColumnOutcome:
        made = add(self, *arguments)
        return ColumnOutcome(made.closed[1:], made.closed_by[1:], made.late, made.late_rows)

    monkeypatch.setattr(ColumnWindows, "add", less)
    with pytest.raises(BugError, match="close other windows"):
        bench_windows.measured(bench_windows.CASES[2], 2_000, 1)
