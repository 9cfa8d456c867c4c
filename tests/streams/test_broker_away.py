"""A broker that is away is an error of the infrastructure, for everybody who asks it."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from skeet.config import KafkaSettings, Settings
from skeet.core.errors import InfrastructureError
from skeet.local.ports import free_port
from skeet.streams import ingest_gate, reading
from skeet.streams.ingest_gate import IngestGate
from skeet.streams.ranges import watermarks


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path, kafka=KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}"))


def test_watermarks_of_a_broker_that_is_away(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "WATERMARK_TIMEOUT_S", 0.3)
    with pytest.raises(InfrastructureError, match=r"end of skeet\.x/3: "):
        watermarks(settings, [("skeet.x", 3)])


def test_gate_does_not_open_by_itself_when_the_log_cannot_be_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_gate, "CATCH_UP_DEADLINE_S", 0.3)
    gate = IngestGate(settings, Mock())
    try:
        with pytest.raises(InfrastructureError, match=r"platform\.events\.v1 could not be read"):
            gate.catch_up()
    finally:
        gate.close()
