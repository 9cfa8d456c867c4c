"""A strategy instance on real Kafka: started by the role, fed by topics, its commands read back."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from live import events, wait_for

from skeet.cli.strategy import post, started_event
from skeet.config import Settings
from skeet.core.commands import CancelAllOrders, SubmitOrder
from skeet.core.control import StrategyHalted, StrategyStopped
from skeet.core.market import InstrumentDefined, Quote, Tick
from skeet.schemas.codec import Codec
from skeet.streams.topics import COMMANDS, CONTROL

pytestmark = pytest.mark.integration

SYMBOL = "SIM:BTC/USDT"

STRATEGY = """
from dataclasses import dataclass
from decimal import Decimal
import sys
from pydantic import BaseModel
from skeet.core.strategy import Strategy, buy_limit

class Parameters(BaseModel):
    size: Decimal = Decimal("0.01")

@dataclass
class State:
    seen: int = 0

class BuyEach(Strategy[State]):
    Parameters = Parameters
    def initial(self):
        return State()
    def on_quote(self, state, quote, context):
        state.seen += 1
        if quote.update_id == 666:
            raise ValueError("the number of the beast")
        if quote.update_id == 777:
            loaded = [name for name in ("ccxt", "numba", "pandas", "psycopg", "clickhouse_connect") if name in sys.modules]
            assert not loaded, loaded
        return [buy_limit(self.parameters.size, quote.ask_price, rule="each")]
"""


def instrument() -> InstrumentDefined:
    return InstrumentDefined(
        instrument_id=SYMBOL,
        ts_event=1,
        ts_init=1,
        version=1,
        venue="SIM",
        symbol="BTC/USDT",
        venue_symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        active=True,
        tick_size=Decimal("0.01"),
        step_size=Decimal("0.001"),
        min_quantity=Decimal("0.001"),
        max_quantity=Decimal(100),
        min_notional=Decimal(1),
        max_notional=Decimal(0),
        maker_fee=Decimal("0.001"),
        taker_fee=Decimal("0.001"),
        price_scale=2,
        size_scale=3,
    )


def quote(number: int) -> Quote:
    now = time.time_ns()
    return Quote(
        instrument_id=SYMBOL,
        ts_event=now,
        ts_init=now,
        update_id=number,
        bid_price_mantissa=9_999,
        bid_size_mantissa=1_000,
        ask_price_mantissa=10_001,
        ask_size_mantissa=1_000,
        price_scale=2,
        size_scale=3,
    )


def test_instance_trades_on_live_quotes_halts_on_an_error_and_runs_again_when_started_anew(
    settings: Settings, codec: Codec, publish: Callable[..., None], role: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    (settings.data / "strategies").mkdir()
    (settings.data / "strategies" / "buy_each.py").write_text(STRATEGY)
    publish("instruments.v1", instrument())
    publish("market.quotes.v1", quote(1))
    started = started_event(settings, "alpha", "buy_each", SYMBOL, {"size": "0.0219"})
    post(settings, started, "alpha", "acc-1")
    role("strategies")

    log = settings.data / "strategies.log"
    wait_for(lambda: '"ready"' in log.read_text() and '"role": "strategy"' in log.read_text(), 40, "instance ready")
    wait_for(lambda: log.read_text().count('"event": "ready"') >= 2, 40, "instance ready")
    publish("clock.v1", Tick(ts_event=time.time_ns()))
    publish("market.quotes.v1", quote(2), quote(777), quote(2))

    def submitted() -> list[Any]:
        return events(settings, codec, COMMANDS, SubmitOrder)

    wait_for(lambda: len(submitted()) >= 3, 15, "three orders")
    first, second, again = submitted()
    assert first.event.quantity == Decimal("0.021")
    assert first.event.limit_price == Decimal("100.01")
    assert first.event.code_version == started.code_version
    assert first.event.valid_until - first.event.ts_cause == 10_000_000_000
    assert first.meta.account_id == "acc-1"
    assert first.meta.cause_at.startswith("market.quotes.v1/")
    assert again.event_id == first.event_id, "the same cause makes the same command"
    assert second.event_id != first.event_id
    hop_ms = [(r.log_ns - r.meta.ts_init) / 1e6 for r in (first, second)]
    assert min(hop_ms) < 2_000

    publish("market.quotes.v1", quote(666), quote(4))
    halted = wait_for(lambda: events(settings, codec, CONTROL, StrategyHalted), 15, "halt")[0].event
    assert halted.handler == "on_quote"
    assert halted.file.endswith("buy_each.py")
    assert halted.line == 22
    assert "number of the beast" in halted.error
    assert len(submitted()) == 3

    post(settings, started, "alpha", "acc-1")
    wait_for(lambda: log.read_text().count('"event": "ready"') >= 3, 40, "started anew")
    publish("market.quotes.v1", quote(5))
    wait_for(lambda: len(submitted()) == 4, 15, "an order after the new start")

    post(settings, StrategyStopped(instance_id="alpha", reason="test", cancel_open=True), "alpha", "acc-1")
    withdrawn = wait_for(lambda: events(settings, codec, COMMANDS, CancelAllOrders), 20, "orders withdrawn")
    assert withdrawn[0].event.book_id == "alpha"


def test_environment_of_an_instance_has_no_secrets(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from skeet.agents.strategies import instance_environment

    monkeypatch.setenv("SKEET_POSTGRES__DSN", "postgresql://u:p@h/db")
    monkeypatch.setenv("SKEET_SIM__ADMIN_TOKEN", "token")
    environment = instance_environment(settings, "alpha")
    assert not {name for name in environment if "POSTGRES" in name or "CLICKHOUSE" in name or "TOKEN" in name}
    assert environment["SKEET_DATA"] != str(settings.data), "the platform's data directory holds secrets"
    assert json.dumps(environment).count("postgresql://") == 0
