"""Waiting and reading in tests that run whole processes on a real broker."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from skeet.config import Settings
from skeet.schemas.codec import Codec
from skeet.streams.reading import records_until_end
from skeet.streams.topics import Topic


def environment_of(settings: Settings) -> dict[str, str]:
    return {
        "SKEET_DATA": str(settings.data),
        "SKEET_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "SKEET_KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        "SKEET_KAFKA__ACCOUNT_PARTITIONS": "2",
        "SKEET_KAFKA__MARKET_PARTITIONS": "2",
        "SKEET_REGISTRY__URL": settings.registry.url,
    }


def wait_for(condition: Callable[[], Any], deadline_s: float, what: str) -> Any:
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {deadline_s} s: {what}")


def events(settings: Settings, codec: Codec, topic: Topic, kind: type[Any]) -> list[Any]:
    return [r for r in records_until_end(settings, codec, [topic]) if isinstance(r.event, kind)]
