"""The compacted topic ``_schemas``: read to its end at the start, appended to by one fenced writer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from skeet.config import KafkaSettings
from skeet.connections.kafka import kafka_options, require_kafka
from skeet.core.errors import InfrastructureError
from skeet.local.registry_state import LogRecord

TOPIC = "_schemas"
WRITER = "skeet-registry"
"""Transactional id: a second registry on the same log fences the first, so there is never more than one writer."""

BROKER_DEADLINE_S = 30.0


class RegistryLog:
    """``read()`` once, then ``append()``; both raise InfrastructureError when the broker does not answer in time."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._options = kafka_options(kafka)
        require_kafka(kafka)
        _ensure_topic(self._options, kafka.replication_factor)
        self._producer = Producer(
            {
                **self._options,
                "transactional.id": WRITER,
                "acks": "all",
                "retry.backoff.ms": 1,  # the default of 100 delays every small transaction by as much
                "retry.backoff.max.ms": 5,
            }
        )
        # Before reading: afterwards no other writer can append behind our back.
        try:
            self._producer.init_transactions(BROKER_DEADLINE_S)
        except KafkaException as error:
            raise InfrastructureError(f"{TOPIC} cannot be opened for writing: {error.args[0].str()}") from error

    def read(self) -> Iterator[LogRecord]:
        """Every committed record from the start to the end as it stands now."""
        consumer = Consumer(
            {
                **self._options,
                "group.id": WRITER,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
            }
        )
        consumer.assign([TopicPartition(TOPIC, 0, 0)])
        deadline = time.monotonic() + BROKER_DEADLINE_S
        try:
            while time.monotonic() < deadline:
                message = consumer.poll(1.0)
                if message is None:
                    continue
                error = message.error()
                if error is None:
                    value = message.value()
                    yield LogRecord(key=message.key().decode(), value=value.decode() if value else None)
                elif error.code() == KafkaError._PARTITION_EOF:
                    return
                elif error.fatal():
                    break
        finally:
            consumer.close()
        raise InfrastructureError(f"{TOPIC} was not read to its end within {BROKER_DEADLINE_S:.0f} s; is Kafka up?")

    def append(self, record: LogRecord) -> None:
        """Append one record; returns once it is committed. On any error its fate is unknown: read the log anew."""
        try:
            self._producer.begin_transaction()
            value = record.value.encode() if record.value is not None else None
            self._producer.produce(TOPIC, key=record.key.encode(), value=value, partition=0)
            self._producer.commit_transaction(BROKER_DEADLINE_S)
        except KafkaException as error:
            raise InfrastructureError(f"{TOPIC} did not take a record: {error.args[0].str()}") from error


def _ensure_topic(options: dict[str, Any], replication_factor: int) -> None:
    admin = AdminClient(options)
    topic = NewTopic(
        TOPIC, num_partitions=1, replication_factor=replication_factor, config={"cleanup.policy": "compact"}
    )
    try:
        admin.create_topics([topic], operation_timeout=BROKER_DEADLINE_S)[TOPIC].result(BROKER_DEADLINE_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise InfrastructureError(f"topic {TOPIC} cannot be created: {error.args[0].str()}") from error
