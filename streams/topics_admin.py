"""Compare a broker with the table of topics, and make it so: topics, schemas, genesis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import ConfigResource, NewTopic, ResourceType

from skeet.config import Settings
from skeet.core.control import Genesis
from skeet.core.errors import InfrastructureError, InvalidInput
from skeet.core.ids import derive_id
from skeet.core.record import Meta, Out
from skeet.core.values import AccountId, PrincipalId, TenantId
from skeet.schemas.codec import Codec
from skeet.streams.kafka import admin, producer
from skeet.streams.publishing import Publisher
from skeet.streams.reading import records_until_end
from skeet.streams.registry import register_all
from skeet.streams.tenants import tenants
from skeet.streams.topics import (
    CONTROL,
    TENANT_TOPICS,
    TOPICS,
    Topic,
    of_tenant,
    partition_count,
    topic_config,
    topic_name,
)

PARTITIONER = "murmur2"
ADMIN_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference between the broker and the table; ``remedy`` is ``create``, ``alter`` or ``refuse``."""

    topic: str
    detail: str
    remedy: str


def plan(settings: Settings) -> list[Difference]:
    """What :func:`apply` would do, without doing it."""
    client = admin(settings)
    existing = client.list_topics(timeout=ADMIN_TIMEOUT_S).topics
    differences: list[Difference] = []
    wanted = _table(settings, client)
    for topic in wanted:
        name, count = topic_name(topic, settings.kafka), partition_count(topic, settings.kafka)
        if name not in existing:
            differences.append(Difference(topic=name, detail=f"missing; {count} partitions", remedy="create"))
        elif len(existing[name].partitions) != count:
            detail = f"{len(existing[name].partitions)} partitions, expected {count}; the count is fixed at genesis"
            differences.append(Difference(topic=name, detail=detail, remedy="refuse"))
    present = [topic for topic in wanted if topic_name(topic, settings.kafka) in existing]
    return differences + _config_differences(client, settings, present)


def _table(settings: Settings, client: Any) -> list[Topic]:
    """The table of topics with those of each tenant that exists."""
    per_tenant = [of_tenant(topic, tenant) for tenant in sorted(tenants(settings, client)) for topic in TENANT_TOPICS]
    return [*TOPICS, *per_tenant]


def _config_differences(client: Any, settings: Settings, topics: list[Topic]) -> list[Difference]:
    resources = {ConfigResource(ResourceType.TOPIC, topic_name(topic, settings.kafka)): topic for topic in topics}
    if not resources:
        return []
    found: list[Difference] = []
    for resource, future in client.describe_configs(list(resources)).items():
        actual = future.result(timeout=ADMIN_TIMEOUT_S)
        topic = next(topic for key, topic in resources.items() if key.name == resource.name)
        for key, wanted in topic_config(topic).items():
            if actual[key].value != wanted:
                detail = f"{key} is {actual[key].value}, expected {wanted}"
                found.append(Difference(topic=resource.name, detail=detail, remedy="alter"))
    return found


def apply(settings: Settings) -> list[Difference]:
    """Create missing topics, correct their settings, register schemas, write genesis; idempotent. Returns what it did.

    Raises
    ------
    InvalidInput
        the broker's partition counts, or the genesis event, contradict the settings: nothing is changed.
    """
    differences = plan(settings)
    refused = [difference for difference in differences if difference.remedy == "refuse"]
    if refused:
        raise InvalidInput("; ".join(f"{d.topic}: {d.detail}" for d in refused))
    client = admin(settings)
    _create(client, settings, {d.topic for d in differences if d.remedy == "create"})
    _alter(client, settings, {d.topic for d in differences if d.remedy == "alter"})
    ensure_genesis(settings, register_all(settings))
    return differences


def _create(client: Any, settings: Settings, names: set[str]) -> None:
    wanted = [
        NewTopic(
            topic_name(topic, settings.kafka),
            partition_count(topic, settings.kafka),
            settings.kafka.replication_factor,
            config=topic_config(topic),
        )
        for topic in _table(settings, client)
        if topic_name(topic, settings.kafka) in names
    ]
    if not wanted:
        return
    for name, future in client.create_topics(wanted, operation_timeout=ADMIN_TIMEOUT_S).items():
        try:
            future.result(timeout=ADMIN_TIMEOUT_S)
        except KafkaException as error:
            raise InfrastructureError(f"creating {name}: {error}") from error


def _alter(client: Any, settings: Settings, names: set[str]) -> None:
    for topic in _table(settings, client):
        name = topic_name(topic, settings.kafka)
        if name in names:
            resource = ConfigResource(ResourceType.TOPIC, name, set_config=topic_config(topic))
            for future in client.alter_configs([resource]).values():
                future.result(timeout=ADMIN_TIMEOUT_S)


def ensure_genesis(settings: Settings, codec: Codec) -> None:
    """Write the genesis event into an empty control topic, or compare the one that is there.

    Raises
    ------
    InvalidInput
        the installation was created with other counts or another partitioner.
    """
    wanted = Genesis(
        account_partitions=settings.kafka.account_partitions,
        market_partitions=settings.kafka.market_partitions,
        partitioner=PARTITIONER,
    )
    first = next(records_until_end(settings, codec, [CONTROL]), None)
    if first is None:
        publisher = Publisher(settings, codec, producer(settings, "skeet-genesis"))
        publisher.send([Out(topic=CONTROL.name, key="platform", event=wanted, meta=_genesis_meta(settings))])
        publisher.flush()
    elif first.event != wanted:
        raise InvalidInput(f"this installation began with {first.event}, the settings say {wanted}; set them back")


def _genesis_meta(settings: Settings) -> Meta:
    identity = derive_id("genesis", settings.kafka.topic_prefix)
    return Meta(
        event_id=identity,
        tenant_id=TenantId(""),
        account_id=AccountId(""),
        principal_id=PrincipalId("platform"),
        correlation_id=identity,
        causation_id=identity,
        cause_at="",
        ts_event=0,
        ts_init=0,
    )
