"""Reading up to the end of a topic that somebody goes on writing to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from skeet.agents.account_owners import AccountOwners
from skeet.config import Settings
from skeet.core.market import Tick
from skeet.core.record import Out
from skeet.schemas.codec import Codec
from skeet.streams.kafka import producer
from skeet.streams.publishing import Publisher
from skeet.streams.reading import messages_until_end, partitions_of, written_offsets
from skeet.streams.registry import registered_codec
from skeet.streams.topics import ACCOUNT_EVENTS, CLOCK, Topic
from skeet.verify.log import Log

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

EVERY_S = 0.01
"""Between two records: less than a fetch waits for the next one, so that no answer of the broker is ever empty, and the broker
never reports an end."""
BEFORE = 100
"""Records that are there before anybody reads."""

Reader = Callable[[Settings, Codec], int | None]
"""Reads to the end, and says how many records that were if it knows."""


def until_end(settings: Settings, _: Codec) -> int:
    return sum(1 for _ in messages_until_end(settings, partitions_of(settings, [CLOCK])))


def verified(settings: Settings, _: Codec) -> int:
    log = Log(settings)
    return sum(1 for _ in log.read(log.places([CLOCK.name])))


def owners(settings: Settings, codec: Codec) -> None:
    AccountOwners(settings, codec, "test").start()


@contextmanager
def writer(settings: Settings, codec: Codec, topic: Topic) -> Iterator[None]:
    """Writes all the time until the block ends."""
    stop, begun = threading.Event(), threading.Event()

    def write() -> None:
        publisher, number = Publisher(settings, codec, producer(settings, "test")), 0
        while number < BEFORE or not stop.wait(EVERY_S):
            number += 1
            publisher.send([Out(topic=topic.name, key="", event=Tick(ts_event=time.time_ns()))])
            if number == BEFORE:
                publisher.flush()
                begun.set()
        publisher.flush()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert begun.wait(30)
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(("read", "topic"), [(until_end, CLOCK), (verified, CLOCK), (owners, ACCOUNT_EVENTS)])
def test_the_end_is_the_one_of_the_moment_it_was_asked_for(
    read: Reader, topic: Topic, applied_settings: Settings
) -> None:
    settings, codec = applied_settings, registered_codec(applied_settings)
    with writer(settings, codec, topic):
        count = read(settings, codec)
        assert count is None or BEFORE <= count <= sum(
            written_offsets(settings, partitions_of(settings, [topic])).values()
        )
