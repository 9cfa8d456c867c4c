"""What a host holds back for a machine that takes several records at once, and when it lets them go."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from held_producer import HeldProducer
from market_records import trade

from skeet.config import Settings
from skeet.core.record import Out, Record
from skeet.core.values import AccountId, TenantId
from skeet.schemas.codec import Codec, numbered_codec
from skeet.streams import faust_app
from skeet.streams.faust_app import FaustHost, Plan
from skeet.streams.gathering import GATHERED_MAX, GATHERED_MAX_S
from skeet.streams.journaling import AgentIdentity, JournalWriter
from skeet.streams.partitioner import partition_of
from skeet.streams.stages import Stage
from skeet.streams.topics import MARKET_TRADES, partition_count

AGENT = AgentIdentity(
    agent_id="alpha", tenant_id=TenantId("main"), account_id=AccountId("acc"), epoch=7, code_version="c"
)
KEY = b"SIM:BTC/USDT"


class Machine:
    """Counts; asks for nothing."""

    version = "1"

    def __init__(self) -> None:
        self.stepped = asyncio.Event()

    def initial(self) -> list[int]:
        return []

    def step(self, state: list[int], record: Record[Any]) -> tuple[list[int], tuple[Out[Any], ...]]:
        raise AssertionError("one by one")

    def step_all(self, state: list[int], records: Sequence[Record[Any]]) -> tuple[list[int], tuple[Out[Any], ...]]:
        self.stepped.set()
        return [*state, len(records)], ()


class Hosted:
    """A host in the middle of its work, without a broker; messages are given to it by hand."""

    def __init__(self, codec: Codec) -> None:
        self.machine = Machine()
        stage = Stage(name="strategy", machine=self.machine, inputs=(MARKET_TRADES,), step_all=self.machine.step_all)
        settings = Settings(kafka={"bootstrap": "127.0.0.1:1", "topic_prefix": ""})
        self.codec = codec
        self.partition = partition_of(KEY, partition_count(MARKET_TRADES, settings.kafka))
        self.host = FaustHost(
            settings, codec, Plan(role="strategy", group="x", stages=(stage,), keys={MARKET_TRADES.name: KEY})
        )
        self.journal = JournalWriter(AGENT, 0, 0, 0, lambda state: b"")
        self.host._states, self.host._warm, self.host._journal = [[]], True, self.journal

    def give(self, offset: int, followed: bool, key: bytes = KEY, value: bytes | None = None) -> None:
        content = self.codec.encode(trade(offset, offset)) if value is None else value
        message = SimpleNamespace(
            topic=MARKET_TRADES.name,
            partition=self.partition,
            offset=offset,
            timestamp=1.0,
            key=key,
            value=content,
            followed=followed,
        )
        self.host._gather(message, self.machine.step_all)

    @property
    def steps(self) -> list[int]:
        found: list[int] = self.host._states[0]
        return found

    @property
    def next_offset(self) -> int:
        return self.host._next.get((MARKET_TRADES.name, self.partition), 0)

    def runs(self) -> list[tuple[int, int]]:
        entry = self.journal.entry()
        return [(run.first, run.last) for run in entry.event.runs] if entry is not None else []


@pytest.fixture
async def hosted(monkeypatch: pytest.MonkeyPatch) -> Hosted:
    monkeypatch.setattr(faust_app, "producer", lambda *_: HeldProducer())
    return Hosted(numbered_codec())


async def test_what_one_poll_brought_is_stepped_together_and_journaled(hosted: Hosted) -> None:
    for offset in range(5):
        assert (hosted.steps, hosted.next_offset) == ([], 0)
        hosted.give(offset, followed=offset < 4)
    assert (hosted.steps, hosted.next_offset, hosted.runs()) == ([5], 5, [(0, 4)])


async def test_other_keys_and_repeated_messages_are_passed_over(hosted: Hosted) -> None:
    for offset, key in ((0, KEY), (1, b"other"), (2, KEY), (0, KEY), (2, KEY), (3, b"other")):
        hosted.give(offset, followed=offset < 3, key=key)
    assert (hosted.steps, hosted.next_offset, hosted.runs()) == ([2], 4, [(0, 2)])


async def test_no_more_than_so_many_wait(hosted: Hosted) -> None:
    for offset in range(GATHERED_MAX + 3):
        hosted.give(offset, followed=True)
    assert (hosted.steps, hosted.next_offset) == ([GATHERED_MAX], GATHERED_MAX)


async def test_an_unreadable_one_becomes_a_dead_letter_behind_those_before_it(hosted: Hosted) -> None:
    hosted.give(0, followed=True)
    hosted.give(1, followed=True, value=b"unreadable")
    assert (hosted.steps, hosted.next_offset) == ([1], 2)
    hosted.give(2, followed=False)
    assert (hosted.steps, hosted.next_offset) == ([1, 1], 3)


async def test_those_whose_follower_never_comes_are_stepped_after_a_moment(hosted: Hosted) -> None:
    hosted.give(0, followed=True)
    async with asyncio.timeout(5):
        await hosted.machine.stepped.wait()
    assert hosted.next_offset == 1


async def test_those_of_partitions_that_are_gone_are_left_to_the_next_owner(hosted: Hosted) -> None:
    hosted.give(0, followed=True)
    hosted.host.revoked()
    await asyncio.sleep(2 * GATHERED_MAX_S)  # what would be stepped now would be stepped twice
    assert (hosted.steps, hosted.runs()) == ([], [])
    assert not hosted.host._failed.done()
