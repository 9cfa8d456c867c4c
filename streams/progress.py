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
    client = admin(settings)  # held until the answer is here: a client that is collected takes its requests with it
    answer = client.list_consumer_group_offsets([request], request_timeout=REQUEST_TIMEOUT_S)
    places = answer[group].result(timeout=REQUEST_TIMEOUT_S).topic_partitions
    return {(place.topic, place.partition): place.offset for place in places if place.offset >= 0}


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
