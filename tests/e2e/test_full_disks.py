"""A full disk of ClickHouse, PostgreSQL, Kafka under the whole platform: no new orders, nothing lost, healed by itself.

One installation whose three stores lie on small file systems; the tests build on each other in this order.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from installation import Installation, eventually
from small_disks import fill, make_room, mounted

pytestmark = [pytest.mark.e2e, pytest.mark.acceptance, pytest.mark.timeout(900)]
HEAL_S = 180.0
SIZES = {"kafka": "1500m", "postgres": "900m", "clickhouse": "900m"}
TRADER = "demo-trend"


@pytest.fixture(scope="module")
def platform() -> Iterator[Installation]:
    """The demo trades on it; ingest stops below 64 MiB, so that it is seen before the stores are quite full."""
    data = Path(tempfile.mkdtemp(prefix="skeet-disks-"))
    data.chmod(0o755)
    installed = Installation(data)
    installed.environment |= {"SKEET_DISK_RESERVE": "64MiB", "SKEET_ARCHIVE__INTERVAL_S": "1"}
    with ExitStack() as disks:
        for name, size in SIZES.items():
            disks.enter_context(mounted(data / name, f"size={size}"))
        try:
            installed.skeet("demo", "--no-watch")
            eventually(lambda: placed(installed), HEAL_S, "an order that risk lets pass")
            yield installed
        finally:
            installed.skeet("down", expect=None)
    shutil.rmtree(data, ignore_errors=True)


@pytest.mark.parametrize("store", ["clickhouse", "postgres"])
def test_full_disk_of_a_store_stops_new_orders_until_space_returns(platform: Installation, store: str) -> None:
    folder = platform.data / store
    fill(folder)
    reason = eventually(lambda: denied(platform), HEAL_S, "an order that is denied")
    assert "reference" in reason.lower(), reason
    found = platform.json("status", expect=None)
    assert [line for line in found["full_disks"] if f"disk full: {store} at {folder}" in line]
    assert "exit" not in last_exit(found, "kafka")
    make_room(folder)
    eventually(lambda: placed(platform), HEAL_S, "an order that risk lets pass again")
    assert [event for event in ingest_events(platform) if store in event.get("reason", "")]
    eventually(lambda: ready(platform), HEAL_S, "everything ready")


def test_full_disk_of_the_broker_gives_up_its_ballast_then_stops_and_heals(platform: Installation) -> None:
    folder = platform.data / "kafka"
    assert (folder / "ballast").exists()
    fill(folder)
    eventually(lambda: not (folder / "ballast").exists() and answers(platform), HEAL_S, "a broker on its ballast")
    assert eventually(lambda: denied(platform), HEAL_S, "an order that is denied on the ballast")
    fill(folder)
    line = f"disk full: kafka at {folder}, free"
    eventually(lambda: line in last_exit(platform.json("status", expect=None), "kafka"), HEAL_S, "the broker refuses")
    refused = platform.skeet(*ORDER, expect=None)
    assert refused.returncode == 1
    last = refused.stderr.splitlines()[-1]
    assert last.startswith("skeet: ") and "unexpected" not in last
    make_room(folder)
    eventually(lambda: ready(platform), HEAL_S, "everything ready")
    eventually(lambda: placed(platform), HEAL_S, "an order that risk lets pass again")


def test_after_all_that_the_books_agree(platform: Installation) -> None:
    report = platform.json("demo", "--for", "10")
    assert report["complaints"] == []
    platform.skeet("verify")


ORDER = ("order", "place", TRADER, "SIM:BTC/USDT", "buy", "0.001", "--wait", "--json")


def placed(installation: Installation) -> bool:
    """Whether a market order was filled."""
    done = installation.skeet(*ORDER, expect=None)
    return done.returncode == 0 and json.loads(done.stdout)["status"] == "FILLED"


def denied(installation: Installation) -> str:
    """What the desk said to a new order that it denied; empty when it took it, or did not answer."""
    done = installation.skeet(*ORDER, expect=None)
    return done.stdout + done.stderr if done.returncode == 1 and "DENIED" in (done.stdout + done.stderr).upper() else ""


def ready(installation: Installation) -> bool:
    return installation.skeet("status", expect=None).returncode == 0


def answers(installation: Installation) -> bool:
    rows = installation.json("status", expect=None)["processes"]
    return any(row["name"] == "kafka" and row["state"] == "ready" for row in rows)


def last_exit(status: dict[str, Any], name: str) -> str:
    return str(next(row["last_exit"] for row in status["processes"] if row["name"] == name))


def ingest_events(installation: Installation) -> list[dict[str, Any]]:
    """IngestStopped and IngestResumed in the log."""
    words = ("tail", "platform.events.v1", "--from", "beginning", "-n", "50", "--json")
    lines = installation.skeet(*words, expect=None).stdout.splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    return [event.get("event", event) for event in events if "Ingest" in json.dumps(event)]
