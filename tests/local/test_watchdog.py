"""Which groups are stuck: samples in, partitions out. And the positions of a real group on a real broker."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from skeet.local.watchdog import SAMPLE_INTERVAL_S, STILL_S, Sample, sample_group, stuck

PLACE = ("orders", 0)


def samples(committed: Callable[[float], int], end: Callable[[float], int], seconds: float = 21) -> Sequence[Sample]:
    times = [n * SAMPLE_INTERVAL_S for n in range(int(seconds / SAMPLE_INTERVAL_S) + 1)]
    return [Sample(at_s=t, committed={PLACE: committed(t)}, end={PLACE: end(t)}) for t in times]


def test_position_that_stands_still_behind_a_moving_end_is_stuck() -> None:
    assert stuck(samples(lambda _: 100, lambda t: 100 + int(t * 10))) == [PLACE]


def test_group_that_keeps_up_is_not_stuck() -> None:
    assert stuck(samples(lambda t: 100 + int(t * 10), lambda t: 110 + int(t * 10))) == []


def test_slow_group_with_growing_lag_is_not_stuck() -> None:
    assert stuck(samples(lambda t: 100 + int(t / 10), lambda t: 100 + int(t * 1000))) == []


def test_group_with_nothing_to_do_is_not_stuck() -> None:
    assert stuck(samples(lambda _: 100, lambda _: 100)) == []


def test_standing_end_is_not_stuck_even_with_lag() -> None:
    # A transaction's marker at the end of an idle partition is a lag of one for ever.
    assert stuck(samples(lambda _: 100, lambda _: 101)) == []


def test_record_that_came_just_now_proves_nothing() -> None:
    assert stuck(samples(lambda _: 100, lambda t: 101 if t > 18 else 100)) == []


def test_too_few_samples_say_nothing() -> None:
    assert stuck([]) == []
    assert stuck(samples(lambda _: 100, lambda t: 100 + int(t * 10), seconds=STILL_S - 1)) == []


def test_one_stuck_partition_among_moving_ones_is_found() -> None:
    moving = ("orders", 1)
    both = [
        Sample(
            at_s=sample.at_s,
            committed={**sample.committed, moving: int(sample.at_s)},
            end={**sample.end, moving: int(sample.at_s)},
        )
        for sample in samples(lambda _: 5, lambda t: 5 + int(t))
    ]
    assert stuck(both) == [PLACE]


@pytest.mark.integration
def test_sample_holds_committed_positions_and_ends(kafka: str) -> None:
    topic, group = f"t{uuid.uuid4().hex}", f"g{uuid.uuid4().hex}"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)
    producer = Producer({"bootstrap.servers": kafka})
    for _ in range(5):
        producer.produce(topic, b"x")
    assert producer.flush(10) == 0
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, 2)], asynchronous=False)
    consumer.close()
    sample = sample_group(admin, group)
    assert (sample.committed, sample.end) == ({(topic, 0): 2}, {(topic, 0): 5})
