"""Real parts for tests: a Kafka broker, the registry, Postgres and ClickHouse, each started once per session on demand.

Everything lives in a temporary directory on free loopback ports, is stopped at the end, and dies with pytest when the
run is killed.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clickhouse_process import clickhouse_server
from hypothesis import settings as hypothesis_settings

from skeet.config import Settings
from skeet.local.kafka import KafkaBroker
from skeet.local.ports import free_port
from skeet.local.postgres import PostgresServer
from skeet.local.server import ChildServer
from skeet.streams import topics_admin

# `make test` draws the same examples at every run, so that what failed there fails again; `make unit` draws fresh ones.
hypothesis_settings.register_profile("same", derandomize=True)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address of a real broker; topics are kept apart by prefixes, not by brokers."""
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    try:
        yield broker.start()
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def registry_url(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a schema registry over the session's broker."""
    port = free_port()
    server = ChildServer(
        "skeet.local.registry", ["--bootstrap", kafka, "--port", str(port)], tmp_path_factory.mktemp("registry")
    )
    try:
        server.start()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """Connection string of the owner of an empty database ``skeet`` (its superuser is not handed out)."""
    # Not pytest's own directory: that one is closed to the unprivileged user the server runs as under root.
    with tempfile.TemporaryDirectory(prefix="skeet-postgres-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        server = PostgresServer(Path(folder) / "cluster")
        try:
            yield server.start()
        finally:
            server.stop()


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address and token of a ClickHouse engine behind its HTTP protocol."""
    with clickhouse_server(tmp_path_factory.mktemp("clickhouse")) as place:
        yield place


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Recorded market sessions; tests that need them are skipped where they are not."""
    folder = Path(os.environ.get("SKEET_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no recorded market data: set SKEET_SHARED_DATA")
    return folder


@pytest.fixture
def fresh_settings(kafka: str, registry_url: str, tmp_path: Path) -> Callable[[], Settings]:
    """Makes settings of an installation of its own on the session's broker (two partitions); its topics do not exist yet."""

    def make() -> Settings:
        section = {
            "bootstrap": kafka,
            "topic_prefix": f"t{uuid.uuid4().hex[:8]}.",
            "account_partitions": 2,
            "market_partitions": 2,
        }
        return Settings(kafka=section, registry={"url": registry_url}, data=tmp_path)

    return make


@pytest.fixture
def applied_settings(fresh_settings: Callable[[], Settings]) -> Settings:
    """Settings of an installation whose topics and schemas exist."""
    settings = fresh_settings()
    topics_admin.apply(settings)
    return settings
