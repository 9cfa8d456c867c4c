"""Kafka clients with the settings that SKEET's promises need. Nobody else makes a client.

Producers use murmur2 so that every client in every language puts a key into the same partition. Consumers read committed
records only, and commit nothing by themselves.
"""

from __future__ import annotations

from typing import Any

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from skeet.config import Settings
from skeet.connections.kafka import kafka_options, require_kafka

RETRY_BACKOFF_MS = 1
"""librdkafka's 100 ms would be waited between back-to-back transactions; a broker answers "concurrent" for under 2 ms."""
RETRY_BACKOFF_MAX_MS = 5
DELIVERY_TIMEOUT_MS = 30_000
"""A record that no broker acknowledged for this long is reported as failed to whoever produced it."""
UNGROUPED = "ungrouped"
"""The consumer group of clients that join none and commit nothing."""
SESSION_TIMEOUT_MS = 10_000
QUEUED_AT_CLOSE = 1_000_000
"""More records than a member's queue holds: news of its group stands behind them."""
TRANSACTION_TIMEOUT_MS = 7_000
"""A desk or gateway that froze this long has lost its transaction, and its successor is not held up longer: the group gives
its partitions away after six seconds, and nobody may read past an open transaction."""


def _common(settings: Settings, client_id: str) -> dict[str, Any]:
    options = kafka_options(settings.kafka)
    require_kafka(settings.kafka)
    return options | {
        "client.id": client_id,
        "retry.backoff.ms": RETRY_BACKOFF_MS,
        "retry.backoff.max.ms": RETRY_BACKOFF_MAX_MS,
        "reconnect.backoff.max.ms": 1_000,
        "socket.nagle.disable": True,  # a request behind another one would wait for its answer
    }


def producer(settings: Settings, client_id: str, *, transactional_id: str = "", **overrides: Any) -> Producer:
    """An idempotent producer, acks=all. ``overrides`` are librdkafka settings with ``_`` for ``.``."""
    config = _common(settings, client_id) | {
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
        "linger.ms": settings.kafka.linger_ms,
        "delivery.timeout.ms": DELIVERY_TIMEOUT_MS,
        "compression.type": "lz4",
    }
    if transactional_id:
        config |= {
            "transactional.id": transactional_id,
            "linger.ms": 0,  # the commit comes right after the last record
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "delivery.timeout.ms": TRANSACTION_TIMEOUT_MS,  # a record cannot outlive its transaction
        }
    return Producer(config | _dotted(overrides))


REBALANCE_MS = 60_000
"""How long a projection's group waits for a member that is alive and does not poll; what that commits later is refused, and a
flush takes seconds. A broker that was killed and came back on a busy machine has been seen to wait so long for the dead, too
(Kafka 4.4; with the client's default of five minutes), instead of a session's ten seconds."""


def consumer(settings: Settings, client_id: str, *, group_id: str = "", **overrides: Any) -> Consumer:
    """A read_committed consumer without automatic commits. Without ``group_id`` only ``assign`` may be used."""
    config = _common(settings, client_id) | {
        # librdkafka wants a name even where no group is joined, and asks the broker about it: one that everybody may ask for.
        "group.id": group_id or group_name(settings, UNGROUPED),
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": False,
        "session.timeout.ms": SESSION_TIMEOUT_MS,
        "fetch.wait.max.ms": 100,
        "fetch.queue.backoff.ms": 10,
    }
    return Consumer(config | _dotted(overrides))


def close_member(client: Consumer) -> None:
    """Close a consumer that joined a group, and not before it has heard what its group had to tell it.

    librdkafka hands its last news to the callbacks while it closes. When those are partitions given or taken, it asks a group
    that has ended already how to answer, and waits for ever, deaf to signals (2.16; one in twelve of the members that were
    closed before their first poll). So what is queued is taken before, and thrown away: nobody has committed it. What comes
    between the two calls can still do it (one in 3,000); then the supervisor kills the process at its deadline.
    """
    try:
        client.consume(QUEUED_AT_CLOSE, 0)
    finally:
        client.close()


def admin(settings: Settings) -> AdminClient:
    """An admin client."""
    # Its own remarks ("purging 1 unserved event" when it is closed) are nobody's concern; failures come as exceptions.
    return AdminClient(_common(settings, "skeet-admin") | {"log_level": 3})


def group_name(settings: Settings, role: str) -> str:
    """The consumer group of a role; the watchdog follows its committed positions."""
    return settings.kafka.topic_prefix + role


def _dotted(overrides: dict[str, Any]) -> dict[str, Any]:
    # log_level is librdkafka's one name without dots.
    return {name if name == "log_level" else name.replace("_", "."): value for name, value in overrides.items()}
