"""Whether consumers have read what a read_committed reader would be delivered: the only meaning of "caught up"."""

from __future__ import annotations

import time
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.streams.kafka import consumer, group_name
from skeet.streams.reading import Partition, messages_until_end

REQUEST_TIMEOUT_S = 10.0
POLL_INTERVAL_S = 0.3
WITHOUT_COORDINATOR = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)
"""What a broker says of a group for a moment after it came back."""


def committed_positions(settings: Settings, role_group: str) -> dict[Partition, int]:
    """Next offset of each partition that the group ever committed. It is not joined.

    The admin client could be asked too, and has been seen to end the process in C when a broker that was killed and came
    back knew no coordinator of the group.

    Raises
    ------
    InfrastructureError
        Kafka is away, or nobody answers for the group's positions.
    """
    group = group_name(settings, role_group)
    client = consumer(settings, "skeet-positions", group_id=group)
    until = time.monotonic() + REQUEST_TIMEOUT_S
    try:
        while True:
            try:
                found = client.committed(_partitions(client, settings), timeout=REQUEST_TIMEOUT_S)
                return {(place.topic, place.partition): place.offset for place in found if place.offset >= 0}
            except KafkaException as error:
                if error.args[0].code() not in WITHOUT_COORDINATOR or time.monotonic() > until:
                    raise InfrastructureError(f"positions of consumer group {group}: {error.args[0].str()}") from error
                time.sleep(POLL_INTERVAL_S)
    finally:
        client.close()


def _partitions(client: Consumer, settings: Settings) -> list[TopicPartition]:
    known = client.list_topics(timeout=REQUEST_TIMEOUT_S).topics
    ours = (name for name in known if name.startswith(settings.kafka.topic_prefix) and not name.startswith("__"))
    return [TopicPartition(name, number) for name in ours for number in known[name].partitions]


def delivered_ends(settings: Settings, role_group: str) -> dict[Partition, int]:
    """Where the group stands once it has read all that a read_committed reader is delivered by now.

    Offset differences are not used: control markers and aborted records occupy offsets too.
    """
    ends = committed_positions(settings, role_group)
    for message in messages_until_end(settings, list(ends), dict(ends)) if ends else ():
        place = (message.topic(), message.partition())
        ends[place] = max(ends[place], message.offset() + 1)
    return ends


def await_caught_up(settings: Settings, role_groups: Iterable[str], deadline_s: float) -> None:
    """Return once every group has read to the ends captured when this was called.

    Raises
    ------
    InfrastructureError
        a group is still behind after ``deadline_s``; names each with how many partitions are left.
    """
    ends = {group: delivered_ends(settings, group) for group in role_groups}
    until = time.monotonic() + deadline_s
    while behind := {group: left for group, end in ends.items() if (left := _behind(settings, group, end))}:
        if time.monotonic() > until:
            listed = ", ".join(f"{group} in {', '.join(left)}" for group, left in behind.items())
            raise InfrastructureError(f"not caught up after {deadline_s:.0f} s: {listed}")
        time.sleep(POLL_INTERVAL_S)


def _behind(settings: Settings, role_group: str, ends: dict[Partition, int]) -> list[str]:
    positions = committed_positions(settings, role_group)
    return [f"{topic}/{number}" for (topic, number), end in ends.items() if positions.get((topic, number), 0) < end]
