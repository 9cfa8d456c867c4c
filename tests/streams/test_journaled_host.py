"""How a strategy's host steps along chunks: together, in order, journaled; and what it leaves to the next owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from chunks import raw_chunk
from held_producer import HeldProducer
from market_records import tick, trade

from skeet.config import Settings
from skeet.core.record import Out, Record
from skeet.core.values import AccountId, TenantId
from skeet.schemas.codec import Codec, numbered_codec
from skeet.streams import faust_app
from skeet.streams.batches.chunk import Chunk
from skeet.streams.batches.emission import Outputs
from skeet.streams.batches.ledger import Ledger, Limits
from skeet.streams.faust_app import Plan
from skeet.streams.journaled_host import TOGETHER, JournaledHost
from skeet.streams.journaling import AgentIdentity, JournalWriter
from skeet.streams.partitioner import partition_of
from skeet.streams.stages import Resumed, Stage
from skeet.streams.topics import CLOCK, MARKET_TRADES, partition_count

AGENT = AgentIdentity(
    agent_id="alpha", tenant_id=TenantId("main"), account_id=AccountId("acc"), epoch=7, code_version="c"
)
KEY = b"SIM:BTC/USDT"


class Machine:
    """Notes how many records it is given at a time; asks for something where a trade's number is in ``asks``."""

    version = "1"

    def __init__(self, *asks: int) -> None:
        self._asks = asks

    def initial(self) -> list[int]:
        return []

    def step(self, state: list[int], record: Record[Any]) -> tuple[list[int], tuple[Out[Any], ...]]:
        state, outs = self.step_all(state, [record])
        return state, outs

    def step_all(self, state: list[int], records: Sequence[Record[Any]]) -> tuple[list[int], tuple[Out[Any], ...]]:
        asked = [record.at.offset for record in records if record.at.offset in self._asks]
        outs = tuple(Out(topic=CLOCK.name, key=f"command {number}", event=tick(1)) for number in asked)
        return [*state, len(records)], outs


class Hosted:
    """A host in the middle of its work, without a broker; chunks are given to it by hand."""

    def __init__(self, machine: Machine, codec: Codec, client: HeldProducer, together: bool = True) -> None:
        step_all = machine.step_all if together else None
        stage = Stage(name="strategy", machine=machine, inputs=(MARKET_TRADES,), step_all=step_all)
        settings = Settings(kafka={"bootstrap": "127.0.0.1:1", "topic_prefix": ""})
        self.client, self._codec = client, codec
        self._place = (MARKET_TRADES.name, partition_of(KEY, partition_count(MARKET_TRADES, settings.kafka)))
        self.journal = JournalWriter(AGENT, 0, 0, 0, lambda state: b"")
        plan = Plan(
            role="strategy",
            group="x",
            stages=(stage,),
            keys={MARKET_TRADES.name: KEY},
            resume=lambda starts: Resumed(state=[], outs=(), positions={}, journal=self.journal),
        )
        self.host = JournaledHost(settings, codec, plan)
        self._ledger = Ledger(Limits(), lambda: None)
        self._ledger.start(self._place, 0)

    async def given_its_partition(self) -> Hosted:
        await self.host.starting({self._place: 0})
        return self

    def chunk(self, first: int, end: int, unreadable: int = -1, others: Sequence[int] = ()) -> Chunk:
        rows = [
            (
                offset,
                1,
                b"other" if offset in others else KEY,
                b"unreadable" if offset == unreadable else self._codec.encode(trade(offset, offset)),
            )
            for offset in range(first, end)
        ]
        return raw_chunk(rows, *self._place)

    def outputs(self, chunk: Chunk) -> Outputs:
        delivery = self._ledger.deliver(self._place, chunk.first, chunk.next_offset, len(chunk), chunk.size)
        return Outputs(None, delivery)

    async def give(self, chunk: Chunk) -> None:
        outputs = self.outputs(chunk)
        await self.host._take_chunk(chunk, outputs)
        outputs._delivery.ack()

    @property
    def steps(self) -> list[int]:
        found: list[int] = self.host._states[0]
        return found

    @property
    def next_offset(self) -> int:
        return self.host._next[self._place]

    @property
    def committable(self) -> int:
        self.host._outbox.collect()
        return self._ledger.committable.get(self._place, 0)

    def runs(self) -> list[tuple[int, int]]:
        entry = self.journal.entry()
        return [(run.first, run.last) for run in entry.event.runs] if entry is not None else []


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> HeldProducer:
    made = HeldProducer()
    monkeypatch.setattr(faust_app, "producer", lambda *_, **__: made)
    return made


async def hosted(client: HeldProducer, machine: Machine | None = None, together: bool = True) -> Hosted:
    return await Hosted(machine or Machine(), numbered_codec(), client, together).given_its_partition()


async def test_what_one_poll_brought_is_stepped_together_and_journaled(client: HeldProducer) -> None:
    made = await hosted(client)
    await made.give(made.chunk(0, 5))
    assert (made.steps, made.next_offset, made.runs()) == ([5], 5, [(0, 4)])


async def test_a_machine_without_a_fast_path_is_stepped_one_by_one(client: HeldProducer) -> None:
    made = await hosted(client, together=False)
    await made.give(made.chunk(0, 5))
    assert (made.steps, made.next_offset, made.runs()) == ([1] * 5, 5, [(0, 4)])


async def test_other_keys_are_passed_over(client: HeldProducer) -> None:
    made = await hosted(client)
    await made.give(made.chunk(0, 4, others=(1, 3)))
    assert (made.steps, made.next_offset, made.runs()) == ([2], 4, [(0, 2)])


async def test_no_more_than_so_many_are_stepped_between_two_turns_of_the_loop(client: HeldProducer) -> None:
    made = await hosted(client)
    await made.give(made.chunk(0, TOGETHER + 3))
    assert (made.steps, made.next_offset) == ([TOGETHER, 3], TOGETHER + 3)


async def test_an_unreadable_one_becomes_a_dead_letter_behind_those_before_it(client: HeldProducer) -> None:
    made = await hosted(client, Machine(0))
    await made.give(made.chunk(0, 4, unreadable=1))
    assert (made.steps, made.next_offset) == ([1, 2], 4)
    client.acknowledge()  # the journal's entry, which lets the command go
    made.host._outbox.collect()
    journal, letter, command = client.sent
    assert (journal, command) == ("alpha", "command 0")
    assert made.committable == 0
    for _ in (letter, command):
        client.acknowledge()
    assert made.committable == 4


async def test_nothing_is_committed_before_what_came_of_it_is_in_the_log(client: HeldProducer) -> None:
    made = await hosted(client, Machine(3))
    await made.give(made.chunk(0, 3))
    assert made.committable == 3
    await made.give(made.chunk(3, 6))
    assert (client.sent, made.committable) == (["alpha"], 3)
    client.acknowledge()
    assert (made.committable, client.sent) == (3, ["alpha", "command 3"])
    client.acknowledge()
    assert made.committable == 6


async def test_a_chunk_whose_partition_goes_is_left_to_the_next_owner_from_there_on(client: HeldProducer) -> None:
    made = await hosted(client)
    chunk = made.chunk(0, 3 * TOGETHER)
    outputs = made.outputs(chunk)
    stepping = made.host._take(chunk, outputs)
    stepping.send(None)  # as far as the loop's next turn
    made._ledger.forget()
    with pytest.raises(StopIteration):
        stepping.send(None)
    assert (made.steps, made.next_offset, made.committable) == ([TOGETHER], TOGETHER, 0)
