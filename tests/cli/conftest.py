"""The command as a user calls it, against an installation of its own on the session's broker."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from skeet.cli.main import app, report
from skeet.config import Settings, load_settings
from skeet.schemas.codec import Codec
from skeet.streams import topics_admin
from skeet.streams.registry import registered_codec

Skeet = Callable[..., Result]


@pytest.fixture
def skeet() -> Skeet:
    """Call the command in this process: ``skeet("order", "list")``; errors end as they do in ``main``."""

    def call(*arguments: str) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            result.exit_code = report(result.exception) if isinstance(result.exception, Exception) else 1
        return result

    return call


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data directory that the commands find."""
    monkeypatch.setenv("SKEET_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def installation(kafka: str, registry_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Topics, schemas and genesis under a prefix of its own; commands find it through the environment."""
    monkeypatch.setenv("SKEET_KAFKA__BOOTSTRAP", kafka)
    monkeypatch.setenv("SKEET_KAFKA__TOPIC_PREFIX", f"t{uuid.uuid4().hex[:8]}.")
    monkeypatch.setenv("SKEET_KAFKA__ACCOUNT_PARTITIONS", "2")
    monkeypatch.setenv("SKEET_KAFKA__MARKET_PARTITIONS", "2")
    monkeypatch.setenv("SKEET_REGISTRY__URL", registry_url)
    settings = load_settings()
    topics_admin.apply(settings)
    return settings


@pytest.fixture
def codec(installation: Settings) -> Codec:
    return registered_codec(installation)
