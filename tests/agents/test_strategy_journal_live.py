"""kill -9 of a strategy instance in mid-run, twice: nothing it sent, or would have sent, is changed by it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from live import environment_of, events, wait_for
from market_records import SYMBOL, quote

from skeet.cli.strategy import post, started_event
from skeet.config import Settings
from skeet.core.commands import SubmitOrder
from skeet.core.journal import JournalFold
from skeet.core.market import InstrumentDefined, Tick
from skeet.core.record import Out
from skeet.schemas.codec import Codec
from skeet.streams.kafka import producer
from skeet.streams.progress import await_caught_up
from skeet.streams.publishing import Publisher
from skeet.streams.reading import records_until_end
from skeet.streams.topics import CHECKPOINTS, COMMANDS, JOURNAL

pytestmark = pytest.mark.integration

INSTRUMENT = InstrumentDefined(
    instrument_id=SYMBOL, ts_event=1, ts_init=1, version=1, venue="SIM", symbol="BTC/USDT", venue_symbol="BTCUSDT",
    base="BTC", quote="USDT", active=True, tick_size=Decimal("0.01"), step_size=Decimal("0.001"),
    min_quantity=Decimal("0.001"), max_quantity=Decimal(100), min_notional=Decimal(1), max_notional=Decimal(0),
    maker_fee=Decimal("0.001"), taker_fee=Decimal("0.001"), price_scale=2, size_scale=3,
)  # fmt: skip
STRATEGY = """
from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from pydantic import BaseModel
from skeet.core.strategy import Strategy, buy_limit

class Nothing(BaseModel):
    pass

@dataclass
class State:
    ticks: int = 0
    quotes: int = 0
    recent: deque = field(default_factory=lambda: deque(maxlen=5))

class Mixed(Strategy[State]):
    "Sizes tell how quotes and ticks were merged, which no single topic does."
    Parameters = Nothing
    def initial(self):
        return State()
    def on_quote(self, state, quote, context):
        state.quotes += 1
        state.recent.append(quote.ask_price)
        if state.quotes % 5 == 0:
            yield buy_limit(Decimal(1 + state.ticks), sum(state.recent) / len(state.recent), rule="quote")
    def on_timer(self, state, context):
        state.ticks += 1
        if state.ticks % 7 == 0:
            yield buy_limit(Decimal(1 + state.quotes), Decimal(5), rule="tick")
"""
AGENTS = """
import json
from skeet.config import load_settings
from skeet.parity.agents import AgentsReplay
from skeet.streams.registry import registered_codec
from skeet.verify.findings import Check
settings, check = load_settings(), Check(name="S", title="")
chains = AgentsReplay(settings, registered_codec(settings), check).run()
print(json.dumps({"differences": check.differences, "compared": check.compared, "chains": chains}))
"""


@contextmanager
def market(settings: Settings, codec: Codec) -> Iterator[None]:
    """Quotes and ticks, as fast as they may come together, until the block ends."""
    stop = threading.Event()

    def publish() -> None:
        publisher, number = Publisher(settings, codec, producer(settings, "market")), 0
        while not stop.wait(0.002):
            number += 1
            publisher.send(
                [Out(topic="market.quotes.v1", key=SYMBOL, event=quote(number, number / 100, ask=100_01 + number % 50))]
            )
            if number % 3 == 0:
                publisher.send([Out(topic="clock.v1", key="", event=Tick(ts_event=time.time_ns()))])
        publisher.flush()

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def agents_again(settings: Settings, seed: str, zone: str) -> Any:
    environment = os.environ | environment_of(settings) | {"PYTHONHASHSEED": seed, "TZ": zone}
    done = subprocess.run([sys.executable, "-c", AGENTS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_killed_instance_goes_on_in_the_order_it_had_and_its_commands_are_made_again_from_the_journal(
    settings: Settings,
    codec: Codec,
    publish: Callable[..., None],
    role: Callable[[str], subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SKEET_STRATEGY__LIMITS__COMMANDS_PER_SECOND", "1000")  # it orders at every quote
    (settings.data / "strategies").mkdir()
    (settings.data / "strategies" / "mixed.py").write_text(STRATEGY)
    publish("instruments.v1", INSTRUMENT)
    started = started_event(settings, "alpha", "mixed", SYMBOL, {})
    post(settings, started, "alpha", "acc-1")
    role("strategies")
    log = settings.data / "strategies.log"

    def pids() -> list[int]:
        lines = [json.loads(line) for line in log.read_text().splitlines() if "instance started" in line]
        return [int(line["pid"]) for line in lines]

    def commands() -> list[Any]:
        return events(settings, codec, COMMANDS, SubmitOrder)

    def journal() -> JournalFold:
        fold = JournalFold("alpha")
        for record in records_until_end(settings, codec, [JOURNAL]):
            fold.take(record.event, record.at.offset)
        return fold

    wait_for(lambda: log.read_text().count('"event": "ready"') >= 2, 40, "instance ready")
    with market(settings, codec):
        wait_for(lambda: len(commands()) >= 40, 30, "forty orders")
        os.kill(pids()[-1], signal.SIGKILL)  # before its first checkpoint: it goes on from its beginning
        wait_for(lambda: len(pids()) == 2, 30, "a second process")
        wait_for(lambda: list(records_until_end(settings, codec, [CHECKPOINTS])), 40, "a checkpoint")
        seen = len(commands())
        wait_for(lambda: len(commands()) >= seen + 20, 30, "orders after the checkpoint")
        os.kill(pids()[-1], signal.SIGKILL)  # it goes on from its checkpoint
        wait_for(lambda: len(pids()) == 3, 30, "a third process")
        seen = len(commands())
        wait_for(lambda: len(commands()) >= seen + 20, 40, "orders of the third")
    await_caught_up(settings, ["strategy-alpha"], 60)  # what it makes of the rest belongs to both runs below
    assert log.read_text().count("goes on where it was") == 2, log.read_text()

    fold = journal()
    assert len(fold.chains) == 1, "one life, no hole in it"
    assert len({entry.owner for entry in fold.chains[0].entries}) == 3, "three processes wrote it"
    bodies: dict[str, set[bytes]] = {}
    for record in commands():
        bodies.setdefault(record.event_id, set()).add(codec.encode(record.event, record.meta))
    assert all(len(found) == 1 for found in bodies.values()), "one id, one body"

    found = agents_again(settings, seed="1", zone="Asia/Tokyo")
    assert found["differences"] == []
    assert found["compared"]["outputs"] >= len(bodies)
    assert found["compared"]["lives"] == 1
    assert agents_again(settings, seed="9", zone="America/New_York")["chains"] == found["chains"]

    last = commands()[-1]
    forged = replace(last.event, quantity=last.event.quantity + 1)
    forger = Publisher(settings, codec, producer(settings, "forger"))
    forger.send([Out(topic=COMMANDS.name, key="acc-1", event=forged, meta=replace(last.meta, event_id="f" * 32))])
    forger.flush()
    at = commands()[-1].at
    tampered = agents_again(settings, seed="2", zone="UTC")["differences"]
    assert tampered == [f"{at}: {'f' * 32} is of alpha, whose journal does not make it"]
