"""What the host does with a chunk: ticks between the right records, and nothing finished before what it caused."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

from chunks import chunk_of
from held_producer import HeldProducer
from market_records import record, tick, trade

from skeet.config import KafkaSettings
from skeet.core.machine import Agent
from skeet.core.record import Out, Record
from skeet.core.snapshots import MachineSnapshot
from skeet.core.values import exact_arithmetic
from skeet.schemas.codec import numbered_codec
from skeet.streams.batches.host import ChunkHost, _Barrier
from skeet.streams.batches.snapshots import newest_of
from skeet.streams.door import Door
from skeet.streams.outbox import Outbox
from skeet.streams.stages import Stage
from skeet.streams.topics import CLOCK, MARKET_TRADES

CODEC = numbered_codec()
KAFKA = KafkaSettings(market_partitions=1)
NAME = f"{KAFKA.topic_prefix}market.trades.v1"
PLACE = (NAME, 0)


class Noting:
    """A machine that notes what it is given, and passes trades on."""

    version = "1"

    def initial(self) -> list[str]:
        return []

    def step(self, state: list[str], given: Record[Any]) -> tuple[list[str], tuple[Out[Any], ...]]:
        state.append(type(given.event).__name__)
        return state, (Out(topic=CLOCK.name, key=state[-1], event=tick(1)),)


def host(client: HeldProducer, *barriers: int) -> ChunkHost:
    """A host at offset 0 of one partition; ticks wait for these offsets."""
    machine: Agent[Any] = Noting()
    made = ChunkHost.__new__(ChunkHost)
    # Nothing is committed yet.
    made._app = SimpleNamespace(consumer=SimpleNamespace(ledger=SimpleNamespace(committable={})))
    made._rows = {}
    made._prefix = KAFKA.topic_prefix
    made._door = Door(KAFKA, CODEC)
    made._frame_to_log = None
    made._stages = (Stage(name="noting", machine=machine, inputs=(MARKET_TRADES,)),)
    made._states = [machine.initial()]
    made._readers = {NAME: ((0, False),)}
    made._outbox = Outbox(KAFKA, CODEC, client)
    made._next, made._warm = {PLACE: 0}, True
    made._barriers = deque(_Barrier(0, record(tick(1), topic="clock.v1"), {PLACE: end}) for end in barriers)
    return made


def five_trades() -> Any:
    return chunk_of(CODEC, [record(trade(n, 0.1), n) for n in range(5)], NAME, 0)


def test_a_tick_is_taken_between_the_same_two_records_as_one_by_one() -> None:
    client = HeldProducer()
    made = host(client, 2, 4)
    with exact_arithmetic():
        made._fold_chunk(five_trades(), lambda: None)
    assert made._states[0] == ["Trade", "Trade", "Tick", "Trade", "Trade", "Tick", "Trade"]
    assert client.sent == made._states[0], "and what came of it is sent in that order"


def test_a_chunk_is_finished_when_all_that_it_caused_is_acknowledged() -> None:
    client, finished = HeldProducer(), []
    made = host(client)
    with exact_arithmetic():
        made._fold_chunk(five_trades(), lambda: finished.append(True))
    made._outbox.collect()
    assert not finished
    for _ in range(5):
        client.acknowledge()
    made._outbox.collect()
    assert finished == [True]


def snapshot(number: int, **positions: int) -> MachineSnapshot:
    places = {f"{topic}/0": at for topic, at in positions.items()}
    return MachineSnapshot(
        machine="bars", partition=0, taken_ns=number, code_version="1", positions=places, state=b""
    )  # fmt: skip


def test_the_newest_snapshot_that_holds_nothing_from_where_reading_starts_is_taken() -> None:
    held = [snapshot(1, trades=10, status=1), snapshot(2, trades=20, status=1), snapshot(3, trades=30, status=1)]
    held.append(snapshot(4, trades=5, status=1))  # a frozen predecessor's, late
    assert newest_of(held, {"trades/0": 25, "status/0": 1}) == {0: held[1]}
    assert newest_of(held, {"trades/0": 25, "status/0": 0}) == {}, "it holds a record that will be read again"
    assert newest_of(held, {"trades/0": 25}) == {}
    assert newest_of([snapshot(1)], {"trades/0": 25}) == {}
