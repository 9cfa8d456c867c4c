"""The moment of a backup: which records it holds and where consumers stood, all at an instant when no account topic moved.

Positions and the logs of commands, reports and events name each other; taken while they move, one would be ahead of another
and a restore would repeat or lose a decision. So they are looked at twice, and taken only when nothing changed in between.
Market topics may move on: they are looked at last, so that whatever an account record names is there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ConfigSource, OffsetSpec, ResourceType

from skeet.backup.layout import Position
from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.streams.kafka import admin
from skeet.streams.topics import TOPICS, PartitionedBy, topic_name

REQUEST_S = 20.0
QUIET_DEADLINE_S = 15.0
"""How long to look for an instant at which no account topic moves."""
SCHEMAS_TOPIC = "_schemas"
"""The registry's own state, in Confluent's layout."""

Place = tuple[str, int]
"""The broker's topic name, and the partition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What to read: first and next offset of every partition, settings of each topic, and consumers' positions."""

    ranges: Mapping[Place, tuple[int, int]]
    configs: Mapping[str, Mapping[str, str]]
    positions: tuple[Position, ...]


def take_cut(settings: Settings) -> Cut:
    """Find a quiet instant and note everything.

    Raises
    ------
    InfrastructureError
        Kafka does not answer, or account topics moved all the time.
    """
    client = admin(settings)
    try:
        return _take(client, settings)
    except KafkaException as error:
        raise InfrastructureError(
            f"Kafka at {settings.kafka.bootstrap} does not answer: {error.args[0].str()}"
        ) from error


def _take(client: AdminClient, settings: Settings) -> Cut:
    places = places_of(client, settings)
    accounts = [place for place in places if place[0] in _account_topics(settings)]
    until = time.monotonic() + QUIET_DEADLINE_S
    while True:
        before = (positions_of(client, settings), ends(client, accounts))
        everything = ends(client, places)
        after = (positions_of(client, settings), ends(client, accounts))
        if _only_accounts(before, accounts) == _only_accounts(after, accounts):
            break
        if time.monotonic() > until:
            raise InfrastructureError(
                f"accounts traded without a pause for {QUIET_DEADLINE_S:.0f} s, so there is no moment to back up: stop the"
                " strategies for a moment (`skeet strategy stop`, or `skeet kill on`), and try again"
            )
    firsts = ends(client, places, OffsetSpec.earliest())
    ranges = {place: (firsts[place], end) for place, end in everything.items()}
    # Positions as they were before the ends were looked at: none of them is past an end.
    return Cut(ranges=ranges, configs=_configs(client, {topic for topic, _ in places}), positions=before[0])


def places_of(client: AdminClient, settings: Settings) -> list[Place]:
    """Every partition of this installation's topics, and of the registry's."""
    found = client.list_topics(timeout=REQUEST_S).topics
    ours = sorted(name for name in found if name.startswith(settings.kafka.topic_prefix) or name == SCHEMAS_TOPIC)
    return [(name, partition) for name in ours for partition in sorted(found[name].partitions)]


def ends(client: AdminClient, places: Iterable[Place], spec: OffsetSpec | None = None) -> dict[Place, int]:
    """Next offset of each partition for a read_committed reader (or what ``spec`` asks for); one request."""
    wanted = {TopicPartition(*place): spec or OffsetSpec.latest() for place in places}
    if not wanted:
        return {}
    level = IsolationLevel.READ_COMMITTED
    answers = client.list_offsets(wanted, isolation_level=level, request_timeout=REQUEST_S)
    return {(at.topic, at.partition): answer.result().offset for at, answer in answers.items()}


def positions_of(client: AdminClient, settings: Settings) -> tuple[Position, ...]:
    """Committed positions of this installation's consumer groups, in order."""
    listed = client.list_consumer_groups(request_timeout=REQUEST_S).result().valid
    groups = sorted(each.group_id for each in listed if each.group_id.startswith(settings.kafka.topic_prefix))
    found: list[Position] = []
    for group in groups:
        asked = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=REQUEST_S)
        found += [_position(group, at) for at in asked[group].result().topic_partitions if at.offset >= 0]
    return tuple(sorted(found, key=lambda each: (each.group, each.topic, each.partition)))


def _position(group: str, at: TopicPartition) -> Position:
    return Position(group=group, topic=at.topic, partition=at.partition, offset=at.offset, metadata=at.metadata or "")


def _account_topics(settings: Settings) -> set[str]:
    kinds = {
        topic for topic in TOPICS if topic.partitioned_by is PartitionedBy.ACCOUNT or topic.name.startswith("control.")
    }
    return {topic_name(topic, settings.kafka) for topic in kinds}


def _only_accounts(state: tuple[tuple[Position, ...], dict[Place, int]], accounts: list[Place]) -> Any:
    positions, offsets = state
    return {each for each in positions if (each.topic, each.partition) in accounts}, offsets


def _configs(client: AdminClient, topics: set[str]) -> dict[str, dict[str, str]]:
    asked = client.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in sorted(topics)])
    return {
        resource.name: {
            entry.name: entry.value
            for entry in answer.result(timeout=REQUEST_S).values()
            if ConfigSource(entry.source) is ConfigSource.DYNAMIC_TOPIC_CONFIG
        }
        for resource, answer in asked.items()
    }
