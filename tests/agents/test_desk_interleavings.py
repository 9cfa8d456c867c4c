"""The desk over a model of the log: whatever order of deliveries, deaths, aborts and redeliveries, the books are the same.

The real loop, inputs, books and core; only the clients below them are the model's. What must hold afterwards: every input
was decided exactly once, streams have no hole, and deciding again what the log says was decided gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from floor import INSTRUMENT, SYMBOL
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from model_log import Died, Fate, ModelLog, ModelMessage, Reader

from skeet.agents import desk as desk_module
from skeet.agents import desk_books
from skeet.agents.desk import Desk
from skeet.agents.desk_outside import risk_rules
from skeet.agents.desk_snapshots import Restored
from skeet.config import Settings
from skeet.core import commands, market, reports
from skeet.core.account import decide, stamp
from skeet.core.account_snapshot import state_bytes, state_from_bytes
from skeet.core.account_state import AccountState, evolve
from skeet.core.controls import Control
from skeet.core.ids import derive_id
from skeet.core.record import Event, Meta, Out, Record
from skeet.core.risk import Context, SeenReference
from skeet.core.values import (
    NS_PER_MS,
    NS_PER_S,
    AccountId,
    EventId,
    LiquiditySide,
    OrderType,
    PrincipalId,
    Side,
    TenantId,
    TimeInForce,
    exact_arithmetic,
)
from skeet.schemas.codec import Codec, numbered_codec
from skeet.streams.partitioner import partition_of
from skeet.streams.reading import record_of
from skeet.streams.topics import ACCOUNT_EVENTS, COMMANDS, REPORTS
from skeet.streams.transactional import Encoded, TransactionAborted

PREFIX = "m."
PARTITIONS = 2
CODEC = numbered_codec()
ACCOUNTS = ("alice", "bob")
MAX_STEPS = 300
"""Far more than the largest example needs."""


def context_at(settings: Settings, log_ns: int) -> Context:
    """What a decision may know: always the market of this moment."""
    reference = market.Reference(
        instrument_id=SYMBOL, ts_event=log_ns, ts_init=log_ns, bid_mantissa=10_000, ask_mantissa=10_001,
        last_mantissa=10_000, price_scale=2, status=market.ReferenceStatus.LIVE, source_at="",
    )  # fmt: skip
    seen = SeenReference(reference=reference, at="market.reference.v1/0/0", log_ns=log_ns)
    return Context(now_ns=log_ns, control=Control(), rules=risk_rules(settings), instrument=INSTRUMENT, reference=seen)


class ModelOutside:
    """The desk's view of control and prices: nothing controlled, prices always there."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self.rules = risk_rules(settings)
        self.control = Control()
        self.control_records: list[Record[Any]] = []

    def start(self) -> None: ...

    def poll(self) -> None: ...

    def close(self) -> None: ...

    def take_letters(self) -> list[Out[Any]]:
        return []

    def return_letters(self, letters: list[Out[Any]]) -> None:
        assert not letters

    def context(self, log_ns: int, instrument_id: str = "") -> Context:
        return context_at(self._settings, log_ns)


