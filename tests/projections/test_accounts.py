"""Account state in a real PostgreSQL, from a real log: the pure fold of the log, once, with its position."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from dying import a_member_that_stops_polling

from skeet.config import PostgresSettings, Settings
from skeet.core import accounts, control
from skeet.core.accounts import LedgerAccount, Posting
from skeet.core.ids import account_event_id
from skeet.core.record import Event, Meta, Out, Record, TopicPosition
from skeet.core.values import AccountId, EventId, LiquiditySide, OrderStatus, OrderType, Side, TenantId, TimeInForce
from skeet.process import StopSignal
from skeet.projections import postgres
from skeet.projections.account_rebuild import account_checksums, rebuild_accounts_beside, replace_accounts
from skeet.projections.account_writing import RowWriter
from skeet.projections.postgres import AccountSession
from skeet.projections.postgres_store import AccountStore, PositionMoved
from skeet.projections.sessions import run_sessions
from skeet.schemas.golden import sample
from skeet.streams import topics
from skeet.streams.kafka import REBALANCE_MS, producer
from skeet.streams.publishing import Publisher
from skeet.streams.registry import registered_codec

pytestmark = pytest.mark.integration
DEADLINE_S = 30.0
BTC = "SIM:BTC/USDT"
TOPIC = topics.ACCOUNT_EVENTS.name
ALICE = "alice"


@pytest.fixture
def settings(applied_settings: Settings, postgres_dsn: str) -> Iterator[Settings]:
    section = PostgresSettings(dsn=postgres_dsn, schema_name=f"t{uuid4().hex[:8]}")
    settings = applied_settings.model_copy(update={"postgres": section})
    yield settings
    store = AccountStore(settings)
    store.connection.execute(f"DROP SCHEMA IF EXISTS {section.schema_name} CASCADE".encode())
    store.close()


@pytest.fixture
def store(settings: Settings) -> Iterator[AccountStore]:
    store = AccountStore(settings)
    store.migrate()
    yield store
    store.close()


def rows(store: AccountStore, statement: str) -> list[tuple[Any, ...]]:
    return store.connection.execute(statement.encode()).fetchall()


def meta(version: int, ts_event: int = 0) -> Meta:
    envelope: Meta = sample(Meta)
    return dataclasses.replace(
        envelope,
        event_id=account_event_id(AccountId(ALICE), version),
        account_id=AccountId(ALICE),
        tenant_id=TenantId("main"),
        correlation_id=EventId("c"),
        ts_event=ts_event or 1_000 + version,
        ts_init=7,
        stream_version=version,
    )


def lines(**amounts: str) -> tuple[Posting, ...]:
    return tuple(
        Posting(ledger=LedgerAccount(ledger), asset="USDT", amount=Decimal(amount), book_id="b")
        for ledger, amount in amounts.items()
    )


def authorized(order_id: str, quantity: str = "2") -> accounts.OrderAuthorized:
    order: accounts.OrderAuthorized = sample(accounts.OrderAuthorized)
    return dataclasses.replace(
        order,
        order_id=order_id,
        book_id="b",
        instrument_id=BTC,
        status=OrderStatus.AUTHORIZED,
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTC,
        quantity=Decimal(quantity),
        limit_price=Decimal(100),
        postings=lines(FREE="-200", RESERVED="200"),
    )


def filled(order_id: str, side: Side, quantity: str, price: str, so_far: str, leaves: str) -> accounts.OrderFilled:
    return accounts.OrderFilled(
        order_id=order_id,
        book_id="b",
        instrument_id=BTC,
        status=OrderStatus.FILLED if leaves == "0" else OrderStatus.PARTIALLY_FILLED,
        side=side,
        venue_order_id="v1",
        trade_id=f"{order_id}-{so_far}",
        quantity=Decimal(quantity),
        price=Decimal(price),
        fee=Decimal("0.1"),
        fee_asset="USDT",
        liquidity=LiquiditySide.TAKER,
        filled_quantity=Decimal(so_far),
        leaves_quantity=Decimal(leaves),
        postings=(),
    )


def story() -> list[Event]:
    """An account opens, is funded, buys in two fills, is denied an order and a cancel."""
    denied: accounts.OrderDenied = sample(accounts.OrderDenied)
    return [
        accounts.AccountOpened(venue="sim", label="Alice"),
        accounts.FundsDeposited(
            asset="USDT", amount=Decimal(1000), external_ref="t1", postings=lines(FREE="1000", EXTERNAL="-1000")
        ),
        authorized("o1"),
        accounts.OrderSubmitted(
            order_id="o1", book_id="b", instrument_id=BTC, status=OrderStatus.SUBMITTED, sent_ts=50, send_until=60
        ),
        accounts.OrderAccepted(
            order_id="o1", book_id="b", instrument_id=BTC, status=OrderStatus.ACCEPTED, venue_order_id="v1"
        ),
        filled("o1", Side.BUY, "1", "99", "1", "1"),
        filled("o1", Side.BUY, "1", "100", "2", "0"),
        dataclasses.replace(denied, order_id="o2", book_id="b", instrument_id=BTC, status=OrderStatus.DENIED),
        dataclasses.replace(sample(accounts.CommandDenied), command_id="c9"),
        accounts.BalanceDiffered(asset="USDT", ledger_total=Decimal(1), venue_total=Decimal(2)),
    ]


def records(events: list[Event], first: int = 0) -> list[Record[Any]]:
    return [
        Record(event=event, meta=meta(offset + 1), at=TopicPosition(TOPIC, 0, offset), log_ns=0)
        for offset, event in enumerate(events, start=first)
    ]


def outs(events: list[Event], first: int = 0) -> list[Out[Any]]:
    return [Out(topic=TOPIC, key=ALICE, event=r.event, meta=r.meta) for r in records(events, first)]


def control_records() -> list[Record[Any]]:
    """A switch, limits, and two lives of a strategy."""
    started = control.StrategyStarted(
        instance_id="i1", strategy="m:C", instrument_id=BTC, parameters='{"fast": 3}', code_version="v"
    )
    events: list[Event] = [
        control.KillSwitchSet(scope="platform", active=True, cancel_open=False, reason="test"),
        control.LimitsSet(scope="account:a", version=1, max_quantity=Decimal(5), max_notional=None),
        started,
        control.StrategyHalted(instance_id="i1", handler="on_trade", file="f.py", line=3, error="boom"),
        started,
        control.StrategyStopped(instance_id="i1", reason="enough", cancel_open=True),
        control.SessionMark(label="end"),
    ]
    return [
        Record(event=event, meta=meta(0), at=TopicPosition(topics.CONTROL.name, 0, offset), log_ns=0)
        for offset, event in enumerate(events)
    ]


def publish(settings: Settings, published: list[Out[Any]]) -> None:
    publisher = Publisher(settings, registered_codec(settings), producer(settings, "test"))
    publisher.send(published)
    publisher.flush()


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    stop, codec = StopSignal(), registered_codec(settings)

    def session() -> None:
        own = AccountStore(settings)
        try:
            AccountSession(settings, codec, own).run(stop)
        finally:
            own.close()

    thread = threading.Thread(target=lambda: run_sessions(stop, session))
    thread.start()
    try:
        yield
    finally:
        stop.stop()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)


def test_the_story_of_an_account_becomes_its_rows(store: AccountStore) -> None:
    store.apply(records(story()), {})
    assert rows(store, "SELECT free, reserved FROM balances") == [(Decimal(800), Decimal(200))]
    order = "SELECT status, filled_quantity, leaves_quantity, average_price, fill_count, submitted_at, closed_at FROM orders"
    assert rows(store, f"{order} WHERE order_id = 'o1'") == [
        ("FILLED", Decimal(2), Decimal(0), Decimal("99.5"), 2, 50, 1_007)
    ]
    assert rows(store, "SELECT status, reason FROM orders WHERE order_id = 'o2'")[0][0] == "DENIED"
    assert rows(store, "SELECT quantity, cost, fees, average_price FROM positions") == [
        (Decimal(2), Decimal(199), Decimal("0.2"), Decimal("99.5"))
    ]
    assert rows(store, "SELECT count(*), sum(amount) FROM journal_entries") == [(4, Decimal(0))]
    assert rows(store, "SELECT trade_id FROM fills ORDER BY stream_version") == [("o1-1",), ("o1-2",)]
    assert rows(store, "SELECT command_id, command FROM denials ORDER BY 1") == [
        ("c9", sample(accounts.CommandDenied).command),
        ("o2", "SubmitOrder"),
    ]
    assert rows(store, "SELECT stream_version, venue FROM accounts") == [(10, "sim")]
    assert rows(store, "SELECT next_offset, records FROM log_positions") == [(10, 10)]


def test_a_denial_of_an_order_that_was_decided_before_leaves_it_as_it_was(store: AccountStore) -> None:
    """Its command came again after the desk had forgotten it, and was denied as expired."""
    store.apply(records(story()), {})
    before = rows(store, "SELECT * FROM orders ORDER BY order_id")
    denied: accounts.OrderDenied = sample(accounts.OrderDenied)
    again: list[Event] = [
        dataclasses.replace(denied, order_id=each, book_id="b", instrument_id=BTC, status=OrderStatus.DENIED)
        for each in ("o1", "o2")
    ]
    first = len(story())
    store.apply(records(again, first), {(TOPIC, 0): first})
    assert rows(store, "SELECT * FROM orders ORDER BY order_id") == before
    assert rows(store, "SELECT command_id FROM denials ORDER BY stream_version") == [("o2",), ("c9",), ("o1",), ("o2",)]


def test_one_batch_and_ten_batches_make_the_same_rows(settings: Settings, store: AccountStore) -> None:
    for offset, record in enumerate(records(story())):
        store.apply([record], {(TOPIC, 0): offset})
    other = AccountStore(settings, "_b")
    other.migrate()
    other.apply(records(story()), {})
    assert account_checksums(store) == account_checksums(other)
    other.connection.execute(f"DROP SCHEMA {other.schema} CASCADE".encode())
    other.close()


def test_rows_are_equal_whether_they_are_copied_or_go_as_statements(settings: Settings, store: AccountStore) -> None:
    applied = [dataclasses.replace(sample(accounts.ControlApplied), control_offset=offset) for offset in (3, 4)]
    made = [*records([*story(), *applied]), *control_records()]
    copying = AccountStore(settings, "_b")
    copying.migrate()
    copying.writer = RowWriter(copying.connection, copy_from=1)
    for record in made:
        at = record.at
        for each in (store, copying):
            each.apply([record], {(at.topic, at.partition): at.offset})
    assert account_checksums(store) == account_checksums(copying)
    assert {each.table: each.rows for each in account_checksums(copying)}["controls_applied"] == 1
    copying.connection.execute(f"DROP SCHEMA {copying.schema} CASCADE".encode())
    copying.close()


def test_a_repeated_batch_is_refused_and_changes_nothing(store: AccountStore) -> None:
    store.apply(records(story()), {})
    before = account_checksums(store)
    with pytest.raises(PositionMoved, match="no longer at 0"):
        store.apply(records(story()), {})
    assert account_checksums(store) == before


def test_a_batch_that_fails_in_its_last_statement_leaves_nothing(store: AccountStore) -> None:
    twice = records(story())
    broken = dataclasses.replace(twice[5], at=TopicPosition(TOPIC, 0, 10))  # the same fill again: its key is taken
    with pytest.raises(Exception, match="duplicate key"):
        store.apply([*twice, broken], {})
    assert rows(store, "SELECT count(*) FROM accounts") == [(0,)]
    assert store.positions() == {}


def test_control_events_become_switches_limits_and_strategies(store: AccountStore) -> None:
    for offset, record in enumerate(control_records()):
        store.apply([record], {(topics.CONTROL.name, 0): offset})
    assert rows(store, "SELECT scope, active FROM kill_switches") == [("platform", True)]
    assert rows(store, "SELECT max_quantity, max_notional FROM limits") == [(Decimal(5), None)]
    assert rows(store, "SELECT status, reason, parameters->>'fast' FROM strategies") == [("STOPPED", "enough", "3")]


def test_every_account_event_type_folds(store: AccountStore) -> None:
    made = [
        Record(event=sample(event), meta=meta(offset + 1), at=TopicPosition(TOPIC, 0, offset), log_ns=0)
        for offset, event in enumerate(topics.ACCOUNT_EVENTS.events)
    ]
    small = [_with_small_amounts(record) for record in made]
    store.apply(small, {})
    assert store.positions() == {(TOPIC, 0): len(made)}


def _with_small_amounts(record: Record[Any]) -> Record[Any]:
    """Samples are as large as the wire allows; a price times a quantity of that size is no amount any more."""
    event = record.event
    amounts = {f.name: Decimal("1.5") for f in dataclasses.fields(event) if isinstance(getattr(event, f.name), Decimal)}
    return dataclasses.replace(record, event=dataclasses.replace(event, **amounts))


def test_the_running_projection_follows_the_log_and_starts_again_where_it_stood(
    settings: Settings, store: AccountStore
) -> None:
    publish(settings, outs(story()[:5]))
    with running(settings):
        eventually(lambda: rows(store, "SELECT status FROM orders") == [("ACCEPTED",)])
    publish(settings, outs(story()[5:], first=5))
    with running(settings):
        eventually(lambda: rows(store, "SELECT count(*) FROM denials") == [(2,)])
    assert rows(store, "SELECT sum(records) FROM log_positions") == [(11,)]  # and genesis


def test_the_group_does_not_wait_long_for_a_member_that_does_not_poll(
    settings: Settings, store: AccountStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert REBALANCE_MS <= 60_000
    monkeypatch.setattr(postgres, "REBALANCE_MS", 10_000)
    with a_member_that_stops_polling(settings):
        publish(settings, outs(story()[:5]))
        with running(settings):
            eventually(lambda: rows(store, "SELECT status FROM orders") == [("ACCEPTED",)])


def test_a_rebuild_has_identical_checksums_and_takes_over_under_a_running_projection(
    settings: Settings, store: AccountStore
) -> None:
    publish(settings, outs(story()[:8]))
    with running(settings):
        eventually(lambda: rows(store, "SELECT status FROM orders WHERE order_id = 'o2'") == [("DENIED",)])
        # Accounts and control are two topics, and the genesis event stands in the second.
        eventually(lambda: rows(store, "SELECT count(*) FROM log_positions") == [(2,)])
        before = account_checksums(store)
        rebuilt = rebuild_accounts_beside(settings, registered_codec(settings))
        assert account_checksums(rebuilt) == before
        rebuilt.connection.execute(b"UPDATE accounts SET label = 'from the rebuilt schema'")
        replace_accounts(settings)
        rebuilt.close()
        publish(settings, outs(story()[8:], first=8))
        eventually(lambda: rows(store, "SELECT count(*) FROM denials") == [(2,)])
    assert rows(store, "SELECT label, stream_version FROM accounts") == [("from the rebuilt schema", 10)]
