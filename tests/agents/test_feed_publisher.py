"""What a feed hands to which producer: nothing that is traded on waits to be gathered."""

from __future__ import annotations

from typing import Any

import pytest

from skeet.agents import feed
from skeet.agents.feed import RAW_LINGER_MS, FeedPublisher
from skeet.config import Settings
from skeet.core.market import Quote, RawFrame
from skeet.schemas.codec import numbered_codec
from skeet.schemas.golden import sample


class Queue:
    """A producer that only queues."""

    def __init__(self, linger_ms: float) -> None:
        self.linger_ms = linger_ms
        self.topics: list[str] = []
        self.flushed = self.closed = False

    def produce(self, topic: str, *_: Any, **__: Any) -> None:
        self.topics.append(topic)

    def poll(self, _: float) -> int:
        return 0

    def flush(self, _: float) -> int:
        self.flushed = True
        return 0

    def close(self) -> None:
        self.closed = True


def test_frames_are_gathered_and_events_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Queue] = []

    def producer(_: Settings, linger_ms: float) -> Queue:
        made.append(Queue(linger_ms))
        return made[-1]

    monkeypatch.setattr(feed, "feed_producer", producer)
    settings = Settings()
    publisher = FeedPublisher(settings, numbered_codec())
    publisher.frame(sample(RawFrame), [sample(Quote)])
    publisher.close()
    lingers = {topic: queue.linger_ms for queue in made for topic in queue.topics}
    assert lingers == {"skeet.market.raw.v1": RAW_LINGER_MS, "skeet.market.quotes.v1": settings.kafka.linger_ms}
    assert all(queue.flushed and queue.closed for queue in made)
