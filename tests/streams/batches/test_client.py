"""The blocking member of a group on a real broker: every record once from where it was started, callbacks in its own thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewTopic

from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.streams.batches import client
from skeet.streams.batches.client import ChunkClient
from skeet.streams.kafka import REBALANCE_MS, admin, consumer, producer
from skeet.streams.stages import Partition

pytestmark = pytest.mark.integration
DEADLINE_S = 60.0
PARTITIONS = 2


class Member:
    """A client that goes on where the group stands, and what it was given: offsets by partition, in order of delivery."""

    def __init__(self, settings: Settings, topic: str, name: str = "member") -> None:
        self.client = ChunkClient(settings, name, f"{topic}-group", fetch_wait_ms=50)
        self.owned: set[Partition] = set()
        self.read: dict[Partition, list[int]] = {}
        self.next: dict[Partition, int] = {}
        self.threads: set[int] = set()
        self.client.subscribe([topic], self.assigned, self.revoked)

    def assigned(self, places: Any) -> None:
        self.threads.add(threading.get_ident())
        self.owned |= set(places)
        committed = self.client.committed(places)
        self.next = {place: committed[place][0] if place in committed else 0 for place in places}
        self.client.start({place: committed[place][0] if place in committed else None for place in places})

    def revoked(self, places: Any) -> None:
        self.threads.add(threading.get_ident())
        self.owned -= set(places)

    def commit(self) -> None:
        self.client.commit({place: (self.next[place], "noted") for place in self.owned})

    def poll(self) -> None:
        """Take what there is and commit it at once, so that whoever goes on repeats nothing."""
        for chunk in self.client.poll(0.2):
            place = (chunk.topic, chunk.partition)
            assert place in self.owned
            assert int(chunk.offsets[0]) >= self.next[place]
            self.read.setdefault(place, []).extend(chunk.offsets.tolist())
            self.next[place] = chunk.next_offset
            self.commit()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, (self.owned, {k: len(v) for k, v in self.read.items()})
            self.poll()


@pytest.fixture
def topic(fresh_settings: Callable[[], Settings]) -> Iterator[tuple[Settings, str]]:
    settings, name = fresh_settings(), f"c{uuid4().hex[:8]}"
    client = admin(settings)
    for made in client.create_topics([NewTopic(name, PARTITIONS, 1)]).values():
        made.result(20)
    yield settings, name


def write(settings: Settings, topic: str, count: int) -> None:
    client = producer(settings, "test")
    for number in range(count):
        client.produce(topic, b"v%d" % number, b"k", partition=number % PARTITIONS)
    assert client.flush(30) == 0


def test_every_record_comes_once_from_where_the_group_stands(topic: tuple[Settings, str]) -> None:
    settings, name = topic
    write(settings, name, 1_000)
    first = Member(settings, name)
    first.until(lambda: len(first.client.ended(sorted(first.owned))) == PARTITIONS)
    first.commit()
    first.client.close()
    assert first.read == {(name, partition): list(range(500)) for partition in range(PARTITIONS)}
    assert first.threads == {threading.get_ident()}
    write(settings, name, 200)
    second = Member(settings, name)
    second.until(lambda: sum(map(len, second.read.values())) == 200)
    assert second.client.committed([(name, 0)]) == {(name, 0): (600, "noted")}
    assert second.read == {(name, partition): list(range(500, 600)) for partition in range(PARTITIONS)}
    assert second.client.end((name, 1)) == 600
    second.client.close()


def test_metadata_passes_between_the_clients(topic: tuple[Settings, str]) -> None:
    """The watchdog reads what we commit, and we read what an older version committed, with confluent-kafka."""
    settings, name = topic
    member = Member(settings, name)
    member.until(lambda: len(member.owned) == PARTITIONS)
    member.client.commit({(name, 0): (7, "ours"), (name, 1): (8, "é" * 500)})
    member.client.close()
    other = consumer(settings, "other", group_id=f"{name}-group")
    wanted = [TopicPartition(name, partition) for partition in range(PARTITIONS)]
    found = [(each.offset, each.metadata) for each in other.committed(wanted, timeout=10)]
    assert found == [(7, "ours"), (8, "é" * 500)]
    other.commit(offsets=[TopicPartition(name, 0, 9, metadata="theirs")], asynchronous=False)
    other.close()
    member = Member(settings, name)
    member.until(lambda: len(member.owned) == PARTITIONS)
    assert member.client.committed([(name, 0)]) == {(name, 0): (9, "theirs")}
    member.client.close()


def test_a_member_that_joins_goes_on_where_the_other_committed(topic: tuple[Settings, str]) -> None:
    settings, name = topic
    write(settings, name, 400)
    old = Member(settings, name, "old")
    old.until(lambda: sum(map(len, old.read.values())) >= 1)
    new = Member(settings, name, "new")

    def shared() -> bool:
        new.poll()
        return len(old.owned) == len(new.owned) == 1

    old.until(shared)
    write(settings, name, 400)

    def all_read() -> bool:
        new.poll()
        return sum(len(offsets) for member in (old, new) for offsets in member.read.values()) >= 800

    old.until(all_read)
    both = {(name, p): old.read.get((name, p), []) + new.read.get((name, p), []) for p in range(PARTITIONS)}
    assert both == {(name, p): list(range(400)) for p in range(PARTITIONS)}
    old.client.close()
    new.until(lambda: len(new.owned) == PARTITIONS)
    new.client.close()


def test_a_group_does_not_wait_long_for_a_member_that_does_not_poll(
    topic: tuple[Settings, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert REBALANCE_MS <= 60_000
    monkeypatch.setattr(client, "REBALANCE_MS", 10_000)
    settings, name = topic
    gone = Member(settings, name, "gone")
    gone.until(lambda: len(gone.owned) == PARTITIONS)
    other = Member(settings, name, "other")  # the one that is gone goes on sending heartbeats
    other.until(lambda: len(other.owned) == PARTITIONS)
    other.client.close()
    gone.client.close()


def test_what_was_fetched_before_a_start_elsewhere_is_not_delivered(topic: tuple[Settings, str]) -> None:
    settings, name = topic
    write(settings, name, 600)
    member = Member(settings, name)
    member.until(lambda: len(member.client.ended(sorted(member.owned))) == PARTITIONS)
    for start in (100, 250, 7):
        member.read.clear()
        member.next = dict.fromkeys(member.owned, start)
        member.client.start(dict.fromkeys(member.owned, start))
        member.until(lambda: sum(map(len, member.read.values())) >= 2 * (300 - start))  # noqa: B023 - called at once
        assert member.read == {(name, partition): list(range(start, 300)) for partition in range(PARTITIONS)}
    member.client.close()


def test_a_commit_of_what_is_not_owned_is_an_error_of_infrastructure(topic: tuple[Settings, str]) -> None:
    settings, name = topic
    member = Member(settings, name)
    member.until(lambda: len(member.owned) == PARTITIONS)
    with pytest.raises(InfrastructureError):
        member.client.commit({("other", 0): (1, "")})
    member.client.close()
    member.client.close()
