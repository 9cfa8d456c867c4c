"""A platform of its own for each test: prefixed topics on the session's broker, roles as processes."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skeet.config import Settings
from skeet.core.record import Out
from skeet.schemas.codec import Codec
from skeet.streams import topics_admin
from skeet.streams.kafka import producer
from skeet.streams.publishing import Publisher
from skeet.streams.registry import registered_codec

sys.path.insert(0, str(Path(__file__).parent))  # live.py is a module of these tests

from live import environment_of, wait_for


@pytest.fixture
def settings(kafka: str, registry_url: str, tmp_path: Path) -> Settings:
    prefix = f"t{uuid.uuid4().hex[:8]}."
    made = Settings(
        kafka={"bootstrap": kafka, "topic_prefix": prefix, "account_partitions": 2, "market_partitions": 2},
        registry={"url": registry_url},
        data=tmp_path,
    )
    topics_admin.apply(made)
    return made


@pytest.fixture
def codec(settings: Settings) -> Codec:
    return registered_codec(settings)


@pytest.fixture
def publish(settings: Settings, codec: Codec) -> Callable[..., None]:
    publisher = Publisher(settings, codec, producer(settings, "test"))

    def send(topic: str, *events: Any) -> None:
        publisher.send([Out(topic=topic, key=getattr(e, "instrument_id", ""), event=e) for e in events])
        publisher.flush()

    return send


@pytest.fixture
def role(settings: Settings) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts a role as a process; all are killed at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> subprocess.Popen[bytes]:
        ready = settings.data / f"ready-{uuid.uuid4().hex}"
        environment = os.environ | environment_of(settings) | {"SKEET_READY_FILE": str(ready)}
        with (settings.data / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "skeet", "run", name], env=environment, stdout=log, stderr=log
            )
        started.append(process)
        wait_for(lambda: ready.exists() or process.poll() is not None, 60, f"{name} ready")
        assert process.poll() is None, (settings.data / f"{name}.log").read_text()
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
