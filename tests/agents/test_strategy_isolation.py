"""Hostile strategies beside a well-behaved one, on a real broker, run by the real role: each is denied or halted, and the
neighbour trades on."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hostile
import pytest
from live import events, wait_for
from test_strategy_live import STRATEGY, SYMBOL, instrument, quote

from skeet.cli.strategy import post, started_event
from skeet.config import Settings
from skeet.core.commands import CancelAllOrders, SubmitOrder
from skeet.core.control import StrategyHalted
from skeet.schemas.codec import Codec
from skeet.streams.topics import COMMANDS, CONTROL

pytestmark = pytest.mark.integration

HALTED_FOR = {
    "loop": "time",
    "hold": "time",
    "leak": "memory",
    "grab": "memory",
    "flood": "flood",
    "leave": "error",
    "threads": "error",
    "vanish": "ends",
}
ATTEMPTS = 23
CANARY = "canary-of-the-tenant"


@pytest.fixture
def store() -> Iterator[int]:
    """A port where something listens, as a store does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def data(settings: Settings) -> Path:
    """The data directory, with secrets, the strategies, and one file that modes alone would show to all."""
    (settings.data / "secrets").mkdir()
    (settings.data / "secrets" / "skeet_postgres__dsn").write_text(f"postgresql://{CANARY}")
    (settings.data / "secrets" / "skeet_postgres__dsn").chmod(0o600)
    (settings.data / "endpoints.toml").write_text(f'[sim]\nurl = "http://{CANARY}:1"\n')
    (settings.data / "strategies").mkdir()
    (settings.data / "strategies" / "buy_each.py").write_text(STRATEGY)
    (settings.data / "strategies" / "hostile.py").write_text(Path(hostile.__file__).read_text())
    return settings.data


def test_hostile_strategies_are_denied_or_halted_and_their_neighbour_trades_on(
    settings: Settings,
    data: Path,
    store: int,
    codec: Codec,
    publish: Callable[..., None],
    role: Callable[[str], subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SKEET_CLICKHOUSE__PASSWORD", CANARY)
    monkeypatch.setenv("SKEET_STRATEGY__LIMITS__MEMORY_MB", "256")
    monkeypatch.setenv("SKEET_STRATEGY__LIMITS__UNEXPLAINED_ENDS", "1")
    publish("instruments.v1", instrument())
    publish("market.quotes.v1", quote(1))
    post(settings, started_event(settings, "steady", "buy_each", SYMBOL, {}), "steady", "acc-1")
    for act in (*HALTED_FOR, "probe"):
        parameters = {"act": act, "secret": str(data / "secrets" / "skeet_postgres__dsn"), "port": str(store)}
        started = started_event(
            settings, act, "hostile", SYMBOL, parameters, on_halt="leave" if act == "hold" else "cancel"
        )
        post(settings, started, act, f"acc-{act}")
    role("strategies")
    log = data / "strategies.log"
    wait_for(lambda: log.read_text().count('"ready"') == len(HALTED_FOR) + 3, 60, "all instances ready")

    publish("market.quotes.v1", quote(hostile.TRIGGER))
    number = [2]

    def all_halted() -> bool:
        publish("market.quotes.v1", quote(number[0]))
        number[0] += 1
        return len(halts(settings, codec)) == len(HALTED_FOR) and number[0] > ATTEMPTS + 5

    wait_for(all_halted, 40, "halts")
    found = halts(settings, codec)
    assert {name: halted.reason for name, halted in found.items()} == HALTED_FOR
    for name in ("loop", "hold", "grab", "leave"):
        assert found[name].file.endswith("hostile.py"), (name, found[name])
        assert found[name].handler == "on_quote", (name, found[name])
    source = Path(hostile.__file__).read_text().splitlines()
    assert "sys.exit" in source[found["leave"].line - 1]
    assert "re.match" in source[found["hold"].line - 1]
    assert "def loop" in "".join(source[found["loop"].line - 5 : found["loop"].line])

    publish("market.quotes.v1", quote(number[0]))
    neighbour = [r for r in events(settings, codec, COMMANDS, SubmitOrder) if r.event.book_id == "steady"]
    wait_for(lambda: orders_of(settings, codec, "steady") >= number[0], 15, "the neighbour's order for every quote")
    assert neighbour
    assert orders_of(settings, codec, "flood") == 0, "a flood is stopped before any of it leaves"
    withdrawn = {r.event.book_id for r in events(settings, codec, COMMANDS, CancelAllOrders)}
    assert withdrawn == {"loop", "leak", "vanish"}, "by policy: `hold` leaves its orders"

    wait_for(lambda: log.read_text().count('"event": "probe"') >= ATTEMPTS, 15, "all attempts")
    probed = {line["attempt"]: line["outcome"] for line in lines(log) if line.get("event") == "probe"}
    assert len(probed) == ATTEMPTS, probed
    assert not {name: outcome for name, outcome in probed.items() if not outcome.startswith("denied")}
    assert "probe" not in halts(settings, codec)
    assert CANARY not in log.read_text()


def halts(settings: Settings, codec: Codec) -> dict[str, StrategyHalted]:
    return {r.event.instance_id: r.event for r in events(settings, codec, CONTROL, StrategyHalted)}


def orders_of(settings: Settings, codec: Codec, book: str) -> int:
    return sum(r.event.book_id == book for r in events(settings, codec, COMMANDS, SubmitOrder))


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
