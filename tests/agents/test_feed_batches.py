"""Batches at the producer's door: a full queue delays, and reorders nothing; what cannot be queued is told."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer

from skeet.agents.feed_batches import BatchEncoder, produce_batch
from skeet.core.errors import InfrastructureError
from skeet.core.market import Trade
from skeet.schemas.codec import numbered_codec
from skeet.schemas.columns.decoding import ColumnDecoder
from skeet.schemas.golden import sample


def messages(count: int) -> list[dict[str, Any]]:
    return [{"value": b"%d" % number, "key": b"k%d" % (number % 3)} for number in range(count)]


def failed(*_: object) -> None:
    raise AssertionError("nothing fails here")


class Door:
    """A client whose queue takes so many messages at a time."""

    def __init__(self, room: int) -> None:
        self.room, self.queued = room, list[bytes]()

    def produce_batch(self, _: str, batch: list[dict[str, Any]], on_delivery: object) -> int:
        for number, message in enumerate(batch):
            if number < self.room:
                self.queued.append(message["value"])
            else:
                message["_error"] = KafkaError(KafkaError._QUEUE_FULL)
        return min(self.room, len(batch))


def test_what_found_no_room_follows_in_order_once_there_is() -> None:
    door, waits = Door(40), list[int]()
    produce_batch(door, "trades", messages(100), failed, lambda: waits.append(1))
    assert door.queued == [each["value"] for each in messages(100)]
    assert len(waits) == 2


def test_the_client_takes_nothing_behind_a_message_that_found_no_room() -> None:
    """What :func:`produce_batch` relies on: the real client's queue is filled to the brim, without a broker."""
    client = Producer({"bootstrap.servers": "127.0.0.1:1", "queue.buffering.max.messages": 50, "log_level": 0})
    batch = messages(120)
    try:
        client.produce_batch("trades", batch)
        assert [number for number, message in enumerate(batch) if "_error" in message] == list(range(50, 120))
    finally:
        client.purge()


def test_a_record_that_is_too_large_ends_the_feed_with_its_reason() -> None:
    client = Producer({"bootstrap.servers": "127.0.0.1:1", "message.max.bytes": 1_000, "log_level": 0})
    try:
        with pytest.raises(InfrastructureError, match="MSG_SIZE_TOO_LARGE"):
            produce_batch(client, "trades", [{"value": b"x" * 2_000, "key": b"k"}], failed, failed)
        with pytest.raises(InfrastructureError, match="middle of a batch"):
            batch = [{"value": b"x" * 2_000, "key": b"k"}, {"value": b"x", "key": b"k"}]
            produce_batch(client, "trades", batch, failed, failed)
    finally:
        client.purge()


def test_a_batch_holds_what_the_codec_writes() -> None:
    codec, trade = numbered_codec((Trade,)), sample(Trade)
    assert isinstance(trade, Trade)
    record = codec.encode(trade)
    import numpy as np

    columns = ColumnDecoder(codec, Trade).decode(record * 2, np.array([0, len(record)]), np.array([len(record)] * 2))
    assert BatchEncoder(codec).messages(columns, [b"a", b"b"]) == [
        {"value": record, "key": b"a"},
        {"value": record, "key": b"b"},
    ]
