"""What leaves when: outputs behind the journal's entry, checkpoints behind outputs, offsets behind everything.

The producer is a stand-in that acknowledges when the test says so; its order and its callbacks are Kafka's.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from confluent_kafka import KafkaError
from held_producer import HeldProducer

from skeet.config import KafkaSettings
from skeet.core.journal import JournalOpened
from skeet.core.market import Tick
from skeet.core.record import Out
from skeet.core.values import AccountId, TenantId
from skeet.schemas.codec import numbered_codec
from skeet.streams.journaling import AgentIdentity
from skeet.streams.outbox import Outbox
from skeet.streams.topics import CLOCK

AGENT = AgentIdentity(agent_id="a", tenant_id=TenantId("t"), account_id=AccountId("x"), epoch=1, code_version="c")


def command(name: str) -> Out[Any]:
    return Out(topic=CLOCK.name, key=name, event=Tick(ts_event=1))


def entry(name: str) -> Out[Any]:
    out = AGENT.out("agents.journal.v1", JournalOpened(agent_id="a", epoch=1, code_version="c"), name)
    return Out(topic=out.topic, key=name, event=out.event, meta=out.meta)


@pytest.fixture
async def client() -> HeldProducer:
    return HeldProducer()


@pytest.fixture
async def outbox(client: HeldProducer) -> Outbox:
    return Outbox(KafkaSettings(), numbered_codec(), client)


async def test_outputs_wait_for_the_entry_that_orders_them(outbox: Outbox, client: HeldProducer) -> None:
    offsets: list[int] = []
    outbox.add([command("c1"), command("c2")], first=entry("j1"), on_first=offsets.append)
    outbox.add([command("c3")], first=entry("j2"), on_first=offsets.append)
    assert client.sent == ["j1", "j2"]
    client.acknowledge()
    outbox.collect()
    assert client.sent == ["j1", "j2", "c1", "c2"]
    assert offsets == [41]
    client.acknowledge()
    outbox.collect()
    assert client.sent == ["j1", "j2", "c1", "c2", "c3"]


async def test_what_arrives_in_another_thread_is_only_noted_there(outbox: Outbox, client: HeldProducer) -> None:
    outbox.add([command("c1")], first=entry("j1"))
    await asyncio.to_thread(client.acknowledge)
    assert client.sent == ["j1"]
    outbox.collect()
    assert client.sent == ["j1", "c1"]


async def test_an_input_is_finished_when_entry_and_outputs_are_acknowledged(
    outbox: Outbox, client: HeldProducer
) -> None:
    finished: list[int] = []
    outbox.add([command("c1")], first=entry("j1"), on_finished=lambda: finished.append(1))
    outbox.add([], on_finished=lambda: finished.append(2))
    client.acknowledge()
    outbox.collect()
    assert finished == []
    client.acknowledge()
    outbox.collect()
    assert finished == [1, 2]


async def test_outputs_of_an_entry_that_was_not_acknowledged_never_leave(outbox: Outbox, client: HeldProducer) -> None:
    outbox.add([command("c1")], first=entry("j1"))
    client.acknowledge(KafkaError(KafkaError._MSG_TIMED_OUT))
    outbox.collect()
    assert client.sent == ["j1"]
    assert "not acknowledged" in str(outbox.failure)


async def test_a_checkpoint_is_made_and_sent_behind_everything_before_it(outbox: Outbox, client: HeldProducer) -> None:
    outbox.add([command("c1")])
    outbox.add_behind(lambda: command("checkpoint"))
    outbox.add([command("c2")])
    outbox.collect()
    assert client.sent == ["c1", "c2"]
    client.acknowledge()
    outbox.collect()
    assert client.sent == ["c1", "c2", "checkpoint"]


class WatchedProducer(HeldProducer):
    """Says when a record leaves."""

    def __init__(self, awaited: str) -> None:
        super().__init__()
        self.left = asyncio.Event()
        self._awaited = awaited

    def produce(self, topic: str, value: bytes, *, key: bytes, **options: Any) -> None:
        super().produce(topic, value, key=key, **options)
        if key.decode() == self._awaited:
            self.left.set()


async def test_an_entry_does_not_wait_for_the_next_time_of_collecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skeet.streams.outbox.POLL_INTERVAL_S", 60.0)
    client = WatchedProducer("c2")
    outbox = Outbox(KafkaSettings(), numbered_codec(), client)
    collecting = asyncio.ensure_future(outbox.run())
    outbox.add([command("c1")])
    await asyncio.sleep(0)  # from here on whoever collects has no reason to look
    outbox.add([command("c2")], first=entry("j1"))
    for _ in range(2):
        client.acknowledge()
    await asyncio.wait_for(client.left.wait(), 10)
    assert client.sent == ["c1", "j1", "c2"]
    collecting.cancel()