class World:
    """One log, its snapshots, and the desks that live and die on it."""

    def __init__(self, settings: Settings, turns: Iterator[tuple[int, int]], fates: list[Fate]) -> None:
        self.settings = settings
        self.log = ModelLog(fates=fates)
        self.turns = turns
        self.snapshots: dict[int, tuple[int, dict[str, bytes]]] = {}

    def give(self, topic: str, account: str, event: Event, identity: str) -> None:
        now = self.log.now_ms * NS_PER_MS
        event_id = EventId(derive_id("test", account, identity))
        meta = Meta(
            event_id=event_id, tenant_id=TenantId("main"), account_id=AccountId(account),
            principal_id=PrincipalId("test"), correlation_id=event_id, causation_id=event_id, cause_at="",
            ts_event=now, ts_init=now,
        )  # fmt: skip
        place = (PREFIX + topic, partition_of(account.encode(), PARTITIONS))
        self.log.append(place, account.encode(), CODEC.encode(event, meta))

    def account(self, name: str, orders: Sequence[tuple[str, int]]) -> None:
        """An account, its orders (name and steps of quantity; the same name is the same command again), and their fills."""
        self.command(name, "open", commands.OpenAccount, venue="sim", label=name)
        self.command(name, "fund", commands.Deposit, asset="USDT", amount=Decimal(100_000), external_ref=f"r-{name}")
        for order, steps in orders:
            quantity = Decimal(steps) / 10
            self.command(
                name, order, commands.SubmitOrder, book_id="manual", instrument_id=SYMBOL, side=Side.BUY,
                order_type=OrderType.LIMIT, time_in_force=TimeInForce.GTC, post_only=False, quantity=quantity,
                limit_price=Decimal(99), code_version="", rule="",
            )  # fmt: skip
            order_id = derive_id("test", name, order)
            fill = reports.FillReported(
                order_id=order_id, client_order_id=order_id, instrument_id=SYMBOL, venue_order_id="1",
                trade_id=f"t-{order}", side=Side.BUY, quantity=Decimal("0.05"), price=Decimal(99),
                fee=Decimal("0.01"), fee_asset="USDT", liquidity=LiquiditySide.TAKER,
            )  # fmt: skip
            self.give(REPORTS.name, name, fill, f"fill-{order}-{self.log.now_ms}")

    def command(self, account: str, identity: str, make: Any, **fields: Any) -> None:
        now = self.log.now_ms * NS_PER_MS
        self.give(COMMANDS.name, account, make(ts_cause=now, valid_until=now + 60 * NS_PER_S, **fields), identity)

    def run(self) -> int:
        """Desks until everything is decided; how many it took."""
        desks = 0
        while True:
            desks += 1
            try:
                desk = Desk(self.settings, CODEC)
                desk.start()
                for _ in range(MAX_STEPS):
                    if not desk.step() and self.decided_all:
                        break
                else:
                    raise AssertionError("inputs are left that no desk ever decides")
                desk.close()
                return desks
            except Died:
                continue

    @property
    def decided_all(self) -> bool:
        inputs = [place for place in self.log.records if place[0] != PREFIX + ACCOUNT_EVENTS.name]
        return all(self.log.position(place) == len(self.log.records[place]) for place in inputs)

    def events(self, partition: int) -> list[Record[Any]]:
        found = self.log.records.get((PREFIX + ACCOUNT_EVENTS.name, partition), [])
        return [record_of(CODEC, message, PREFIX) for message in found]


class ModelTransactor:
    world: World

    def __init__(self, *_: Any) -> None: ...

    def open(self, warm: Sequence[Any] = ()) -> None: ...

    def commit(self, outs: Sequence[Encoded], inputs: Any, messages: Sequence[ModelMessage]) -> Mapping[Any, int]:
        log = self.world.log
        fate = log.fate()
        if fate is Fate.ABORTED:
            raise TransactionAborted("the model aborts")
        if fate is Fate.DIED_BEFORE:
            log.die()
        ends = {}
        for out in outs:
            assert out.partition is not None
            place = (PREFIX + out.topic, out.partition)
            ends[place] = log.append(place, out.key, out.value) + 1
        log.commit({message.place: (message.at + 1, "") for message in messages})
        if fate is Fate.DIED_AFTER:
            log.die()
        return ends


class ModelInputs:
    world: World

    def __init__(self, *_: Any, on_assigned: Any, on_revoked: Any) -> None:
        places = [(PREFIX + topic.name, p) for topic in (COMMANDS, REPORTS) for p in range(PARTITIONS)]
        self._reader = Reader(self.world.log, places, self.world.turns)
        self._on_assigned = on_assigned
        self._told = False

    def poll(self, _: float, limit: int = 500) -> list[ModelMessage]:
        if not self._told:
            self._told = True
            self._on_assigned(list(range(PARTITIONS)))
            return []
        return self._reader.next(limit)

    def rewind(self) -> None:
        self._reader.rewind()

    def close(self) -> None: ...


