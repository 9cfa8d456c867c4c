"""Crashes of a strategy at any place: what it sent, and what it would have sent, is what one undisturbed run sends.

The broker is modelled: acknowledged journal entries, sent commands, the inputs' partitions. The machine, the journal's
writer, its fold and the following are the product's own.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from skeet.agents.agent_log import AgentLog
from skeet.agents.strategy_resume import RESUME_WITHIN_S, Fresh, Past, Resumption, load, past_of, rerun, save
from skeet.core.control import StrategyStarted
from skeet.core.errors import InfrastructureError
from skeet.core.journal import AgentCheckpointed, JournalBegun, JournalFold, JournalHole, Place, Run, ranges_of
from skeet.core.market import Quote, Tick
from skeet.core.record import Meta, Out, Record, TopicPosition
from skeet.core.strategy import Strategy, TradedInstrument, buy_limit
from skeet.core.strategy.machine import InstanceIdentity, InstanceState, StrategyMachine
from skeet.core.values import NS_PER_S, AccountId, PrincipalId, TenantId, exact_arithmetic
from skeet.schemas.codec import numbered_codec
from skeet.streams.journaling import AgentIdentity, JournalWriter
from skeet.streams.stages import Resumed

SYMBOL = "SIM:BTC/USDT"
CODEC = numbered_codec()
INSTRUMENT = TradedInstrument(
    instrument_id=SYMBOL, base="BTC", quote="USDT", tick_size=Decimal("0.01"), step_size=Decimal("0.001"),
    min_quantity=Decimal("0.001"), min_notional=Decimal(1), maker_fee=Decimal(0), taker_fee=Decimal(0),
)  # fmt: skip
AGENT = AgentIdentity(
    agent_id="alpha", tenant_id=TenantId("main"), account_id=AccountId("acc"), epoch=7, code_version="c"
)
QUOTES, CLOCK = "market.quotes.v1", "clock.v1"


class Nothing(BaseModel):
    pass


@dataclass
class Seen:
    ticks: int = 0
    quotes: list[Decimal] = field(default_factory=list)


class TicksBetweenQuotes(Strategy[Seen]):
    """What it asks for depends on how quotes and ticks were merged, which no single partition tells."""

    Parameters = Nothing

    def initial(self) -> Seen:
        return Seen()

    def on_quote(self, state: Seen, quote: Quote, context: Any) -> Any:
        state.quotes.append(quote.ask_price)
        if quote.update_id % 3:
            return [buy_limit(Decimal(1 + state.ticks), quote.ask_price, rule="quote")]
        return []

    def on_timer(self, state: Seen, context: Any) -> Any:
        state.ticks += 1
        return [buy_limit(Decimal(1 + len(state.quotes)), Decimal(5), rule="tick")] if state.ticks % 4 == 0 else []


def machine() -> StrategyMachine:
    identity = InstanceIdentity(
        tenant_id=AGENT.tenant_id, account_id=AGENT.account_id, instance_id=AGENT.agent_id, code_version="c",
        instrument=INSTRUMENT, epoch=AGENT.epoch,
    )  # fmt: skip
    return StrategyMachine(TicksBetweenQuotes(Nothing()), identity)


def inputs(quotes: int, ticks: int) -> dict[Place, list[Record[Any]]]:
    def quote(n: int) -> Quote:
        return Quote(
            instrument_id=SYMBOL, ts_event=n, ts_init=n, update_id=n, bid_price_mantissa=100, bid_size_mantissa=1,
            ask_price_mantissa=200 + n, ask_size_mantissa=1, price_scale=2, size_scale=3,
        )  # fmt: skip

    return {
        (QUOTES, 0): [Record(event=quote(n), meta=None, at=TopicPosition(QUOTES, 0, 2 * n), log_ns=n) for n in range(quotes)],
        (CLOCK, 0): [
            Record(event=Tick(ts_event=NS_PER_S + n), meta=None, at=TopicPosition(CLOCK, 0, n), log_ns=n) for n in range(ticks)
        ],
    }  # fmt: skip


STARTED: Record[StrategyStarted] = Record(
    event=StrategyStarted(instance_id="alpha", strategy="x", instrument_id=SYMBOL, parameters="{}", code_version="c"),
    meta=Meta(
        event_id=AGENT.out("control.events.v1", Tick(ts_event=0), "s").meta.event_id,  # type: ignore[union-attr]
        tenant_id=AGENT.tenant_id, account_id=AGENT.account_id, principal_id=PrincipalId("p"),
        correlation_id=AGENT.out("c", Tick(ts_event=0)).meta.event_id,  # type: ignore[union-attr]
        causation_id=AGENT.out("c", Tick(ts_event=0)).meta.event_id,  # type: ignore[union-attr]
        cause_at="", ts_event=0, ts_init=0,
    ),
    at=TopicPosition("control.events.v1", 0, 7),
    log_ns=0,
)  # fmt: skip


class Broker:
    """What is acknowledged."""

    def __init__(self, quotes: int, ticks: int) -> None:
        self.inputs = inputs(quotes, ticks)
        self.journal: list[Any] = []
        self.checkpoint: AgentCheckpointed | None = None
        self.commands: list[tuple[str, bytes]] = []

    def sources(self, runs: Iterable[Run]) -> dict[Place, Iterator[Record[Any]]]:
        return {
            place: iter([r for r in self.inputs[place] if first <= r.at.offset < end])
            for place, (first, end) in ranges_of(runs).items()
        }

    def append(self, out: Out[Any]) -> int:
        self.journal.append(out.event)
        return len(self.journal) - 1

    def send(self, outs: Iterable[Out[Any]]) -> None:
        for out in outs:
            assert out.meta is not None
            self.commands.append((out.meta.event_id, CODEC.encode(out.event, out.meta)))


class Process:
    """One life of the process, from its claim to its death."""

    def __init__(self, broker: Broker) -> None:
        self.broker, self.machine = broker, machine()
        owner = broker.append(AGENT.opened(str(len(broker.journal))))
        past = self._past()
        outs: Iterable[Out[Any]] = ()
        if past is None:
            state = self.machine.initial()
            begun = AGENT.begun(owner, positions={}, warm_up=(), state=save(self.machine, state))
            offset = broker.append(begun)
            self.state, outs = self.machine.start(state, (), STARTED)
            self.next, sequence = dict.fromkeys(broker.inputs, 0), 0
        else:
            self.state, outs = rerun(self.machine, past, STARTED, broker)
            offset, sequence = owner, past.next_sequence
            self.next = {place: past.positions.get(f"{place[0]}/{place[1]}", 0) for place in broker.inputs}
            for run in past.runs:
                self.next[run.topic, run.partition] = run.last + 1
        broker.send(outs)
        self.writer = JournalWriter(AGENT, owner, sequence, offset, lambda state: save(self.machine, state))

    def _past(self) -> Past | None:
        checkpoint = self.broker.checkpoint
        fold = JournalFold(AGENT.agent_id) if checkpoint is None else JournalFold.after(checkpoint)
        first = 0 if checkpoint is None else checkpoint.journal_offset + 1
        for offset, event in enumerate(self.broker.journal[first:], start=first):
            fold.take(event, offset)
        return past_of(fold.chains[-1], checkpoint) if fold.chains else None

    def take(self, place: Place, dies: str) -> None:
        """The next record of a partition; ``dies`` says where the process ends on the way, if it does."""
        record = next((r for r in self.broker.inputs[place] if r.at.offset >= self.next[place]), None)
        if record is None:
            return
        self.next[place] = record.at.offset + 1
        self.writer.merged(place[0], place[1], record.at.offset)
        self.state, outs = self.machine.step(self.state, record)
        if outs and dies != "before the entry":
            entry = self.writer.entry()
            assert entry is not None
            self.writer.acknowledged(self.broker.append(entry))
            self.broker.send(outs if dies != "before the outputs" else ())

    def save(self) -> None:
        """A checkpoint: the entry before it, then it."""
        entry = self.writer.entry()
        if entry is not None:
            self.writer.acknowledged(self.broker.append(entry))
        made = self.writer.checkpoint(self.state, {f"{t}/{p}": offset for (t, p), offset in self.next.items()})
        if made is not None:
            event = made().event
            assert isinstance(event, AgentCheckpointed)
            self.broker.checkpoint = event


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
    assert back.instrument == INSTRUMENT
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


class MemoryLog(AgentLog):
    """The same broker behind the product's port; ``age_s`` is how long ago everything in it was written."""

    def __init__(self, broker: Broker, age_s: float = 1.0) -> None:
        self.broker = broker
        self.written_ns = time.time_ns() - int(age_s * NS_PER_S)
        self.kept_from = 0

    def claim(self, identity: AgentIdentity) -> int:
        return self.broker.append(identity.opened(str(len(self.broker.journal))))

    def write(self, out: Out[Any]) -> int:
        return self.broker.append(out)

    def checkpoint(self, epoch: int, code_version: str, since_ns: int) -> Record[AgentCheckpointed] | None:
        found = self.broker.checkpoint
        if found is None or (found.epoch, found.code_version) != (epoch, code_version) or self.written_ns < since_ns:
            return None
        return Record(event=found, meta=None, at=TopicPosition("c", 0, 0), log_ns=self.written_ns)

    def journal(self, first: int, end: int) -> list[Record[Any]]:
        return [
            Record(event=event, meta=None, at=TopicPosition("j", 0, offset), log_ns=self.written_ns)
            for offset, event in enumerate(self.broker.journal)
            if first <= offset < end
        ]

    def journal_at(self, log_ns: int) -> int:
        return 0

    def sources(self, runs: Iterable[Run]) -> dict[Place, Iterator[Record[Any]]]:
        return self.broker.sources(runs)

    def names(self, positions: Mapping[tuple[str, int], int]) -> dict[str, int]:
        return {f"{topic}/{number}": offset for (topic, number), offset in positions.items()}

    def partitions_kept(self, positions: Mapping[str, int]) -> dict[tuple[str, int], int]:
        found = {(name.rpartition("/")[0], 0): offset for name, offset in positions.items()}
        if min(found.values(), default=0) < self.kept_from:
            raise JournalHole("expired")
        return found

    def commands_since(self, log_ns: int, account: bytes) -> set[tuple[str, str]]:
        decoded = [CODEC.decode(body)[1] for _, body in self.broker.commands]
        return {(meta.event_id, meta.cause_at) for meta in decoded if meta is not None}


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
