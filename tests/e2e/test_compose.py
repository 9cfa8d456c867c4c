"""docker-compose.yml as it stands, without an engine: each SKEET service's command and environment as a process, against
servers of this machine. Two accounts trade on the simulated exchange, and verify finds nothing.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from compose import ComposeRun, compose_file
from installation import eventually

from skeet.local.ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.acceptance, pytest.mark.timeout(600)]

TRADING_S = 120.0
MARKET_MAKER = {"half_spread_bps": "0", "requote_ticks": "2", "pause_ms": "100", "back_off_s": "0.2"}


@pytest.fixture
def running(kafka: str, postgres_dsn: str, clickhouse: tuple[str, str]) -> Iterator[ComposeRun]:
    """All services of our image, up."""
    registry, sim = free_port(), free_port()
    login, _, server = postgres_dsn.partition("@")
    addresses = {
        "kafka:9092": kafka,
        "postgres:5432": server.partition("/")[0],
        "http://clickhouse:8123": clickhouse[0],
        "registry:8081": f"127.0.0.1:{registry}",
        "0.0.0.0:8081": f"127.0.0.1:{registry}",
        "127.0.0.1:9000": f"127.0.0.1:{sim}",
    }
    given = {name: secrets.token_urlsafe(16) for name in compose_file()["secrets"]}
    given |= {"skeet_postgres__password": login.rpartition(":")[2], "skeet_clickhouse__password": clickhouse[1]}
    with tempfile.TemporaryDirectory(prefix="skeet-compose-", ignore_cleanup_errors=True) as home:
        run = ComposeRun(Path(home), addresses, given)
        try:
            run.up()
            yield run
        finally:
            run.down()
        written = run.output()
    assert written
    for name, text in written.items():
        assert not any(secret in text for secret in given.values()), f"{name} wrote a secret into its log"


def test_the_services_trade_and_verify(running: ComposeRun) -> None:
    def fills() -> int:
        done = running.run("cli", "order", "list", "--json", expect=None)
        rows = json.loads(done.stdout) if done.returncode == 0 else []
        return sum(row["status"] == "FILLED" for row in rows)

    running.run("cli", "account", "create", "alpha")
    for asset, amount in (("USDT", "100000"), ("ETH", "25")):
        running.run("cli", "account", "deposit", "alpha", asset, amount)
    # Refused until the reference has caught up with the exchange's history.
    buy = ("order", "place", "alpha", "SIM:BTC/USDT", "buy", "0.01", "--wait")
    eventually(lambda: running.run("cli", *buy, expect=None).returncode == 0, TRADING_S, "a filled order by hand")
    words = [word for name, value in MARKET_MAKER.items() for word in ("--param", f"{name}={value}")]
    chosen = ("--strategy", "market-maker", "--account", "alpha", "--instrument", "SIM:ETH/USDT")
    running.run("cli", "strategy", "start", "maker", *chosen, *words)
    eventually(lambda: fills() >= 5, TRADING_S, "five filled orders, four of them a strategy's")
    running.run("cli", "strategy", "stop", "maker")
    running.run("cli", "order", "cancel", "alpha", "--all", "--wait", expect=None)
    eventually(lambda: running.run("cli", "verify", expect=None).returncode == 0, TRADING_S, "a clean verify")
