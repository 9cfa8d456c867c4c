"""Merge orders, what counts in a journal, and following it: given records, when read again, then the same order."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skeet.core.errors import DecodeError, InvalidInput
from skeet.core.journal import (
    AgentCheckpointed,
    JournalBegun,
    JournalFold,
    JournalHole,
    JournalOpened,
    MergeOrder,
    MergeRecorded,
    Run,
    follow,
    positions_after,
    ranges_of,
)
from skeet.core.market import Tick
from skeet.core.record import Event, Record, TopicPosition
from skeet.core.strategy.memory import memory_from_bytes, memory_to_bytes
from skeet.core.values import Side

AGENT = "alpha"
Counted = tuple[int, int]


def record(topic: str, offset: int) -> Record[Any]:
    return Record(event=Tick(ts_event=offset), meta=None, at=TopicPosition(topic, 0, offset), log_ns=offset)


def sources(*records: Record[Any]) -> dict[tuple[str, int], Iterator[Record[Any]]]:
    topics = {each.at.topic for each in records}
    return {(topic, 0): iter([each for each in records if each.at.topic == topic]) for topic in topics}


def opened(epoch: int = 5) -> JournalOpened:
    return JournalOpened(agent_id=AGENT, epoch=epoch, code_version="c")


def begun(owner: int, epoch: int = 5) -> JournalBegun:
    return JournalBegun(
        agent_id=AGENT, epoch=epoch, owner=owner, code_version="c", positions={}, warm_up=(), state=b"s"
    )


def entry(owner: int, sequence: int, *runs: Run, epoch: int = 5) -> MergeRecorded:
    return MergeRecorded(agent_id=AGENT, epoch=epoch, owner=owner, sequence=sequence, runs=runs)


def run(topic: str, first: int, last: int) -> Run:
    return Run(topic=topic, partition=0, first=first, last=last)


def folded(*events: Event, seed: JournalFold | None = None, offset: int = 0) -> JournalFold:
    fold = seed or JournalFold(AGENT)
    for place, event in enumerate(events, start=offset):
        fold.take(event, place)
    return fold


def sequences(fold: JournalFold) -> list[list[tuple[int, int]]]:
    """Owner and number of the entries that count, by chain."""
    return [[(each.owner, each.sequence) for each in chain.entries] for chain in fold.chains]


def test_neighbours_of_one_partition_are_one_run() -> None:
    order = MergeOrder()
    for topic, offset in (("a", 1), ("a", 4), ("b", 9), ("a", 5)):
        order.add(topic, 0, offset)
    assert order.take() == (run("a", 1, 4), run("b", 9, 9), run("a", 5, 5))
    assert order.take() == ()


@given(st.lists(st.sampled_from("abc"), max_size=60), st.data())
def test_following_any_interleaving_gives_the_order_in_which_it_was_merged(merged: list[str], data: Any) -> None:
    """Offsets have gaps: records that the agent does not read lie between those that it does."""
    offsets = dict.fromkeys("abc", 0)
    order, read, log = MergeOrder(), [], []
    for topic in merged:
        gap = data.draw(st.integers(0, 2))
        offsets[topic] += 1 + gap
        read.append(record(topic, offsets[topic]))
        log.append(read[-1])
        order.add(topic, 0, offsets[topic])
    runs = order.take()
    assert list(follow(runs, sources(*log))) == read
    assert positions_after({"a/0": 0}, runs) == {"a/0": 0} | {
        f"{topic}/0": offset + 1 for topic, offset in offsets.items() if offset
    }
    assert {place[0]: end for place, (_, end) in ranges_of(runs).items()} == {
        topic: offset + 1 for topic, offset in offsets.items() if offset
    }


@pytest.mark.parametrize("missing", [3, 7])
def test_a_record_that_a_run_begins_or_ends_with_and_that_is_gone_is_a_hole(missing: int) -> None:
    log = [record("a", offset) for offset in (3, 5, 7, 9) if offset != missing]
    with pytest.raises(JournalHole, match=f"a/0/{missing}"):
        list(follow([run("a", 3, 7)], sources(*log)))


def test_an_owner_that_takes_over_goes_on_where_the_one_before_ended() -> None:
    fold = folded(opened(), begun(0), entry(0, 0), entry(0, 1), opened(), entry(4, 2))
    assert sequences(fold) == [[(0, 0), (0, 1), (4, 2)]]
    assert fold.owner == 4


def test_a_zombie_s_entries_count_for_nothing() -> None:
    fold = folded(opened(), begun(0), entry(0, 0), opened(), entry(0, 1), entry(3, 1), entry(0, 2), entry(3, 2))
    assert sequences(fold) == [[(0, 0), (3, 1), (3, 2)]]
    assert fold.ignored == 2


def test_an_older_start_cannot_take_the_journal_back() -> None:
    fold = folded(opened(5), begun(0, 5), opened(9), begun(2, 9), opened(5), entry(2, 0, epoch=9))
    assert (fold.epoch, fold.owner) == (9, 2)
    assert sequences(fold) == [[], [(2, 0)]]


def test_a_missing_entry_is_a_hole() -> None:
    with pytest.raises(JournalHole, match="entry 2 follows 0"):
        folded(opened(), begun(0), entry(0, 0), entry(0, 2))


def test_an_entry_of_an_owner_that_never_opened_the_journal_is_a_hole() -> None:
    with pytest.raises(JournalHole, match="never opened"):
        folded(opened(), begun(0), entry(7, 0))


def test_another_agent_s_records_are_nobody_s_business() -> None:
    other = JournalOpened(agent_id="beta", epoch=99, code_version="c")
    assert sequences(folded(opened(), begun(0), other, entry(0, 0))) == [[(0, 0)]]


def test_behind_a_checkpoint_the_fold_goes_on_with_the_next_entry() -> None:
    checkpoint = AgentCheckpointed(
        agent_id=AGENT, epoch=5, owner=0, sequence=1, journal_offset=3, code_version="c", positions={}, state=b"s"
    )
    fold = folded(entry(0, 2), opened(), entry(5, 3), seed=JournalFold.after(checkpoint), offset=4)
    assert sequences(fold) == [[(0, 2), (5, 3)]]
    with pytest.raises(JournalHole):
        folded(entry(0, 3), seed=JournalFold.after(checkpoint), offset=4)


@st.composite
def lives(draw: Any) -> tuple[Sequence[Event], list[tuple[int, int]]]:
    """A journal that several owners wrote, each predecessor going on as a zombie after it was replaced, and what counts."""
    events: list[Event] = [opened(), begun(0)]
    counts: list[tuple[int, int]] = []
    owner, sequence = 0, 0
    zombies: list[list[int]] = []
    for step in draw(st.lists(st.sampled_from(["write", "die", "zombie"]), max_size=40)):
        if step == "write":
            events.append(entry(owner, sequence))
            counts.append((owner, sequence))
            sequence += 1
        elif step == "die":
            zombies.append([owner, sequence])
            owner = len(events)
            events.append(opened())
        elif zombies:
            zombie = zombies[draw(st.integers(0, len(zombies) - 1))]
            events.append(entry(zombie[0], zombie[1]))
            zombie[1] += 1
    return events, counts


@given(lives())
def test_whatever_zombies_write_the_owners_entries_are_the_journal(life: tuple[Sequence[Event], list[Counted]]) -> None:
    events, counts = life
    assert sequences(folded(*events)) == [counts]


@dataclass(slots=True)
class Inner:
    prices: deque[Decimal] = field(default_factory=lambda: deque(maxlen=3))
    side: Side = Side.BUY


@dataclass(frozen=True)
class Memory:
    inner: Inner
    seen: dict[Any, Any]
    tags: set[str]
    weights: tuple[float, ...]
    raw: bytes


def test_a_memory_comes_back_as_it_was() -> None:
    memory = Memory(
        inner=Inner(deque([Decimal("1.50"), Decimal("-0")], maxlen=3), Side.SELL),
        seen={("a", 1): [None, True, 2**70], 3: {"x": frozenset({1, 2})}},
        tags={"b", "a", "c"},
        weights=(0.1, float("inf"), -0.0),
        raw=b"\x00\xff",
    )
    content = memory_to_bytes(memory)
    back = memory_from_bytes(content)
    assert back == memory
    assert back.inner.prices.maxlen == 3
    assert memory_to_bytes(back) == content


def test_what_cannot_be_remembered_is_named_with_its_place() -> None:
    with pytest.raises(InvalidInput, match=r"state\.seen\['f'\] is a builtins\.function"):
        memory_to_bytes(Memory(inner=Inner(), seen={"f": lambda: 0}, tags=set(), weights=(), raw=b""))


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b'["nothing",1]', b'["object","os:system",[]]', b'["object","no.such:Class",[]]',
     b'["enum","builtins:dict","x"]', b'["object","decimal:Decimal",[]]', b'["object","threading:Thread",[]]', b'["decimal","x"]'],
)  # fmt: skip
def test_bytes_that_are_no_memory_raise_only_our_error(content: bytes) -> None:
    assert "threading" in sys.modules, "a loaded class that is no dataclass"
    with pytest.raises(DecodeError):
        memory_from_bytes(content)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text() | st.decimals(allow_nan=False), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner)))  # fmt: skip
def test_every_plain_value_survives(value: Any) -> None:
    content = memory_to_bytes(value)
    assert memory_from_bytes(content) == value
    assert memory_to_bytes(memory_from_bytes(content)) == content
