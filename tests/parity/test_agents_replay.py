"""S on a log in memory: given what an instance wrote through its crashes, then what running it again says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from strategy_broker import AGENT, CLOCK, CODEC, QUOTES, Broker, MemoryLog, Process, machine

from skeet.agents.strategy_resume import load
from skeet.config import Settings
from skeet.core.journal import JournalBegun, MergeRecorded
from skeet.core.record import Record, TopicPosition
from skeet.core.values import EventId, exact_arithmetic
from skeet.parity.agents import AgentsReplay, Life
from skeet.parity.cursor import Cursors
from skeet.parity.recorded import RecordedOutputs
from skeet.verify.findings import Check


class MemoryOutputs(RecordedOutputs):
    """The commands that the modelled broker acknowledged."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(Settings(), CODEC)
        for offset, (_, body) in enumerate(broker.commands):
            event, meta = CODEC.decode(body)
            at = TopicPosition("orders.commands.v1", 0, offset)
            self._note(Record(event=event, meta=meta, at=at, log_ns=0), AGENT.epoch, body)


class MemoryCursors(Cursors):
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def at(self, position: str) -> Record[Any] | None:
        offset = int(position.rpartition("/")[2])
        event, meta = CODEC.decode(self._broker.commands[offset][1])
        return Record(event=event, meta=meta, at=TopicPosition("orders.commands.v1", 0, offset), log_ns=0)


class MemoryReplay(AgentsReplay):
    """Along the modelled broker instead of Kafka."""

    def __init__(self, broker: Broker, check: Check) -> None:
        super().__init__(Settings(), CODEC, check)
        self.broker = broker
        self._log = MemoryOutputs(broker)
        self._cursors = MemoryCursors(broker)

    def _life(self, begun: JournalBegun) -> Life:
        made = machine()
        recorded = self._log.of(begun.agent_id, begun.epoch)
        return Life(made, load(begun.state).state, recorded, MemoryLog(self.broker).sources_from({}))

    def _start(self, life: Life, begun: JournalBegun, at: str) -> None:
        """The strategy of these tests does nothing when it starts."""


def judged(broker: Broker) -> Check:
    check = Check(name="S", title="")
    journal = [
        Record(event=event, meta=None, at=TopicPosition("agents.journal.v1", 0, offset), log_ns=0)
        for offset, event in enumerate(broker.journal)
    ]
    MemoryReplay(broker, check).along(journal)
    return check


@pytest.fixture
def broker() -> Broker:
    """Three processes; the first two die, one before its entry and one before its outputs."""
    broker = Broker(30, 30)
    plan: list[tuple[str, str]] = [(QUOTES, ""), (CLOCK, ""), (QUOTES, ""), (CLOCK, ""), (QUOTES, "before the entry")]
    plan += [
        (QUOTES, ""),
        (CLOCK, ""),
        (QUOTES, ""),
        (QUOTES, ""),
        (CLOCK, ""),
        (QUOTES, ""),
        (QUOTES, "before the outputs"),
        (QUOTES, ""),
        (CLOCK, ""),
        (QUOTES, ""),
    ]
    with exact_arithmetic():
        process = Process(broker)
        for topic, dies in plan:
            process.take((topic, 0), dies)
            process = Process(broker) if dies else process
    return broker


def altered(broker: Broker, number: int, **changes: Any) -> str:
    """A recorded command says something else, each time it is there; returns where it stands first."""
    event_id = broker.commands[number][0]
    for place, (each, body) in enumerate(broker.commands):
        if each == event_id:
            event, meta = CODEC.decode(body)
            broker.commands[place] = (each, CODEC.encode(replace(event, **changes), meta))
    return f"orders.commands.v1/0/{[each for each, _ in broker.commands].index(event_id)}"


def test_what_an_instance_sent_through_its_crashes_is_made_again(broker: Broker) -> None:
    check = judged(broker)
    assert check.differences == []
    assert check.compared["outputs"] == len({event_id for event_id, _ in broker.commands}) >= 4
    assert check.compared["lives"] == 1


def test_an_altered_command_is_named_by_position_and_field(broker: Broker) -> None:
    at = altered(broker, 1, rule="forged")
    (difference,) = judged(broker).differences
    assert difference == f"{at}: SubmitOrder.rule is forged, run again the instance sends quote"


def test_a_command_that_no_journal_makes_is_named(broker: Broker) -> None:
    _, body = broker.commands[0]
    event, meta = CODEC.decode(body)
    assert meta is not None
    broker.commands.append(("f", CODEC.encode(event, replace(meta, event_id=EventId("f" * 32)))))
    (difference,) = judged(broker).differences
    assert "whose journal does not make it" in difference


def test_a_command_that_is_gone_is_named_and_one_that_never_left_is_not(broker: Broker) -> None:
    first, last = broker.commands[0][0], broker.commands.pop()
    check = judged(broker)
    assert check.differences == []
    assert check.compared["outputs not sent, or not yet"] == 1
    broker.commands.append(last)
    broker.commands = [each for each in broker.commands if each[0] != first]
    (difference,) = judged(broker).differences
    assert "which is not in the log" in difference


def test_another_order_of_merging_is_another_output(broker: Broker) -> None:
    place = next(
        n for n, event in enumerate(broker.journal) if isinstance(event, MergeRecorded) and len(event.runs) > 1
    )
    entry = broker.journal[place]
    broker.journal[place] = replace(entry, runs=tuple(reversed(entry.runs)))
    assert judged(broker).differences


def test_a_journal_with_a_hole_is_named(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: Mapping[tuple[str, int], tuple[int, int]] = {("agents.journal.v1", 0): (0, 99)}
    monkeypatch.setattr("skeet.parity.agents.watermarks", lambda *_: kept)
    place = next(n for n, event in enumerate(broker.journal) if isinstance(event, MergeRecorded))
    del broker.journal[place]
    differences = judged(broker).differences
    assert "entry 1 follows -1" in differences[0] or "never opened" in differences[0]
