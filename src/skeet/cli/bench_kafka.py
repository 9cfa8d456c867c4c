"""What the measurements on a real Kafka share: a broker of their own, topics, the same trades again and again, and reading back.

Nothing here knows what is measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from skeet.core.errors import InfrastructureError
from skeet.core.market import Signal, Trade
from skeet.core.values import NS_PER_MS, Side
from skeet.local.kafka import KafkaBroker
from skeet.schemas.codec import numbered_codec

PARTITIONS = 4
INSTRUMENTS = 64
DISTINCT = 64_000
"""Trades that are made; a topic holds them again and again, with ids and times as they are."""
DEADLINE_S = 400.0
"""Filling a topic, or one silence while reading it, takes less."""


@contextmanager
def broker() -> Iterator[str]:
    """The address of a Kafka in a temporary directory, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="skeet-bench-") as home:
        started = KafkaBroker(Path(home))
        try:
            yield started.start()
        finally:
            started.stop()


def create(bootstrap: str, *topics: str) -> None:
    """Topics of :data:`PARTITIONS` partitions that do not exist yet."""
    created = AdminClient({"bootstrap.servers": bootstrap})
    for made in created.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in topics]).values():
        made.result(30)


def trades() -> Iterator[Trade]:
    """:data:`DISTINCT` trades of :data:`INSTRUMENTS` instruments in turn."""
    for number in range(DISTINCT):
        yield Trade(
            instrument_id=f"BINANCE:X{number % INSTRUMENTS}/USDT",
            ts_event=1_760_000_000_000_000_000 + number * NS_PER_MS,
            ts_init=1_760_000_000_000_000_000 + number * NS_PER_MS + 250_000,
            trade_id=str(3_000_000_000 + number),
            price_mantissa=6_000_000 + (number * 7919) % 100_003,
            size_mantissa=1 + (number * 104_729) % 99_991,
            price_scale=2,
            size_scale=5,
            aggressor_side=Side.BUY if (number * 31) % 7 < 4 else Side.SELL,
        )


def fill(bootstrap: str, topic: str, records: int) -> None:
    """So many trades, keyed by instrument: of two topics with different counts the longer one begins with the shorter one's.

    Raises
    ------
    InfrastructureError
        the broker did not take them within :data:`DEADLINE_S`.
    """
    codec = numbered_codec((Trade, Signal))
    encoded = [(trade.instrument_id.encode(), codec.encode(trade)) for trade in trades()]
    client = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "linger.ms": 20,
            "batch.size": 262_144,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    for number in range(records):
        key, value = encoded[number % DISTINCT]
        if number % 10_000 == 0:
            client.flush(DEADLINE_S)
        client.produce(topic, value, key)
    if client.flush(DEADLINE_S):
        raise InfrastructureError("the broker did not take the trades in time")


def read_values(bootstrap: str, topic: str) -> Iterator[bytes]:
    """Every record's value, to the ends of all partitions; in order within each.

    Raises
    ------
    InfrastructureError
        the ends were not reached.
    """
    client = Consumer({"bootstrap.servers": bootstrap, "group.id": "compare", "enable.partition.eof": True})
    client.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    ended = 0
    try:
        while ended < PARTITIONS:
            message = client.poll(DEADLINE_S)
            if message is None:
                raise InfrastructureError(f"{topic} was not read to its ends within {DEADLINE_S:.0f} s of silence")
            if message.error():
                ended += 1
            else:
                yield message.value() or b""
    finally:
        client.close()
