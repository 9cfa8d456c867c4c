"""A strategy with ``on_batch`` on a real broker: bursts go through it, and single records make every command of them again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live import events, wait_for
from market_records import SYMBOL
from test_strategy_journal_live import INSTRUMENT, agents_again

from skeet.cli.strategy import post, started_event
from skeet.config import Settings
from skeet.core.commands import SubmitOrder
from skeet.core.market import Quote, Trade
from skeet.core.record import Out
from skeet.schemas.codec import Codec
from skeet.strategies.agreement import TOPICS, random_market
from skeet.streams.kafka import producer
from skeet.streams.publishing import Publisher
from skeet.streams.reading import records_until_end
from skeet.streams.topics import CHECKPOINTS, COMMANDS, DEAD_LETTERS, MARKET_TRADES, topic_name

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[2] / "examples" / "flow_pressure.py"
FOREIGN = "SIM:ETH/USDT"


def counted(source: str) -> str:
    """The example, saying how many rows it took at once, and not waiting for answers, which nobody gives here."""
    said = source.replace(
        "        return taken\n", '        context.log("rows taken", rows=taken)\n        return taken\n'
    )
    eager = said.replace(" and not context.orders", "")
    assert said not in (source, eager)
    return eager


def test_bursts_go_through_on_batch_and_single_records_make_the_same_commands(
    settings: Settings,
    codec: Codec,
    publish: Callable[..., None],
    role: Callable[[str], subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SKEET_STRATEGY__LIMITS__COMMANDS_PER_SECOND", "1000")
    (settings.data / "strategies").mkdir()
    (settings.data / "strategies" / "pressure.py").write_text(counted(EXAMPLE.read_text()))
    publish("instruments.v1", INSTRUMENT)
    post(settings, started_event(settings, "alpha", "pressure", SYMBOL, {"pressure": "20"}), "alpha", "acc-1")
    role("strategies")
    log = settings.data / "strategies.log"
    publisher, client = Publisher(settings, codec, producer(settings, "market")), producer(settings, "unreadable")

    def lines(event: str) -> list[Any]:
        return [json.loads(line) for line in log.read_text().splitlines() if event in line]

    def commands() -> list[Any]:
        return events(settings, codec, COMMANDS, SubmitOrder)

    def burst(seed: int) -> None:
        """Three thousand trades and quotes of two instruments, and one that nobody can read in their midst."""
        for number, event in enumerate(random_market(seed, 3_000)):
            if not isinstance(event, Trade | Quote):
                continue
            publisher.send([Out(topic=TOPICS[type(event)], key=SYMBOL, event=event)])
            if number % 7 == 0:
                publisher.send([Out(topic=TOPICS[type(event)], key=FOREIGN, event=event)])
            if number == 1_500:
                publisher.flush()
                client.produce(topic_name(MARKET_TRADES, settings.kafka), b"unreadable", key=SYMBOL.encode())
                client.flush()
        publisher.flush()

    wait_for(lambda: log.read_text().count('"event": "ready"') >= 2, 60, "instance ready")
    burst(1)
    wait_for(lambda: sum(line["rows"] for line in lines("rows taken")) > 500, 60, "rows taken at once")
    wait_for(lambda: len(commands()) >= 10, 30, "orders")
    wait_for(lambda: list(records_until_end(settings, codec, [CHECKPOINTS])), 60, "a checkpoint")
    burst(2)
    os.kill(int(lines("instance started")[-1]["pid"]), signal.SIGKILL)
    wait_for(lambda: len(lines("goes on where it was")) == 1, 90, "a second process")
    taken, asked = len(lines("rows taken")), len(commands())
    burst(3)
    wait_for(lambda: len(commands()) >= asked + 10, 30, "orders of the second process")
    wait_for(lambda: len(lines("rows taken")) > taken, 60, "rows taken by the second process")
    checkpoints = len(list(records_until_end(settings, codec, [CHECKPOINTS])))
    wait_for(
        lambda: len(list(records_until_end(settings, codec, [CHECKPOINTS]))) > checkpoints,
        60,
        "a checkpoint of the second process",
    )

    dead = [record.event.offset for record in records_until_end(settings, codec, [DEAD_LETTERS])]
    assert len(set(dead)) >= 2, "the one of the second burst may die with the first process"
    bodies: dict[str, set[bytes]] = {}
    for record in commands():
        bodies.setdefault(record.event_id, set()).add(codec.encode(record.event, record.meta))
    assert all(len(found) == 1 for found in bodies.values()), "one id, one body"
    found = agents_again(settings, seed="1", zone="UTC")
    assert found["differences"] == []
    assert found["compared"]["outputs"] >= len(bodies)
    assert found["compared"]["checkpoints"] >= 2
