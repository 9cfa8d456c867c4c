"""Loops around bare Kafka clients: what is left when there is no framework."""

from __future__ import annotations

import asyncio
import io
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import fastavro
from aiokafka import AIOKafkaConsumer
from confluent_kafka import Consumer

from skeet.agents.bench_clock import Clock
from skeet.core.market import Trade
from skeet.schemas.catalogue import committed_schema
from skeet.schemas.codec import HEADER


def confluent_decode(bootstrap: str, topic: str, count: int) -> dict[str, Any]:
    """A bare confluent-kafka loop that decodes each record with fastavro."""
    read = _reader()
    return _confluent(bootstrap, topic, count, lambda messages: [read(message.value()) for message in messages])


def aiokafka_decode(bootstrap: str, topic: str, count: int) -> dict[str, Any]:
    """A bare aiokafka loop that takes what a poll brought, and decodes each record with fastavro."""
    return asyncio.run(_aiokafka(bootstrap, topic, count))


async def _aiokafka(bootstrap: str, topic: str, count: int) -> dict[str, Any]:
    read, group, clock = _reader(), f"bench-{uuid.uuid4().hex[:8]}", Clock(count)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    await consumer.start()
    try:
        while not clock.done.is_set():
            for records in (await consumer.getmany(timeout_ms=100, max_records=10_000)).values():
                decoded = [read(record.value) for record in records]
                clock.add(len(decoded))
    finally:
        await consumer.stop()
    return clock.found


def _reader() -> Callable[[Any], Any]:
    schema = fastavro.parse_schema(committed_schema(Trade))
    skipped = HEADER.size

    def read(value: Any) -> Any:
        return fastavro.schemaless_reader(io.BytesIO(value[skipped:]), schema)

    return read


def confluent_values(bootstrap: str, topic: str, count: int) -> dict[str, Any]:
    """A bare confluent-kafka loop that only takes each record's value."""
    return _confluent(bootstrap, topic, count, lambda messages: [message.value() for message in messages])


def _confluent(bootstrap: str, topic: str, count: int, take: Callable[[list[Any]], list[Any]]) -> dict[str, Any]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"bench-{uuid.uuid4().hex[:8]}",
            "auto.offset.reset": "earliest",
            "queued.min.messages": 1_000_000,
            "fetch.queue.backoff.ms": 5,
        }
    )
    consumer.subscribe([topic])
    most = min(10_000, count // 10)  # the first poll's do not count: some must be left
    seen = left_out = 0
    began = cpu_began = 0.0
    while seen < count:
        values = take(consumer.consume(most, 0.1))
        seen += len(values)
        if values and not began:
            left_out, began, cpu_began = seen, time.perf_counter(), time.process_time()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_began
    consumer.close()
    return {"records": seen - left_out, "seconds": seconds, "cpu_seconds": cpu}


BARE: Mapping[str, Callable[[str, str, int], dict[str, Any]]] = {
    "confluent": confluent_values,
    "confluent-decode": confluent_decode,
    "aiokafka-decode": aiokafka_decode,
}
