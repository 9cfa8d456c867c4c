"""Whether consumers have read what a read_committed reader would be delivered: the only meaning of "caught up"."""

from __future__ import annotations

import time
from collections.abc import Iterable

from confluent_kafka import ConsumerGroupTopicPartitions

from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.streams.kafka import admin, group_name
from skeet.streams.reading import Partition, messages_until_end

REQUEST_TIMEOUT_S = 10.0
POLL_INTERVAL_S = 0.3


def committed_positions(settings: Settings, role_group: str) -> dict[Partition, int]:
    """Next offset of each partition that the group ever committed."""
    group = group_name(settings, role_group)
    request = ConsumerGroupTopicPartitions(group)
    answer = admin(settings).list_consumer_group_offsets([request], request_timeout=REQUEST_TIMEOUT_S)
    places = answer[group].result(timeout=REQUEST_TIMEOUT_S).topic_partitions
    return {(place.topic, place.partition): place.offset for place in places if place.offset >= 0}


def unread(settings: Settings, role_group: str) -> int:
    """Records a read_committed consumer would still be delivered behind the group's positions.

    Offset differences are not used: control markers and aborted records occupy offsets too.
    """
    positions = committed_positions(settings, role_group)
    return sum(1 for _ in messages_until_end(settings, list(positions), positions)) if positions else 0


def await_caught_up(settings: Settings, role_groups: Iterable[str], deadline_s: float) -> None:
    """Return once no group has anything left to read, in one round in which nothing was left for any.

    Raises
    ------
    InfrastructureError
        a group is still behind after ``deadline_s``; names each with what is left.
    """
    groups = list(role_groups)
    until = time.monotonic() + deadline_s
    while True:
        behind = {group: left for group in groups if (left := unread(settings, group))}
        if not behind:
            return
        if time.monotonic() > until:
            listed = ", ".join(f"{group} {count}" for group, count in behind.items())
            raise InfrastructureError(f"not caught up after {deadline_s:.0f} s, records left: {listed}")
        time.sleep(POLL_INTERVAL_S)
