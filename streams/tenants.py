"""Tenants as the broker knows them: a tenant exists when it has its two topics."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.streams.topics import (
    TENANT_EVENTS,
    TENANT_TOPICS,
    of_tenant,
    partition_count,
    tenant_in,
    topic_config,
    topic_name,
)

ADMIN_TIMEOUT_S = 20.0
SHOWN_AFTER_S = 0.05
"""Between two looks whether the broker shows a topic that its controller has made."""


def tenants(settings: Settings, client: AdminClient) -> frozenset[str]:
    """Every tenant whose events topic the client may see.

    Raises
    ------
    InfrastructureError
        the broker does not answer.
    """
    prefix = settings.kafka.topic_prefix
    try:
        names = client.list_topics(timeout=ADMIN_TIMEOUT_S).topics
    except KafkaException as error:
        raise InfrastructureError(f"tenants: Kafka does not answer: {error.args[0].str()}") from error
    found = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    known = {tenant_in(name) for name in found}
    return frozenset(t for t in known if t is not None and of_tenant(TENANT_EVENTS, t).name in found)


def create_topics(settings: Settings, client: Any, tenant: str) -> None:
    """Make the tenant's topics where they are missing; events last, since they make the tenant exist.

    Returns when the broker shows them: from then on egress copies, and nothing of the tenant may be written before.

    Raises
    ------
    InfrastructureError
        the broker refused, or does not answer.
    """
    for topic in (of_tenant(topic, tenant) for topic in TENANT_TOPICS):
        name = topic_name(topic, settings.kafka)
        new = NewTopic(
            name,
            partition_count(topic, settings.kafka),
            settings.kafka.replication_factor,
            config=topic_config(topic),
        )
        try:
            client.create_topics([new], operation_timeout=ADMIN_TIMEOUT_S)[name].result(ADMIN_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise InfrastructureError(f"creating {name}: {error.args[0].str()}") from error
    deadline = time.monotonic() + ADMIN_TIMEOUT_S
    while tenant not in tenants(settings, client):  # the controller has answered, the broker learns a moment later
        if time.monotonic() > deadline:
            raise InfrastructureError(f"the topics of tenant {tenant} are made, but not shown; run it again")
        time.sleep(SHOWN_AFTER_S)
