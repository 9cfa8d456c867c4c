"""Records of a partition between two offsets as chunks, read outside of any group: what a restart folds again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from confluent_kafka import KafkaError, Message, TopicPartition

from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.health import HEALTH
from skeet.streams.batches.chunk import Chunk
from skeet.streams.kafka import consumer

BATCH = 8_192
"""Records in a chunk at most."""
SILENCE_LIMIT_S = 30.0
"""A broker that sends nothing for so long, although there is something to read, is away."""
POLL_S = 0.1


def chunks_between(settings: Settings, place: tuple[str, int], first: int, end: int) -> Iterator[Chunk]:
    """The committed records from offset ``first`` up to ``end`` (excluded). Headers are left out.

    Raises
    ------
    InfrastructureError
        the broker is away.
    """
    if first >= end:
        return
    client = consumer(settings, "skeet-tail", enable_partition_eof=True, queued_min_messages=50_000)
    try:
        client.assign([TopicPartition(*place, first)])
        silent_s = 0.0
        while True:
            HEALTH.beat()
            messages = client.consume(BATCH, POLL_S)
            ended = any(_ends(message) for message in messages)
            taken = [message for message in messages if message.error() is None and (message.offset() or 0) < end]
            if taken:
                yield chunk_of(taken)
            position = client.position([TopicPartition(*place)])[0].offset
            if ended or position >= end:
                return
            silent_s = 0.0 if messages else silent_s + POLL_S
            if silent_s >= SILENCE_LIMIT_S:
                raise InfrastructureError(
                    f"{place[0]}/{place[1]}: nothing came for {SILENCE_LIMIT_S:.0f} s at {position}"
                )
    finally:
        client.close()


def _ends(message: Message) -> bool:
    error = message.error()
    if error is None:
        return False
    if error.code() == KafkaError._PARTITION_EOF:
        return True
    if error.fatal() or not error.retriable():
        raise InfrastructureError(f"{message.topic()}/{message.partition()}: {error}")
    return False


def chunk_of(messages: list[Message]) -> Chunk:
    """Consecutive messages of one partition as a chunk, as if they had been fetched together."""
    fields = [part for message in messages for part in (message.value(), message.key())]
    lengths = np.array([-1 if part is None else len(part) for part in fields], np.int64)
    sizes = np.maximum(lengths, 0)
    starts = np.cumsum(sizes) - sizes
    # No headers: their place is behind everything, where their count would be zero.
    raw = b"".join(part for part in fields if part) + b"\0"
    headers = np.full(len(messages), len(raw) - 1, np.int64)
    places = np.stack([starts[0::2], lengths[0::2], starts[1::2], lengths[1::2], headers])
    offsets = np.array([message.offset() for message in messages], np.int64)
    times = np.array([message.timestamp()[1] for message in messages], np.int64)
    return Chunk(
        topic=str(messages[0].topic()),
        partition=int(messages[0].partition() or 0),
        first=int(offsets[0]),
        next_offset=int(offsets[-1]) + 1,
        raw=raw,
        places=places,
        positions=np.stack([offsets, times]),
        size=len(raw),
    )
