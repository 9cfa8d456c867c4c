"""Ports, secrets and addresses of a data directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from skeet.config import Settings, load_settings
from skeet.core.errors import InvalidInput
from skeet.local.installation import PORT_NAMES, Installation, external_parts, write_endpoints
from skeet.local.ports import loopback_port


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    made = Installation(tmp_path / "data")
    made.create()
    return made


def settings(installation: Installation) -> Settings:
    return load_settings(data=installation.data)


def test_ports_and_secrets_stay_the_same_at_the_next_start(installation: Installation) -> None:
    first = write_endpoints(installation, frozenset(), None)
    dsn = installation.cluster().dsn
    assert write_endpoints(installation, frozenset(), None) == first
    assert installation.cluster().dsn == dsn
    assert len(set(first.values())) == len(PORT_NAMES)


def test_written_addresses_are_the_settings_of_every_process(installation: Installation) -> None:
    ports = write_endpoints(installation, frozenset(), None)
    found = settings(installation)
    assert found.kafka.bootstrap == f"127.0.0.1:{ports['kafka']}"
    assert found.registry.url == f"http://127.0.0.1:{ports['registry']}"
    assert found.postgres.dsn.get_secret_value() == installation.cluster().dsn
    assert found.clickhouse.password.get_secret_value() == installation.secret("skeet_clickhouse__password")
    assert external_parts(found, installation) == frozenset()


def test_part_given_by_address_is_not_started(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    write_endpoints(installation, frozenset(), None)
    monkeypatch.setenv("SKEET_KAFKA__BOOTSTRAP", "broker:9092")
    monkeypatch.setenv("SKEET_POSTGRES__DSN", "postgresql://u:p@db/skeet")
    external = external_parts(settings(installation), installation)
    assert external == {"kafka", "postgres"}
    assert {"kafka", "kafka-controller", "postgres"}.isdisjoint(write_endpoints(installation, external, None))
    assert settings(installation).kafka.bootstrap == "broker:9092"


def test_port_base_numbers_the_parts_in_order(installation: Installation) -> None:
    write_endpoints(installation, frozenset(), None)
    assert write_endpoints(installation, frozenset(), 20_000) == dict(
        zip(PORT_NAMES, range(20_000, 20_006), strict=True)
    )


def test_secrets_are_readable_by_their_owner_only(installation: Installation) -> None:
    write_endpoints(installation, frozenset(), None)
    assert {path.stat().st_mode & 0o777 for path in installation.secrets.iterdir()} == {0o600}
    assert installation.secrets.stat().st_mode & 0o777 == 0o700


def test_reset_keeps_the_users_own_files(installation: Installation) -> None:
    write_endpoints(installation, frozenset(), None)
    (installation.data / "kafka").mkdir()
    (installation.data / "skeet.toml").write_text("")
    (installation.data / "strategies").mkdir()
    assert "kafka" in installation.delete_content()
    assert {path.name for path in installation.data.iterdir()} == {"skeet.toml", "strategies"}


def test_reset_keeps_the_keys_of_real_venues(installation: Installation) -> None:
    write_endpoints(installation, frozenset(), None)
    keys = installation.secrets / "venue-keys"
    keys.mkdir()
    (keys / "real.json").write_text('{"venue": "binance"}')
    (keys / "demo.json").write_text('{"venue": "sim"}')
    installation.delete_content()
    assert [path.name for path in installation.secrets.rglob("*") if path.is_file()] == ["real.json"]


def test_reset_of_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidInput, match="holds no SKEET installation"):
        Installation(tmp_path).delete_content()
    assert (tmp_path / "thesis.txt").exists()


def test_embedded_server_refuses_an_address_others_could_reach() -> None:
    assert loopback_port("http://127.0.0.1:8123") == 8123
    with pytest.raises(InvalidInput, match="loopback only"):
        loopback_port("http://0.0.0.0:8123")
