"""A strategy instance, its inputs and its broker, modelled: acknowledged entries, sent commands, nothing else.

Machine, journal writer, fold and following are the product's own; what dies and when, a test says.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from skeet.agents.agent_log import AgentLog
from skeet.agents.strategy_resume import Past, past_of, rerun, save
from skeet.core.control import StrategyStarted
from skeet.core.journal import AgentCheckpointed, JournalFold, JournalHole, Place, Run, ranges_of
from skeet.core.market import Quote, Tick
from skeet.core.record import Meta, Out, Record, TopicPosition
from skeet.core.strategy import Strategy, TradedInstrument, buy_limit
from skeet.core.strategy.machine import InstanceIdentity, StrategyMachine
from skeet.core.values import NS_PER_S, AccountId, PrincipalId, TenantId
from skeet.schemas.codec import numbered_codec
from skeet.streams.journaling import AgentIdentity, JournalWriter

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


class MemoryLog(AgentLog):
    """The same broker behind the product's port; ``age_s`` is how long ago everything in it was written."""

    def __init__(self, broker: Broker, age_s: float = 1.0) -> None:
        self.broker = broker
        self.written_ns = time.time_ns() - int(age_s * NS_PER_S)
        self.kept_from = 0
        self.looked_since_ns = 0
        """From when on commands were last asked for."""

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

    def sources_from(self, positions: Mapping[str, int]) -> dict[Place, Iterator[Record[Any]]]:
        return {place: iter(records) for place, records in self.broker.inputs.items()}

    def names(self, positions: Mapping[tuple[str, int], int]) -> dict[str, int]:
        return {f"{topic}/{number}": offset for (topic, number), offset in positions.items()}

    def partitions_kept(self, positions: Mapping[str, int]) -> dict[tuple[str, int], int]:
        found = {(name.rpartition("/")[0], 0): offset for name, offset in positions.items()}
        if min(found.values(), default=0) < self.kept_from:
            raise JournalHole("expired")
        return found

    def commands_since(self, log_ns: int, account: bytes) -> set[tuple[str, str]]:
        self.looked_since_ns = log_ns
        decoded = [CODEC.decode(body)[1] for _, body in self.broker.commands]
        return {(meta.event_id, meta.cause_at) for meta in decoded if meta is not None}
