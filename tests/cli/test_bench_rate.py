"""Steering the simulated market to a rate of frames."""

from __future__ import annotations

import random

import pytest

from skeet.cli.bench_rate import FASTEST, SLOWEST, next_speed


@pytest.mark.parametrize("begins_at", [0.5, 30.0, 900.0])
def test_a_market_that_follows_its_speed_is_at_the_rate_after_a_few_looks(begins_at: float) -> None:
    speed = begins_at
    for _ in range(15):
        speed = next_speed(speed, found=25 * speed, wanted=1_000)
    assert speed == pytest.approx(40, rel=0.02)


def test_a_market_that_swings_threefold_is_held_near_the_rate() -> None:
    swings, speed, seen = random.Random(3), 40.0, []
    for _ in range(400):
        found = 25 * speed * swings.uniform(0.5, 1.5)
        seen.append(found)
        speed = next_speed(speed, found, 1_000)
    assert sum(seen) / len(seen) == pytest.approx(1_000, rel=0.1)


def test_no_look_changes_the_speed_by_more_than_twice() -> None:
    assert next_speed(10, found=0, wanted=1_000) == 20
    assert next_speed(10, found=1, wanted=1_000) == 20
    assert next_speed(10, found=1_000_000, wanted=1) == 5
    assert next_speed(FASTEST, found=0, wanted=1) == FASTEST
    assert next_speed(SLOWEST, found=1_000, wanted=1) == SLOWEST
