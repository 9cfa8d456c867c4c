"""kill -9 loses nothing: the same book, balances and ids; and a journal that was touched is found out."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ccxt
import pytest

from skeet.core.errors import InfrastructureError
from skeet.venues.sim.commands import OpenAccount, Transfer
from skeet.venues.sim.exchange import Exchange, ExchangeOptions
from skeet.venues.sim.linefile import LineFile, read_lines
from skeet.venues.sim.orders import OrderKind, OrderRequest, Side
from skeet.venues.sim.units import UNIT
from tests.venues.sim.conftest import SimProcess


@pytest.mark.integration
def test_killed_exchange_comes_back_with_the_same_book_balances_and_ids(tmp_path: Path) -> None:
    sim = SimProcess(tmp_path, SKEET_SIM__SPEED="50").start()
    try:
        client = ccxt.binance(sim.settings("ann", USDT="100000", BTC="5"))
        for number in range(10):
            client.create_order("BTC/USDT", "limit", "buy", 0.01, 50_000 + number)
            client.create_order("BTC/USDT", "market", "sell", 0.01)
        sim.admin("flow", paused=True)
        before = _picture(sim, client)
        assert sim.stop(signal.SIGKILL) == -signal.SIGKILL
        sim._environment["SKEET_SIM__SPEED"] = "0.000001"  # silent, so that nothing but the restart can differ
        sim.start()
        assert _picture(sim, client) == before

        newest = before["trades"][-1]["id"]
        order = client.create_order("BTC/USDT", "market", "sell", 0.01)
        assert int(order["id"]) > max(int(row["orderId"]) for row in before["account"]["orders"])
        assert int(order["trades"][0]["id"]) == newest + 1
    finally:
        sim.stop(signal.SIGKILL)


@pytest.mark.integration
def test_answered_orders_survive_a_kill_in_the_middle_of_the_stream(tmp_path: Path) -> None:
    sim = SimProcess(tmp_path, SKEET_SIM__SPEED="50").start()
    try:
        for round_ in range(3):
            client = ccxt.binance(sim.settings("ann", USDT="1000000"))
            answered = [
                client.create_order("BTC/USDT", "limit", "buy", 0.01, 50_000, {"clientOrderId": f"r{round_}-{n}"})["id"]
                for n in range(5)
            ]
            sim.stop(signal.SIGKILL)
            sim.start()
            known = {row["orderId"] for row in sim.get("/sim/v1/state")["accounts"]["ann"]["orders"]}
            assert {int(order_id) for order_id in answered} <= known
    finally:
        sim.stop(signal.SIGKILL)


def _picture(sim: SimProcess, client: ccxt.binance) -> dict[str, Any]:
    return {
        "depth": sim.get("/api/v3/depth?symbol=BTCUSDT&limit=5000"),
        "account": sim.get("/sim/v1/state")["accounts"]["ann"],
        "trades": sim.get("/api/v3/trades?symbol=BTCUSDT&limit=1000"),
        "aggregates": sim.get("/api/v3/aggTrades?symbol=BTCUSDT&limit=1000"),
        "bars": sim.get("/api/v3/klines?symbol=BTCUSDT&interval=1m")[:1],
        "orders": client.fetch_orders("BTC/USDT"),
    }


class Clock:
    """Advances by what it is told."""

    def __init__(self) -> None:
        self.ns = time.time_ns()

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def lived(tmp_path: Path) -> Iterator[tuple[Path, Clock, Exchange]]:
    """An exchange that has traded a little and was not closed."""
    clock = Clock()
    exchange = Exchange(tmp_path, clock)
    exchange.execute(OpenAccount(account="ann"))
    exchange.execute(Transfer(account="ann", client_key="k", asset="USDT", units=1_000_000 * UNIT))
    for number in range(20):
        clock.ns += 50_000_000
        exchange.step_flow(100.0)
        exchange.execute(market_buy(number))
    yield tmp_path, clock, exchange


def market_buy(number: int) -> OrderRequest:
    return OrderRequest(
        account="ann",
        symbol="BTCUSDT",
        side=Side.BUY,
        kind=OrderKind.MARKET,
        client_order_id=f"c{number}",
        quantity=UNIT // 100,
    )


def test_replay_of_the_command_log_makes_the_same_exchange(lived: tuple[Path, Clock, Exchange]) -> None:
    path, clock, exchange = lived
    assert Exchange(path, clock)._dump() == exchange._dump()


def test_replay_continues_from_any_snapshot(lived: tuple[Path, Clock, Exchange]) -> None:
    path, clock, exchange = lived
    exchange.snapshot()
    clock.ns += 50_000_000
    exchange.step_flow(100.0)
    exchange.execute(market_buy(100))
    assert Exchange(path, clock)._dump() == exchange._dump()


def test_event_that_was_logged_but_not_journalled_is_written_on_restart(lived: tuple[Path, Clock, Exchange]) -> None:
    path, clock, _ = lived
    journal = path / "accounts.jsonl"
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-3]) + lines[-3][:20])  # died in the middle of a write
    Exchange(path, clock)
    assert journal.read_bytes() == whole


def test_altered_line_in_the_journal_is_named(lived: tuple[Path, Clock, Exchange]) -> None:
    path, clock, _ = lived
    journal = path / "accounts.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b'"0.01000000"', b'"0.02000000"')
    journal.write_bytes(b"".join(lines))
    with pytest.raises(InfrastructureError, match=r"accounts\.jsonl line 5: its checksum"):
        Exchange(path, clock)


def test_journal_that_lost_its_end_against_the_snapshot_is_found_out(lived: tuple[Path, Clock, Exchange]) -> None:
    path, clock, exchange = lived
    exchange.snapshot()
    journal = path / "accounts.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(InfrastructureError, match="lines are missing"):
        Exchange(path, clock)


def test_exchange_of_another_seed_is_not_taken_over(lived: tuple[Path, Clock, Exchange]) -> None:
    path, clock, _ = lived
    with pytest.raises(InfrastructureError, match="seed 7"):
        Exchange(path, clock, ExchangeOptions(seed=8))


def test_broken_newest_snapshot_is_made_up_for_by_the_one_before_and_both_logs(
    lived: tuple[Path, Clock, Exchange],
) -> None:
    path, clock, exchange = lived
    exchange.snapshot()
    newest = max(path.glob("snapshot-*.json"))
    newest.write_bytes(newest.read_bytes().replace(b'"now_ns"', b'"now_xx"'))
    exchange.execute(market_buy(100))
    assert Exchange(path, clock)._dump()["engine"] == exchange._dump()["engine"]


def test_lines_are_read_back_and_a_torn_end_is_left_out(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "lines")
    file.append([{"a": 1}, {"a": 2}])
    with (tmp_path / "lines").open("ab") as raw:
        raw.write(b'{"n":3,"a')
    assert [record for record, _, _ in read_lines(tmp_path / "lines")] == [{"a": 1}, {"a": 2}]
