"""The deep checks of one partition, on a log in memory: given what the desk wrote, then what the replay says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from skeet.agents.desk_inputs import rules_applied
from skeet.core import commands, control, market
from skeet.core.account import decide, decide_kill, stamp
from skeet.core.account_snapshot import account_digest, memory_hash
from skeet.core.account_state import AccountState, evolve
from skeet.core.accounts import AccountEvent, ControlApplied, FundsDeposited, OrderAuthorized, StateMarked
from skeet.core.controls import Control, Limits, apply_control
from skeet.core.ids import derive_id
from skeet.core.record import Event, Meta, Record, TopicPosition
from skeet.core.risk import Context, RiskRules, SeenReference
from skeet.core.values import NS_PER_S, AccountId, OrderType, PrincipalId, Side, TenantId, TimeInForce, exact_arithmetic
from skeet.parity.desk_replay import DeskReplay
from skeet.schemas.codec import numbered_codec
from skeet.verify.findings import Check

NOW = 1_000 * NS_PER_S
SYMBOL = "SIM:BTC/USDT"
RULES = RiskRules(
    limits=Limits(max_quantity=Decimal(1000), max_notional=Decimal(1_000_000), version=0),
    reference_max_age_ns=5 * NS_PER_S,
    collar_bps=200,
)
INSTRUMENT = market.InstrumentDefined(
    instrument_id=SYMBOL, ts_event=1, ts_init=1, version=3, venue="SIM", symbol="BTC/USDT", venue_symbol="BTCUSDT",
    base="BTC", quote="USDT", active=True, tick_size=Decimal("0.01"), step_size=Decimal("0.00001"),
    min_quantity=Decimal("0.00001"), max_quantity=Decimal(9000), min_notional=Decimal(5), max_notional=Decimal(0),
    maker_fee=Decimal("0.001"), taker_fee=Decimal("0.001"), price_scale=2, size_scale=5,
)  # fmt: skip
REFERENCE = market.Reference(
    instrument_id=SYMBOL, ts_event=NOW, ts_init=NOW, bid_mantissa=9999, ask_mantissa=10000, last_mantissa=9999,
    price_scale=2, status=market.ReferenceStatus.LIVE, source_at="market.quotes.v1/0/7",
)  # fmt: skip
REFERENCE_AT = "market.reference.v1/0/1"


class Log:
    """A partition as the desk writes it, in memory. It is what the replay reads, too."""

    def __init__(self) -> None:
        self.codec = numbered_codec()
        self.inputs: dict[str, Record[Any]] = {}
        self.records: list[Record[Any]] = []
        self.raw: list[bytes] = []
        self.states: dict[str, AccountState] = {}
        self.control = Control()
        self.applied(
            [rules_applied(RULES)],
            self._record(
                control.Genesis(account_partitions=1, market_partitions=1, partitioner="murmur2"), "control.events.v1"
            ),
            "~0",
        )

    def at(self, position: str) -> Record[Any] | None:
        if position == REFERENCE_AT:
            return Record(event=REFERENCE, meta=None, at=TopicPosition("market.reference.v1", 0, 1), log_ns=NOW)
        return self.inputs.get(position)

    def instrument(self, instrument_id: str, version: int) -> market.InstrumentDefined | None:
        return INSTRUMENT if (instrument_id, version) == (SYMBOL, 3) else None

    def command(self, account: str, make: Any, **fields: Any) -> None:
        record = self._record(make(ts_cause=NOW, valid_until=NOW + NS_PER_S, **fields), "orders.commands.v1", account)
        context = Context(
            now_ns=NOW, control=self.control, rules=RULES, instrument=INSTRUMENT,
            reference=SeenReference(reference=REFERENCE, at=REFERENCE_AT, log_ns=NOW),
        )  # fmt: skip
        with exact_arithmetic():
            self.applied(decide(self._state(account), record, context), record, account)

    def controlled(self, event: Event) -> None:
        record = self._record(event, "control.events.v1")
        self.control = apply_control(self.control, event, record.at.offset)
        echo = ControlApplied(control_offset=record.at.offset, control_event=type(event).__name__)
        self.applied([echo], record, "~0")
        if isinstance(event, control.KillSwitchSet) and record.meta is not None:
            for account in [name for name in self.states if name != "~0"]:
                self.applied(decide_kill(self._state(account), event, record.meta.event_id), record, account)

    def marked(self) -> None:
        digests = {name: account_digest(state) for name, state in self.states.items() if state.version}
        mark = StateMarked(
            marked_events=len(self.records),
            account_count=len(digests),
            state_hash=memory_hash(digests),
            reason="events",
        )
        self.applied([mark], next(iter(self.inputs.values())), "~0")

    def trade(self) -> Log:
        """Alice opens, is funded and buys; a kill switch cancels; a mark ends it."""
        self.command("alice", commands.OpenAccount, venue="sim", label="Alice")
        self.command("alice", commands.Deposit, asset="USDT", amount=Decimal(1000), external_ref="1")
        for quantity, price in (("1", "99"), ("5000", None), ("0.5", None)):
            self.command(
                "alice", commands.SubmitOrder, book_id="manual", instrument_id=SYMBOL, side=Side.BUY,
                order_type=OrderType.LIMIT if price else OrderType.MARKET,
                time_in_force=TimeInForce.GTC if price else TimeInForce.IOC, post_only=False,
                quantity=Decimal(quantity), limit_price=Decimal(price) if price else None, code_version="", rule="",
            )  # fmt: skip
        self.controlled(control.KillSwitchSet(scope="platform", active=True, cancel_open=True, reason="drill"))
        self.marked()
        return self

    def alter(self, kind: type[AccountEvent], **changes: Any) -> TopicPosition:
        """Tamper: one recorded event says something else. Returns where it stands."""
        found = next(r for r in self.records if isinstance(r.event, kind))
        place = self.records.index(found)
        self.records[place] = altered = replace(found, event=replace(found.event, **changes))
        self.raw[place] = self.codec.encode(altered.event, altered.meta)
        return found.at

    def applied(self, events: Sequence[AccountEvent], cause: Record[Any], account: str) -> None:
        with exact_arithmetic():
            for event, meta in zip(events, stamp(self._state(account), cause, NOW, events), strict=True):
                at = TopicPosition("accounts.events.v1", 0, len(self.records))
                self.records.append(Record(event=event, meta=meta, at=at, log_ns=NOW))
                self.raw.append(self.codec.encode(event, meta))
                evolve(self._state(account), event, meta)

    def _state(self, account: str) -> AccountState:
        return self.states.setdefault(account, AccountState(account_id=account))

    def _record(self, event: Event, topic: str, account: str = "") -> Record[Any]:
        at = TopicPosition(topic, 0, len(self.inputs))
        identity = derive_id("test", str(at))
        meta = Meta(
            event_id=identity, tenant_id=TenantId("main"), account_id=AccountId(account),
            principal_id=PrincipalId("test"), correlation_id=identity, causation_id=identity, cause_at="",
            ts_event=NOW, ts_init=NOW,
        )  # fmt: skip
        self.inputs[str(at)] = record = Record(event=event, meta=meta, at=at, log_ns=NOW)
        return record


def replayed(log: Log, snapshot: dict[str, AccountState] | None = None) -> tuple[Check, Check]:
    fold, decisions = Check(name="F", title=""), Check(name="D", title="")
    replay = DeskReplay(log.codec, log, RULES, snapshot=snapshot or {}, fold=fold, decisions=decisions)
    for record, raw in zip(log.records, log.raw, strict=True):
        replay.take(record, raw)
    replay.finish("accounts.events.v1/0")
    return fold, decisions


@pytest.fixture
def log() -> Log:
    return Log().trade()


def test_a_desk_s_own_log_agrees(log: Log) -> None:
    fold, decisions = replayed(log)
    assert (fold.differences, decisions.differences) == ([], [])
    assert fold.compared == {"events": 10, "marks": 1}
    assert decisions.compared == {"decided events": 8}


def test_an_altered_amount_is_named_by_position_field_and_cause(log: Log) -> None:
    at = log.alter(FundsDeposited, amount=Decimal(1001))
    fold, decisions = replayed(log)
    assert decisions.differences == [
        f"{at}: FundsDeposited.amount is 1001, orders.commands.v1/0/2 decided again gives 1000"
    ]
    assert len(fold.differences) == 1
    assert "StateMarked says" in fold.differences[0]


def test_an_order_that_risk_would_refuse_is_named(log: Log) -> None:
    at = log.alter(OrderAuthorized, quantity=Decimal(999))
    _, decisions = replayed(log)
    assert decisions.differences[0].startswith(f"{at}: OrderAuthorized.quantity is 999")


def test_a_mark_that_lies_is_named(log: Log) -> None:
    at = log.alter(StateMarked, state_hash="0" * 64)
    fold, decisions = replayed(log)
    assert decisions.differences == []
    assert fold.differences[0].startswith(f"{at}: StateMarked says")


def test_a_forged_event_is_named_with_the_cause_that_does_not_cause_it(log: Log) -> None:
    cause = log.inputs["orders.commands.v1/0/2"]
    forged = FundsDeposited(asset="USDT", amount=Decimal(5), external_ref="x", postings=())
    log.applied([forged], cause, "alice")
    _, decisions = replayed(log)
    assert decisions.difference_count == 1
    assert (
        "recorded is FundsDeposited, orders.commands.v1/0/2 decided again gives DuplicateIgnored"
        in decisions.differences[0]
    )


def test_an_event_without_a_cause_in_the_log_is_named(log: Log) -> None:
    del log.inputs["orders.commands.v1/0/2"]
    _, decisions = replayed(log)
    assert "its cause orders.commands.v1/0/2 is not in the log" in decisions.differences[0]


def test_a_cancel_that_the_kill_switch_caused_and_that_is_missing_is_named(log: Log) -> None:
    place = max(i for i, r in enumerate(log.records) if type(r.event).__name__ == "CancelAuthorized")
    del log.records[place], log.raw[place]
    fold, decisions = replayed(log)
    assert "causes CancelAuthorized of alice too, which is not in the log" in decisions.differences[0]
    assert fold.differences, "the mark shows it too"


def test_decisions_of_other_code_are_counted_and_not_judged() -> None:
    log = Log()
    log.applied([replace(rules_applied(RULES), code_version="older")], next(iter(log.inputs.values())), "~0")
    log.trade().alter(FundsDeposited, amount=Decimal(1001))
    fold, decisions = replayed(log)
    assert (fold.differences, decisions.differences) == ([], [])
    assert decisions.compared["differences of other code, not judged"] == 1
    assert fold.compared["marks of other code, not compared"] == 1


def test_a_snapshot_that_differs_from_the_fold_is_named(log: Log) -> None:
    half = Log()
    half.command("alice", commands.OpenAccount, venue="sim", label="Alice")
    assert replayed(log, half.states)[0].differences == []
    half.states["alice"].external_refs["forged"] = "1 BTC"
    assert "alice is not the same from its snapshot and from zero" in replayed(log, half.states)[0].differences[0]