class ModelSnapshots:
    world: World

    def __init__(self, *_: Any) -> None: ...

    def write(self, partition: int, next_offset: int, states: Sequence[AccountState], written: dict[str, int]) -> None:
        self.world.snapshots[partition] = (next_offset, {s.account_id: state_bytes(s) for s in states})
        written.update({state.account_id: state.version for state in states})

    def flush(self) -> None: ...

    def read(self, partition: int) -> Restored:
        next_offset, states = self.world.snapshots.get(partition, (0, {}))
        return Restored(next_offset=next_offset, states={name: state_from_bytes(b) for name, b in states.items()})


@pytest.fixture
def modelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The desk's clients are the model's; the world is set by each example."""
    monkeypatch.setattr(desk_module, "Transactor", ModelTransactor)
    monkeypatch.setattr(desk_module, "Inputs", ModelInputs)
    monkeypatch.setattr(desk_module, "Outside", ModelOutside)
    monkeypatch.setattr(desk_module, "Snapshots", ModelSnapshots)
    monkeypatch.setattr(
        desk_books,
        "messages_until_end",
        lambda _, places, start, __: ModelTransactor.world.log.until_end(places, start),
    )
    monkeypatch.setattr(
        desk_books,
        "written_offsets",
        lambda _, places: {place: len(ModelTransactor.world.log.records.get(place, [])) for place in places},
    )


FATES = st.lists(st.sampled_from(list(Fate)), max_size=20)
TURNS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 7)), max_size=40)
ORDERS = st.lists(st.tuples(st.sampled_from(["o1", "o2", "o3", "o4", "o5"]), st.integers(6, 90)), max_size=8)


@examples(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(alice=ORDERS, bob=ORDERS, turns=TURNS, fates=FATES)
def test_every_input_is_decided_once_whatever_dies(
    modelled: None,
    tmp_path: Path,
    alice: list[tuple[str, int]],
    bob: list[tuple[str, int]],
    turns: list[tuple[int, int]],
    fates: list[Fate],
) -> None:
    settings = Settings(
        kafka={"bootstrap": "model:1", "topic_prefix": PREFIX, "account_partitions": PARTITIONS},
        desk={"snapshot_every": 3},
        data=tmp_path,
    )
    world = World(settings, iter(turns), fates)
    ModelTransactor.world = ModelInputs.world = ModelSnapshots.world = world
    for name, orders in zip(ACCOUNTS, (alice, bob), strict=True):
        world.account(name, orders)
    desks = world.run()
    assert desks == world.log.deaths + 1
    for partition in range(PARTITIONS):
        assert_decided_once(world, partition)


def assert_decided_once(world: World, partition: int) -> None:
    """Deciding the causes again, in the order of the log, gives the recorded events, and every input is among them."""
    recorded = world.events(partition)
    causes = list(dict.fromkeys(record.meta.cause_at for record in recorded if record.meta))
    given_in = {
        f"{topic.name}/{partition}/{message.at}": record_of(CODEC, message, PREFIX)
        for topic in (COMMANDS, REPORTS)
        for message in world.log.records.get((PREFIX + topic.name, partition), [])
    }
    assert set(causes) == set(given_in)
    states: dict[str, AccountState] = {}
    again: list[tuple[Event, Meta]] = []
    with exact_arithmetic():
        for cause in causes:
            record = given_in[cause]
            assert record.meta is not None
            name = str(record.meta.account_id)
            state = states.setdefault(name, AccountState(account_id=name))
            events = decide(state, record, context_at(world.settings, record.log_ns))
            for event, meta in zip(events, stamp(state, record, record.log_ns, events), strict=True):
                evolve(state, event, meta)
                again.append((event, meta))
    assert [(record.event, record.meta) for record in recorded] == again
