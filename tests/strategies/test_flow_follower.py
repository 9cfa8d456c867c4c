"""The example with windows: it follows a rush of buyers, and its open windows can be written down with its memory."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from skeet.core.commands import SubmitOrder
from skeet.core.strategy.memory import memory_from_bytes, memory_to_bytes
from skeet.core.values import Side
from skeet.strategies.testing import Bench

EXAMPLE = Path(__file__).parents[2] / "examples" / "flow_follower.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("flow_follower", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["flow_follower"] = module
    spec.loader.exec_module(module)
    return module


def rush(bench: Bench, side: Side, count: int = 12) -> list[Any]:
    asked = []
    for _ in range(count):
        bench.wait(0.03)
        asked += bench.trade("100", "0.5", side)
    return asked


def bench_of(example: ModuleType) -> Bench:
    bench = Bench(example.FlowFollower(example.Parameters()))
    bench.quote("99.99", "100.01")
    bench.start()
    return bench


def test_it_buys_in_a_rush_of_buyers_and_sells_when_it_is_over(example: ModuleType) -> None:
    bench = bench_of(example)
    asked = rush(bench, Side.BUY)
    assert [(order.side, order.rule) for order in asked] == [(Side.BUY, "rush")]
    assert isinstance(asked[0], SubmitOrder)
    bench.fill()
    assert [(order.side, order.rule) for order in rush(bench, Side.SELL)] == [(Side.SELL, "over")]


def test_it_stays_out_while_sellers_are_as_many(example: ModuleType) -> None:
    bench = bench_of(example)
    asked = [order for n in range(20) for order in rush(bench, Side.BUY if n % 2 else Side.SELL, count=1)]
    assert asked == []


def test_its_open_windows_are_part_of_what_a_checkpoint_holds(example: ModuleType) -> None:
    bench = bench_of(example)
    rush(bench, Side.SELL, count=4)
    memory = bench.state.user
    assert memory.windows.aligned
    assert memory_from_bytes(memory_to_bytes(memory)) == memory
