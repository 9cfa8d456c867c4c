"""A process is told who it is to Kafka; its password is found in its own file."""

from __future__ import annotations

from pathlib import Path

import pytest

from skeet.config import Settings, load_settings
from skeet.streams.access_admin import password, password_file


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = load_settings(data=tmp_path, kafka={"sasl_username": "desk"})
    password(found, "desk")
    return found


def found_by(data: Path, username: str, **more: str) -> str:
    return load_settings(data=data, kafka={"sasl_username": username, **more}).kafka.sasl_password.get_secret_value()


def test_the_password_is_found_by_the_name(settings: Settings) -> None:
    assert found_by(settings.data, "desk") == password(settings, "desk") != ""


def test_a_name_in_the_environment_is_enough(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKEET_KAFKA__SASL_USERNAME", "desk")
    monkeypatch.setenv("SKEET_DATA", str(settings.data))
    assert load_settings().kafka.sasl_password.get_secret_value() == password(settings, "desk")


def test_a_password_that_was_given_wins(settings: Settings) -> None:
    assert found_by(settings.data, "desk", sasl_password="given") == "given"


@pytest.mark.parametrize("username", ["", "nobody", "../skeet_clickhouse__password", "..", "."])
def test_no_other_file_is_read(settings: Settings, username: str) -> None:
    (settings.secrets_dir / "skeet_clickhouse__password").write_text("another secret")
    assert found_by(settings.data, username) == ""


def test_a_password_is_generated_once(settings: Settings) -> None:
    assert password(settings, "desk") == password(settings, "desk") != password(settings, "gateway")
    assert password_file(settings, "desk").stat().st_mode & 0o077 == 0
