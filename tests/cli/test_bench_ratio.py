"""Medians, ratios and floors of the measurements against a baseline."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import typer

from skeet.cli.bench_ratio import Comparison, interleave, report

TRIPLED = Comparison(
    what="decode",
    unit="records/s",
    baseline_name="theirs",
    our_name="ours",
    baseline=(100.0, 90.0, 110.0),
    ours=(290.0, 300.0, 900.0),
    floor=2.5,
    goal=3.5,
)


def test_sides_are_sampled_in_turn_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    def side(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    baseline, ours = interleave(lambda: side("theirs"), lambda: side("ours"), rounds=2)
    assert calls == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert (baseline, ours) == ((3.0, 6.0), (4.0, 5.0))


def test_ratio_is_of_medians_and_each_round_has_its_own() -> None:
    assert TRIPLED.ratio == 3.0
    assert TRIPLED.ratios == pytest.approx((2.9, 300 / 90, 900 / 110))
    assert (TRIPLED.held, TRIPLED.reached) == (True, False)


def test_less_is_better_turns_the_bounds_round() -> None:
    slower = replace(TRIPLED, less_is_better=True)
    assert not slower.held
    assert slower.reached


def test_a_ratio_below_its_floor_is_printed_and_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        report("Codec", [replace(TRIPLED, floor=3.1)], as_json=True)
    assert ended.value.exit_code == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["comparisons"][0]["held"] is False
    assert printed["machine"]["cores"] > 0


def test_a_table_shows_ratio_goal_and_floor(capsys: pytest.CaptureFixture[str]) -> None:
    report("Codec", [TRIPLED], notes=("compared: equal",))
    shown = capsys.readouterr().out
    for part in ("3.00x", "≥ 3.5x not reached", "≥ 2.5x held", "compared: equal"):
        assert part in shown
