"""Outputs of a chunk and when it counts as finished, against a producer that answers when the test says so."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder

from skeet.streams.batches.emission import Outputs
from skeet.streams.batches.ledger import Delivery, Ledger, Limits

PLACE = ("trades", 0)


class HeldProducer:
    """Takes batches; nothing is confirmed by itself."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int, int, asyncio.Future[None]]] = []

    async def partitions_for(self, topic: str) -> set[int]:
        return {0, 1, 2}

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(300, 0, is_transactional=False, key_serializer=None, value_serializer=None)

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent.append((topic, partition, batch.record_count(), future))
        return future


class Consumer:
    """Notes why it was ended."""

    def __init__(self) -> None:
        self.failed: list[BaseException] = []

    async def fail(self, error: BaseException) -> None:
        self.failed.append(error)


def begun() -> tuple[Any, HeldProducer, Ledger, Delivery]:
    producer, ledger = HeldProducer(), Ledger(Limits(), lambda: None)
    ledger.start(PLACE, 0)
    app = SimpleNamespace(
        producer=SimpleNamespace(_producer=producer), consumer=Consumer(), loop=asyncio.get_running_loop()
    )
    return app, producer, ledger, ledger.deliver(PLACE, 0, 10, 10, 100)


async def test_a_chunk_is_finished_only_when_all_that_it_sent_is_confirmed() -> None:
    app, producer, ledger, delivery = begun()
    outputs = Outputs(app, delivery)
    for n in range(12):
        outputs.add("out", b"key-%d" % n, b"x" * 50)
    await outputs.send()
    delivery.ack()
    assert sum(count for _, _, count, _ in producer.sent) == 12
    assert len(producer.sent) > 3
    for *_, future in producer.sent:
        assert ledger.committable == {}
        future.set_result(None)
        await asyncio.sleep(0)
    assert ledger.committable == {PLACE: 10}


async def test_a_send_that_fails_ends_the_consumer_and_leaves_its_chunk() -> None:
    app, producer, ledger, delivery = begun()
    outputs = Outputs(app, delivery)
    outputs.add("out", b"k", b"v", partition=2)
    await outputs.send()
    delivery.ack()
    producer.sent[0][3].set_exception(OSError("refused"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert [str(error) for error in app.consumer.failed] == ["refused"]
    assert ledger.committable == {}


async def test_a_record_larger_than_a_batch_goes_alone() -> None:
    app, producer, _, delivery = begun()
    outputs = Outputs(app, delivery)
    for value in (b"small", b"x" * 1000, b"small"):
        outputs.add("out", b"k", value)
    await outputs.send()
    assert [count for _, _, count, _ in producer.sent] == [1, 1, 1]
    assert delivery.unconfirmed == 3
