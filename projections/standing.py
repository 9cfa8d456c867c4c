"""How far each projection is, against the ends of its topics."""

from __future__ import annotations

from dataclasses import dataclass

from skeet.config import Settings
from skeet.projections.clickhouse_store import HistoryStore
from skeet.projections.history import TABLES
from skeet.projections.postgres_store import AccountStore
from skeet.streams.kafka import consumer
from skeet.streams.reading import end_offsets, partitions_of
from skeet.streams.topics import ACCOUNT_EVENTS, CONTROL, Topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Position of a projection in one partition, and the partition's end. A topic written in transactions ends with a
    marker that is no record: there a projection that is caught up stands one or a few offsets before the end."""

    projection: str
    topic: str
    partition: int
    position: int
    end: int


def standing(settings: Settings) -> list[Standing]:
    """Positions of both projections, partition by partition."""
    return [*_postgres(settings), *_clickhouse(settings)]


def _postgres(settings: Settings) -> list[Standing]:
    store = AccountStore(settings)
    try:
        return _against_ends(settings, "postgres", [ACCOUNT_EVENTS, CONTROL], store.positions())
    finally:
        store.close()


def _clickhouse(settings: Settings) -> list[Standing]:
    store = HistoryStore(settings)
    try:
        return _against_ends(settings, "clickhouse", [table.topic for table in TABLES], store.next_offsets())
    finally:
        store.close()


def _against_ends(
    settings: Settings, projection: str, topics: list[Topic], positions: dict[tuple[str, int], int]
) -> list[Standing]:
    prefix, partitions = settings.kafka.topic_prefix, partitions_of(settings, topics)
    client = consumer(settings, "skeet-standing")
    try:
        ends = end_offsets(client, partitions)
    finally:
        client.close()
    return [
        Standing(
            projection=projection,
            topic=name.removeprefix(prefix),
            partition=number,
            position=positions.get((name.removeprefix(prefix), number), 0),
            end=end,
        )
        for (name, number), end in ends.items()
    ]
