"""The history in a real ClickHouse engine, from a real log: exact, once, whatever the bytes and whoever dies."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import TopicPartition
from dying import exit_code_of, store_history_with_a_commit_that_hangs

from skeet.config import ClickhouseSettings, Settings
from skeet.core import control, market
from skeet.core.errors import Damaged, InfrastructureError
from skeet.core.record import Event, Meta, Out
from skeet.core.values import Side
from skeet.process import StopSignal
from skeet.projections.clickhouse import session as run_session
from skeet.projections.clickhouse_store import HistoryStore
from skeet.projections.history import TABLES
from skeet.projections.history_rebuild import (
    carry_over_expired,
    comparable_checksums,
    mark_complete,
    rebuild_beside,
)
from skeet.projections.history_repair import Repair, parts_aside
from skeet.projections.history_writer import GROUP, HistorySession
from skeet.projections.sessions import run_sessions
from skeet.schemas.avro import is_lean
from skeet.schemas.golden import sample
from skeet.streams import topics
from skeet.streams.hang_guard import EXIT_CODE
from skeet.streams.kafka import consumer, group_name, producer
from skeet.streams.publishing import Publisher
from skeet.streams.registry import registered_codec
from skeet.streams.topics import TOPICS, topic_name

pytestmark = pytest.mark.integration
DEADLINE_S = 30.0
BTC = "SIM:BTC/USDT"


@pytest.fixture
def settings(applied_settings: Settings, clickhouse: tuple[str, str]) -> Iterator[Settings]:
    url, token = clickhouse
    section = ClickhouseSettings(url=url, password=token, database=f"t{uuid4().hex[:8]}")
    settings = applied_settings.model_copy(update={"clickhouse": section})
    yield settings
    store = HistoryStore(settings)
    store.command_outside(f"DROP DATABASE IF EXISTS {section.database} SYNC")
    store.close()


@contextmanager
def running(settings: Settings, before_insert: Callable[[str], None] | None = None) -> Iterator[None]:
    """The projection in a thread, drained at the end."""
    stop = StopSignal()
    codec = registered_codec(settings)

    def session() -> None:
        store = HistoryStore(settings)
        if before_insert is not None:
            intercept(store, before_insert)
        HistorySession(settings, codec, store).run(stop)

    with in_thread(stop, session):
        yield


@contextmanager
def in_thread(stop: StopSignal, session: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=lambda: run_sessions(stop, session))
    thread.start()
    try:
        yield
    finally:
        stop.stop()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def intercept(store: HistoryStore, before_insert: Callable[[str], None]) -> None:
    insert = store.insert

    def intercepted(table: str, rows: Any, token: str) -> None:
        before_insert(table)
        insert(table, rows, token)

    store.insert = intercepted  # type: ignore[method-assign]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)


def storable(event_class: type[Event]) -> Event:
    """A sample event whose scales are scales."""
    event: Any = sample(event_class)
    scales = {f.name: 2 for f in dataclasses.fields(event) if f.name in ("price_scale", "size_scale")}
    return dataclasses.replace(event, **scales)  # type: ignore[no-any-return]


def publish(settings: Settings, outs: list[Out[Any]]) -> None:
    publisher = Publisher(settings, registered_codec(settings), producer(settings, "test"))
    publisher.send(outs)
    publisher.flush()


def trades(first: int, count: int) -> list[Out[Any]]:
    made = (
        market.Trade(
            instrument_id=BTC,
            ts_event=1_723_161_253_000_000_000 + number,
            ts_init=1_723_161_253_000_000_001 + number,
            trade_id=str(number),
            price_mantissa=6_171_001 + number,
            size_mantissa=1 + number,
            price_scale=2,
            size_scale=5,
            aggressor_side=Side.BUY,
        )
        for number in range(first, first + count)
    )
    return [Out(topic=topics.MARKET_TRADES.name, key=BTC, event=trade) for trade in made]


def one_of_each() -> list[Out[Any]]:
    meta = sample(Meta)
    return [
        Out(topic=topic.name, key="k", event=storable(event), meta=None if is_lean(event) else meta)
        for topic in TOPICS
        if topic.history
        for event in topic.events
    ]


def count_of(store: HistoryStore, table: str) -> int:
    return int(store.rows(f"SELECT count() FROM {table}")[0][0])


def committed_marks(settings: Settings) -> list[TopicPartition]:
    client = consumer(settings, "look", group_id=group_name(settings, GROUP))
    name = topic_name(topics.MARKET_TRADES, settings.kafka)
    try:
        return client.committed([TopicPartition(name, partition) for partition in range(2)], timeout=10)  # type: ignore[no-any-return]
    finally:
        client.close()


def test_every_field_of_every_history_event_has_a_column() -> None:
    for table in TABLES:
        held = {field for column in table.columns for field in column.fields}
        for event in table.topic.events:
            envelope = () if is_lean(event) else tuple(f.name for f in dataclasses.fields(Meta))
            wanted = {f.name for f in dataclasses.fields(event)} | set(envelope)
            # Commands and reports are in no account's stream: their version is always 0.
            assert wanted - held <= {"stream_version"}, (table.name, event)


def test_every_event_type_arrives_with_its_values(settings: Settings) -> None:
    outs = one_of_each()
    publish(settings, outs)
    store = HistoryStore(settings)
    store.migrate()
    with running(settings):
        eventually(lambda: count_of(store, "log_records") == len(outs) + 1)  # genesis is there before
    assert count_of(store, "unreadable_records") == 0
    bid, size, crc = store.rows("SELECT bid_price, bid_size, record_crc FROM quotes")[0]
    assert (bid, size) == (Decimal("17231612530000000.01"), Decimal("17231612530000000.01"))
    assert crc > 0
    postings = store.rows("SELECT posting_amount, posting_ledger FROM account_events WHERE event_type = 'OrderFilled'")
    assert postings[0][0] == [Decimal("-12345678901234567890.123456789012345678")] * 2
    assert store.rows("SELECT toUnixTimestamp64Nano(ts_event) FROM bars") == [(1_723_161_253_000_000_001,)]


def test_ids_of_lean_records_equal_those_of_the_core(settings: Settings) -> None:
    quote: Any = storable(market.Quote)
    bar: Any = storable(market.Bar)
    outs = [
        *trades(7, 1),
        Out(topic="market.quotes.v1", key=BTC, event=quote),
        Out(topic="market.bars.v1", key=BTC, event=bar),
    ]
    publish(settings, outs)
    store = HistoryStore(settings)
    store.migrate()
    with running(settings):
        eventually(lambda: count_of(store, "log_records") == 4)
    expected: Any = outs[0].event
    assert store.rows("SELECT event_id FROM trades") == [(expected.event_id,)]
    assert store.rows("SELECT event_id FROM quotes") == [(quote.event_id,)]
    assert store.rows("SELECT event_id FROM bars") == [(bar.event_id,)]


def test_unreadable_records_are_kept_and_the_rest_goes_on(settings: Settings) -> None:
    client = producer(settings, "test")
    name = topic_name(topics.MARKET_TRADES, settings.kafka)
    client.produce(name, b"\x01not ours", key=BTC)
    client.flush()
    out_of_scale: Any = dataclasses.replace(trades(1, 1)[0].event, price_scale=19)
    publish(settings, [Out(topic=topics.MARKET_TRADES.name, key=BTC, event=out_of_scale), *trades(2, 3)])
    store = HistoryStore(settings)
    store.migrate()
    with running(settings):
        eventually(lambda: count_of(store, "trades") == 3)
    kept = store.rows("SELECT log_topic, log_offset, cause FROM unreadable_records ORDER BY log_offset")
    assert [(topic, offset) for topic, offset, _ in kept] == [
        (topics.MARKET_TRADES.name, 0),
        (topics.MARKET_TRADES.name, 1),
    ]
    assert "first byte 1" in kept[0][2]
    assert "19" in kept[1][2]


@pytest.mark.parametrize("died", ["before the insert", "after the insert"])
def test_a_process_that_died_around_an_insert_leaves_no_hole_and_no_double(settings: Settings, died: str) -> None:
    publish(settings, trades(0, 500))
    store = HistoryStore(settings)
    store.migrate()
    doomed = HistoryStore(settings)
    insert = doomed.insert

    def die(table: str, rows: Any, token: str) -> None:
        if table != "trades" or died == "after the insert":
            insert(table, rows, token)
        if table == "trades":
            raise InfrastructureError("killed here")

    doomed.insert = die  # type: ignore[method-assign]
    with pytest.raises(InfrastructureError, match="killed here"):
        HistorySession(settings, registered_codec(settings), doomed).run(StopSignal())
    assert any('"end"' in (mark.metadata or "") for mark in committed_marks(settings))
    publish(settings, trades(500, 500))
    with running(settings):
        eventually(lambda: count_of(store, "trades") >= 1_000)
    assert store.rows("SELECT count(), uniqExact(trade_id), max(log_offset) FROM trades") == [(1_000, 1_000, 999)]


def test_a_commit_that_hangs_ends_the_process_and_its_successor_stores_everything_once(settings: Settings) -> None:
    publish(settings, trades(1, 50))
    assert exit_code_of(settings, store_history_with_a_commit_that_hangs) == EXIT_CODE
    with running(settings):
        store = HistoryStore(settings)
        eventually(lambda: count_of(store, "trades") == 50)


def test_a_store_that_is_away_is_waited_for(settings: Settings) -> None:
    publish(settings, trades(0, 10))
    store = HistoryStore(settings)
    store.migrate()
    failures = iter([True, True])

    def away(_: str) -> None:
        if next(failures, False):
            raise InfrastructureError("ClickHouse is away")

    with running(settings, before_insert=away):
        eventually(lambda: count_of(store, "trades") == 10)


def test_an_emptied_store_is_filled_again_from_the_beginning(settings: Settings) -> None:
    publish(settings, trades(0, 100))
    store = HistoryStore(settings)
    store.migrate()
    with running(settings):
        eventually(lambda: count_of(store, "trades") == 100)
    checksums = store.checksums()
    store.command_outside(f"DROP DATABASE {store.database} SYNC")
    store.migrate()
    with running(settings):
        eventually(lambda: count_of(store, "trades") == 100)
    eventually(lambda: store.checksums() == checksums)


def test_a_rebuilt_database_takes_over_under_a_running_projection(settings: Settings) -> None:
    publish(settings, [*trades(0, 300), *one_of_each()])
    store = HistoryStore(settings)
    before = store.migrate()
    with running(settings):
        eventually(lambda: count_of(store, "trades") == 301)
        rebuilt = rebuild_beside(settings, registered_codec(settings))
        assert carry_over_expired(settings, rebuilt) == 0
        current, beside = comparable_checksums(store, rebuilt)
        assert current == beside
        mark_complete(rebuilt)
        eventually(lambda: store.exists() and store_id_of(store) not in ("", before))
        publish(settings, trades(300, 50))
        eventually(lambda: count_of(store, "trades") == 351)
    assert store.rows("SELECT uniqExact(log_offset, log_partition) FROM trades") == [(351,)]


def test_a_part_that_the_engine_lost_is_put_aside_and_the_history_made_again(settings: Settings) -> None:
    publish(settings, trades(0, 300))
    store = HistoryStore(settings)
    before = store.migrate()
    with repairing(settings):
        eventually(lambda: count_of(store, "trades") == 300)
    ends = store.next_offsets()
    checksums = store.checksums(ends)
    empty_files_of(store, "trades")
    with pytest.raises(Damaged):
        store.next_offsets()

    publish(settings, trades(300, 50))
    with repairing(settings):
        eventually(lambda: store.exists() and store_id_of(store) not in ("", before))
        eventually(lambda: count_of(store, "trades") == 350)
    assert parts_aside(store) == []
    assert store.checksums(ends) == checksums
    assert store.rows("SELECT uniqExact(log_offset, log_partition) FROM trades") == [(350,)]


@contextmanager
def repairing(settings: Settings) -> Iterator[None]:
    """The role's sessions in a thread, drained at the end."""
    stop, codec = StopSignal(), registered_codec(settings)
    repair = Repair(settings, codec, stop)
    with in_thread(stop, lambda: run_session(settings, codec, repair, stop)):
        yield


def empty_files_of(store: HistoryStore, table: str) -> None:
    """What a full disk leaves of a part that was merged at that moment."""
    store.command(f"OPTIMIZE TABLE {table} FINAL")
    (folder,) = store.rows(
        f"SELECT path FROM system.parts WHERE active AND table = '{table}' AND database = currentDatabase()"
    )
    for file in Path(folder[0]).iterdir():
        file.write_bytes(b"")
    for cache in ("MARK", "UNCOMPRESSED", "PRIMARY INDEX"):
        store.command_outside(f"SYSTEM CLEAR {cache} CACHE")


def store_id_of(store: HistoryStore) -> str:
    try:
        return store.store_id()
    except InfrastructureError:
        return ""


def test_control_events_arrive(settings: Settings) -> None:
    mark = control.SessionMark(label="here")
    publish(settings, [Out(topic=topics.CONTROL.name, key="platform", event=mark, meta=sample(Meta))])
    store = HistoryStore(settings)
    store.migrate()
    with running(settings):
        eventually(lambda: count_of(store, "control_events") == 2)
    assert store.rows("SELECT label, active FROM control_events WHERE event_type = 'SessionMark'") == [("here", None)]
