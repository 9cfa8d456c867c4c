"""The average that `skeet bench peers` measures: equal to a plain one however the trades are cut, and whole in its snapshots."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest
from bench_chunks import CODEC, Collected, chunk_of, trades

from skeet.agents.bench_ema import Averages
from skeet.agents.bench_signals import EMA_WEIGHT, ROOM

COMPARE_AT = 20


def plain(instruments: int) -> tuple[dict[str, float], dict[str, float]]:
    """Of each instrument the average after so many trades, and at the end."""
    seen: defaultdict[str, int] = defaultdict(int)
    averages: dict[str, float] = {}
    compared: dict[str, float] = {}
    for trade in trades(3_000, instruments):
        key, price = trade.instrument_id, trade.price_mantissa / 100.0
        averages[key] = price if key not in averages else averages[key] + EMA_WEIGHT * (price - averages[key])
        seen[key] += 1
        if seen[key] == COMPARE_AT:
            compared[key] = averages[key]
    return compared, averages


@pytest.mark.parametrize(("size", "instruments"), [(1, 3), (700, 40), (3_000, 2)])
def test_averages_and_snapshots_are_those_of_a_plain_fold(size: int, instruments: int) -> None:
    averages, outputs, some = Averages(CODEC, "states", COMPARE_AT), Collected(), trades(3_000, instruments)
    target: Any = outputs
    for first in range(0, len(some), size):
        averages(chunk_of(first, some[first : first + size]), target)
    outputs.records.clear()
    averages.snapshot(target)
    compared, ends = plain(instruments)
    assert averages.compared() == pytest.approx(compared, rel=1e-12)
    snapshots = {key.decode(): json.loads(value) for _, key, value in outputs.records}
    assert {key: each["ema"] for key, each in snapshots.items()} == pytest.approx(ends, rel=1e-12)
    assert sum(each["trades"] for each in snapshots.values()) == len(some)
    assert all(each["at"] == {"trades/1": len(some)} for each in snapshots.values())


def test_more_instruments_than_the_state_had_room_for() -> None:
    averages, some = Averages(CODEC, "states", 1), trades(4 * ROOM, 2 * ROOM)
    target: Any = Collected()
    averages(chunk_of(0, some), target)
    assert len(averages.compared()) == len({trade.instrument_id for trade in some}) > ROOM
