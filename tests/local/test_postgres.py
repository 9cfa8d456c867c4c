"""A cluster in a directory: passwords needed, checksums on, rows survive kill -9, a leftover server is ended."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from skeet.local import postgres
from skeet.local.postgres import PostgresServer

pytestmark = pytest.mark.integration


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with tempfile.TemporaryDirectory(prefix="skeet-postgres-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        cluster = PostgresServer(Path(folder) / "cluster")
        try:
            yield cluster
        finally:
            cluster.stop()


def test_committed_row_survives_kill_of_the_server(server: PostgresServer) -> None:
    dsn = server.start()
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE kept (value text)")
        connection.execute("INSERT INTO kept VALUES ('here')")
    server.kill()
    server.start()
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT value FROM kept").fetchall() == [("here",)]
        assert connection.execute("SHOW data_checksums").fetchone() == ("on",)
        assert connection.execute("SHOW password_encryption").fetchone() == ("scram-sha-256",)


def test_wrong_password_is_refused(server: PostgresServer) -> None:
    dsn = server.start()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(dsn.replace(server.cluster.password, "guess"))


def test_server_left_over_in_the_directory_is_ended_before_a_new_one(server: PostgresServer) -> None:
    server.start()
    left = psutil.Process(int((server.cluster.home / "postmaster.pid").read_text().split()[0]))
    postgres.prepare(server.cluster)
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_data_directory_closed_to_the_servers_user_gets_its_cluster_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="skeet-postgres-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        monkeypatch.setattr(postgres, "ROOT_HOME", Path(folder))
        closed = tmp_path / "home"
        closed.mkdir(mode=0o700)
        server = PostgresServer(closed / "postgres")
        try:
            server.start()
            place = server.cluster.home.resolve()
            assert place.is_relative_to(Path(folder).resolve())
            server.stop()
            server.start()
            assert server.cluster.home.resolve() == place
        finally:
            server.stop()
