"""Crashes of a strategy at any place: what it sent, and what it would have sent, is what one undisturbed run sends.

The broker is modelled: acknowledged journal entries, sent commands, the inputs' partitions. The machine, the journal's
writer, its fold and the following are the product's own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategy_broker import AGENT, CLOCK, INSTRUMENT, QUOTES, STARTED, Broker, MemoryLog, Process, machine

from skeet.agents.strategy_resume import (
    FOLLOW_WITHIN_S,
    OUTPUTS_SINCE_NS,
    RESUME_WITHIN_S,
    Fresh,
    Resumption,
    load,
    past_of,
    rerun,
    save,
)
from skeet.core.errors import InfrastructureError
from skeet.core.journal import AgentCheckpointed, JournalBegun, JournalFold, Place
from skeet.core.strategy.machine import InstanceState
from skeet.core.values import NS_PER_S, exact_arithmetic
from skeet.streams.journaling import AgentIdentity, JournalWriter
from skeet.streams.stages import Resumed


def outputs_of_an_undisturbed_run(broker: Broker) -> list[tuple[str, bytes]]:
    fold = JournalFold(AGENT.agent_id)
    for offset, event in enumerate(broker.journal):
        fold.take(event, offset)
    (chain,) = fold.chains
    past = past_of(chain, None)
    assert past is not None
    _, outs = rerun(machine(), past, STARTED, broker)
    whole = Broker(0, 0)
    whole.send(outs)
    return whole.commands


STEPS = st.lists(
    st.tuples(
        st.sampled_from([(QUOTES, 0), (CLOCK, 0)]),
        st.sampled_from(["", "", "", "", "before the entry", "before the outputs", "after"]),
        st.booleans(),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=150)
@given(STEPS)
def test_crashes_anywhere_change_no_output(steps: list[tuple[Place, str, bool]]) -> None:
    broker = Broker(60, 60)
    with exact_arithmetic():
        process = Process(broker)
        for place, dies, checkpoint in steps:
            process.take(place, dies)
            if dies:
                process = Process(broker)
            elif checkpoint:
                process.save()
        process = Process(broker)  # a last one sends what the one before could not
        process.save()
        expected = outputs_of_an_undisturbed_run(broker)
    assert dict(broker.commands) == dict(expected)
    bodies = {(event_id, body) for event_id, body in broker.commands}
    assert len(bodies) == len(dict(broker.commands)), "one id, one body, however often it was sent"


def test_without_a_journal_the_same_crash_changes_an_output() -> None:
    """The guard of the test above: an order that nobody wrote down is merged otherwise the next time."""
    broker = Broker(10, 10)
    with exact_arithmetic():
        first = Process(broker)
        first.take((CLOCK, 0), "")
        first.take((QUOTES, 0), "")
        first.take((QUOTES, 0), "")
        sent = list(broker.commands)
        broker.journal = [event for event in broker.journal if type(event).__name__ != "MergeRecorded"]
        second = Process(broker)
        second.take((QUOTES, 0), "")
        second.take((QUOTES, 0), "")
    assert sent[0][0] == broker.commands[len(sent)][0]
    assert sent[0][1] != broker.commands[len(sent)][1]


def test_a_checkpoint_brings_back_the_whole_memory() -> None:
    broker = Broker(9, 9)
    with exact_arithmetic():
        process = Process(broker)
        for place in ((CLOCK, 0), (QUOTES, 0), (QUOTES, 0), (QUOTES, 0)):
            process.take(place, "")
        content = save(process.machine, process.state)
    back = load(content)
    assert back.identity.instrument == INSTRUMENT
    assert isinstance(back.state, InstanceState)
    assert back.state == process.state
    assert len(back.state.book.orders) == 2


def test_a_state_that_cannot_be_written_down_makes_no_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    broker = Broker(3, 3)
    with exact_arithmetic():
        process = Process(broker)
        process.take((QUOTES, 0), "")
        process.state.user.quotes.append(object())
        process.save()
    assert broker.checkpoint is None


def resumed(log: MemoryLog, identity: AgentIdentity = AGENT) -> tuple[Resumed, bool]:
    """Where an instance goes on, and whether it began afresh."""
    afresh: list[bool] = []

    def fresh(_: Mapping[tuple[str, int], int]) -> Fresh:
        afresh.append(True)
        return Fresh(state=machine().initial(), bars=())

    with exact_arithmetic():
        found = Resumption(machine(), identity, log, STARTED, fresh)({(QUOTES, 0): 4, (CLOCK, 0): 2})
    return found, bool(afresh)


@pytest.fixture
def broker() -> Broker:
    """Two quotes and a tick were merged; the command of the second quote is in the journal and was not sent."""
    broker = Broker(10, 10)
    with exact_arithmetic():
        process = Process(broker)
        process.take((QUOTES, 0), "")
        process.take((QUOTES, 0), "")
        process.take((CLOCK, 0), "")
        process.take((QUOTES, 0), "before the outputs")
    return broker


def test_a_successor_sends_what_the_journal_covers_and_nobody_sent(broker: Broker) -> None:
    sent = len(broker.commands)
    found, afresh = resumed(MemoryLog(broker))
    assert not afresh
    assert sent == 1
    assert [out.meta.cause_at for out in found.outs if out.meta] == [f"{QUOTES}/0/4"]
    assert found.positions == {(QUOTES, 0): 5, (CLOCK, 0): 1}
    assert (found.state.user.ticks, len(found.state.user.quotes)) == (1, 3)


def test_the_successors_first_entry_goes_on_with_the_number(broker: Broker) -> None:
    found, _ = resumed(MemoryLog(broker))
    found.journal.merged(QUOTES, 0, 6)
    entry = found.journal.entry()
    assert entry is not None
    assert (entry.event.sequence, entry.event.owner) == (2, len(broker.journal) - 1)


def test_an_instance_that_was_away_too_long_begins_afresh_and_says_so(broker: Broker) -> None:
    found, afresh = resumed(MemoryLog(broker, age_s=RESUME_WITHIN_S + 1))
    assert afresh
    assert found.positions == {}
    begun = broker.journal[-1]
    assert isinstance(begun, JournalBegun)
    assert begun.positions == {f"{QUOTES}/0": 4, f"{CLOCK}/0": 2}
    assert begun.owner == len(broker.journal) - 2


def test_other_code_and_a_new_start_begin_afresh(broker: Broker) -> None:
    assert resumed(MemoryLog(broker), replace(AGENT, code_version="other"))[1]
    assert resumed(MemoryLog(broker), replace(AGENT, epoch=AGENT.epoch + 1))[1]


def test_inputs_that_expired_past_its_position_make_an_instance_begin_afresh(broker: Broker) -> None:
    log = MemoryLog(broker)
    log.kept_from = 3
    assert resumed(log)[1]


def test_a_process_of_an_older_start_ends_itself(broker: Broker) -> None:
    broker.append(replace(AGENT, epoch=AGENT.epoch + 1).opened("newer"))
    with pytest.raises(InfrastructureError, match="newer than 7"):
        resumed(MemoryLog(broker))


def test_a_checkpoint_that_does_not_fit_the_journal_is_passed_over(broker: Broker) -> None:
    broker.checkpoint = AgentCheckpointed(
        agent_id=AGENT.agent_id, epoch=AGENT.epoch, owner=0, sequence=9, journal_offset=1, code_version="c",
        positions={}, state=b"",
    )  # fmt: skip
    found, afresh = resumed(MemoryLog(broker))
    assert not afresh, "the whole life is followed instead"
    assert found.state.user.ticks == 1


def test_a_checkpoint_names_the_place_of_its_own_entry() -> None:
    writer = JournalWriter(AGENT, 0, 0, 0, lambda state: b"state")
    writer.merged(QUOTES, 0, 0)
    writer.entry()
    made = writer.checkpoint(None, {})
    assert made is not None
    writer.merged(QUOTES, 0, 2)
    writer.entry()
    for offset in (10, 11):  # both acknowledged before anybody asks for the checkpoint
        writer.acknowledged(offset)
    event = made().event
    assert (event.sequence, event.journal_offset) == (0, 10)


def test_outputs_are_looked_for_from_where_the_steps_begin(broker: Broker) -> None:
    whole = MemoryLog(broker)
    resumed(whole)
    assert whole.looked_since_ns <= time.time_ns() - int(FOLLOW_WITHIN_S * NS_PER_S), "its whole life"
    with exact_arithmetic():
        process = Process(broker)
        process.take((QUOTES, 0), "")
        process.save()
    behind = MemoryLog(broker, age_s=200.0)
    resumed(behind)
    assert behind.looked_since_ns == behind.written_ns - OUTPUTS_SINCE_NS
