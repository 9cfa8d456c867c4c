"""A strategy instance dies around its journal and in its checkpoint: what it goes on to send is what it would have sent."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from live import events, wait_for
from market_records import SYMBOL
from test_strategy_journal_live import INSTRUMENT, STRATEGY, agents_again, market

from skeet.cli.strategy import post, started_event
from skeet.config import Settings
from skeet.core.commands import SubmitOrder
from skeet.schemas.codec import Codec
from skeet.streams.crash_points import (
    STRATEGY_AFTER_COMMANDS,
    STRATEGY_AFTER_JOURNAL,
    STRATEGY_IN_CHECKPOINT,
    Arming,
    chaos_directory,
)
from skeet.streams.topics import COMMANDS

pytestmark = pytest.mark.integration

ORDERS_BETWEEN = 10
START_S = 90


def test_deaths_around_journal_and_checkpoint_change_no_command(
    settings: Settings,
    codec: Codec,
    publish: Callable[..., None],
    role: Callable[[str], subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SKEET_CHAOS__ENABLED", "1")
    monkeypatch.setenv("SKEET_STRATEGY__LIMITS__COMMANDS_PER_SECOND", "1000")  # it orders at every quote
    (settings.data / "strategies").mkdir()
    (settings.data / "strategies" / "mixed.py").write_text(STRATEGY)
    publish("instruments.v1", INSTRUMENT)
    post(settings, started_event(settings, "alpha", "mixed", SYMBOL, {}), "alpha", "acc-1")
    role("strategies")
    log, points = settings.data / "strategies.log", chaos_directory(settings)

    def commands() -> list[Any]:
        return events(settings, codec, COMMANDS, SubmitOrder)

    def more_orders(after: str) -> None:
        seen = len(commands())
        wait_for(lambda: len(commands()) >= seen + ORDERS_BETWEEN, 60, f"orders after {after}")

    wait_for(lambda: log.read_text().count('"event": "ready"') >= 2, START_S, "instance ready")
    with market(settings, codec):
        more_orders("the start")
        for point in (STRATEGY_AFTER_COMMANDS, STRATEGY_AFTER_JOURNAL, STRATEGY_IN_CHECKPOINT):
            points.arm(point, Arming())
            wait_for(lambda name=point.name: points.spent_by(name), 30, point.name)  # type: ignore[misc]
            more_orders(point.name)
    bodies: dict[str, set[bytes]] = {}
    for record in commands():
        bodies.setdefault(record.event_id, set()).add(codec.encode(record.event, record.meta))
    assert all(len(found) == 1 for found in bodies.values()), "one id, one body"
    found = agents_again(settings, seed="3", zone="UTC")
    assert found["differences"] == []
    assert found["compared"]["outputs"] >= len(bodies)
    assert found["compared"]["lives"] == 1
