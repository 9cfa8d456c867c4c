"""``skeet projection``: what a person sees of positions, checksums and rebuilds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from skeet.cli.projection import app
from skeet.config import Settings
from skeet.core.control import SessionMark
from skeet.core.record import Meta, Out
from skeet.projections.account_rebuild import fold_all
from skeet.projections.clickhouse_store import HistoryStore, quoted
from skeet.projections.history_rebuild import fill
from skeet.projections.postgres_store import AccountStore
from skeet.schemas.golden import sample
from skeet.streams import topics
from skeet.streams.kafka import producer
from skeet.streams.publishing import Publisher
from skeet.streams.registry import registered_codec

pytestmark = pytest.mark.integration
RUN = CliRunner()


@pytest.fixture
def settings(
    applied_settings: Settings, postgres_dsn: str, clickhouse: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """Stores filled from a log of two control events, and an environment that finds them."""
    name, (url, token) = f"t{uuid4().hex[:8]}", clickhouse
    environment = {
        "SKEET_DATA": str(applied_settings.data),
        "SKEET_KAFKA__BOOTSTRAP": applied_settings.kafka.bootstrap,
        "SKEET_KAFKA__TOPIC_PREFIX": applied_settings.kafka.topic_prefix,
        "SKEET_KAFKA__ACCOUNT_PARTITIONS": "2",
        "SKEET_KAFKA__MARKET_PARTITIONS": "2",
        "SKEET_REGISTRY__URL": applied_settings.registry.url,
        "SKEET_POSTGRES__DSN": postgres_dsn,
        "SKEET_POSTGRES__SCHEMA_NAME": name,
        "SKEET_CLICKHOUSE__URL": url,
        "SKEET_CLICKHOUSE__PASSWORD": token,
        "SKEET_CLICKHOUSE__DATABASE": name,
    }
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    settings = Settings()
    codec = registered_codec(settings)
    publisher = Publisher(settings, codec, producer(settings, "test"))
    publisher.send([Out(topic=topics.CONTROL.name, key="platform", event=SessionMark(label="x"), meta=sample(Meta))])
    publisher.flush()
    history, accounts = HistoryStore(settings), AccountStore(settings)
    history.migrate()
    accounts.migrate()
    fill(settings, codec, history)
    fold_all(settings, codec, accounts)
    yield settings
    history.command_outside(f"DROP DATABASE IF EXISTS {quoted(name)} SYNC")
    accounts.connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE".encode())
    history.close()
    accounts.close()


def test_status_shows_both_projections_at_the_end(settings: Settings) -> None:
    rows = json.loads(RUN.invoke(app, ["status", "--json"]).stdout)
    at_control = [
        (row["projection"], row["position"], row["behind"]) for row in rows if row["topic"] == "control.events.v1"
    ]
    assert at_control == [("postgres", 2, 0), ("clickhouse", 2, 0)]


@pytest.mark.parametrize("how", [[], ["--in-place"]])
@pytest.mark.parametrize("name", ["postgres", "clickhouse"])
def test_a_rebuild_leaves_every_checksum_as_it_was(settings: Settings, name: str, how: list[str]) -> None:
    before = json.loads(RUN.invoke(app, ["checksum", name, "--json"]).stdout)
    rebuilt = RUN.invoke(app, ["rebuild", name, *how, "--json"])
    assert rebuilt.exit_code == 0, rebuilt.output
    assert all(line["identical"] for line in json.loads(rebuilt.stdout)["tables"])
    assert json.loads(RUN.invoke(app, ["checksum", name, "--json"]).stdout) == before
    assert any(row["rows"] == 2 for row in before) or name == "postgres"
