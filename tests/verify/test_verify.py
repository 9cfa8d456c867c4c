"""`verify` on real stores: clean when all agree, and it names what was altered, wherever it was altered."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import psycopg
import pytest

from skeet.config import Settings
from skeet.core.accounts import FundsDeposited
from skeet.core.record import Out
from skeet.streams import topics
from skeet.verify import venue
from skeet.verify.findings import CannotVerify, Report
from skeet.verify.journal import FILE
from skeet.verify.run import verify
from tests.verify.conftest import (
    ALICE,
    CLIENT_ID,
    command,
    eventually,
    instrument,
    journal,
    meta,
    others,
    projecting,
    publish,
    story,
    write_journal,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def session(settings: Settings) -> Settings:
    """The story, projected to its end."""
    events = [
        Out(topic=topics.ACCOUNT_EVENTS.name, key=ALICE, event=event, meta=meta(version))
        for version, event in enumerate(story(), start=1)
    ]
    publish(settings, [instrument(), command(), command(quantity=1), *others(), *events])
    write_journal(settings.data / FILE, journal())
    with projecting(settings):
        eventually(lambda: _everything_compared(settings))
    return settings


def _everything_compared(settings: Settings) -> bool:
    try:
        report = verify(settings)
    except CannotVerify:
        return False
    by_name = {check.name: check for check in report.checks}
    return (
        by_name["I5"].compared["records"] == report.records
        and by_name["I4"].compared.get("journal_entries", 0) == 10
        and by_name["I4"].compared.get("strategies", 0) > 0
    )


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venue, "TRY_AGAIN_S", 0.0)


def named(report: Report, check: str) -> str:
    """The differences of one check; every other check must have none."""
    assert [c.name for c in report.checks if c.differences] == [check]
    assert report.exit_code == 1
    return "\n".join(next(c.differences for c in report.checks if c.name == check))


@contextmanager
def altered_postgres(settings: Settings, there: str, back: str) -> Iterator[None]:
    options = f"-c search_path={settings.postgres.schema_name}"
    with psycopg.connect(settings.postgres.dsn.get_secret_value(), autocommit=True, options=options) as connection:
        assert connection.execute(there.encode()).rowcount == 1
        try:
            yield
        finally:
            connection.execute(back.encode())


def clickhouse(settings: Settings, statement: str) -> None:
    house = settings.clickhouse
    login = base64.b64encode(f"{house.user}:{house.password.get_secret_value()}".encode()).decode()
    address = f"{house.url}/?{urlencode({'database': house.database, 'mutations_sync': '2'})}"
    urlopen(Request(address, statement.encode(), {"Authorization": f"Basic {login}"}), timeout=30).read()


def test_untouched_session_is_clean_and_every_set_was_compared(session: Settings) -> None:
    report = verify(session)
    assert report.first_difference == ""
    assert report.exit_code == 0
    assert {check.name: check.not_judged for check in report.checks} == dict.fromkeys(
        ("I1", "I2", "I3", "I4", "I5", "I7"), ""
    )


@pytest.mark.parametrize(
    ("there", "back", "names"),
    [
        (
            "UPDATE balances SET free = free + 0.000000000000000001 WHERE asset = 'BTC'",
            "UPDATE balances SET free = free - 0.000000000000000001 WHERE asset = 'BTC'",
            "balances row alice BTC, column free",
        ),
        (
            "UPDATE fills SET price = price + 1",
            "UPDATE fills SET price = price - 1",
            "fills row alice 6, column price",
        ),
        (
            f"UPDATE orders SET accepted_at = accepted_at + 1 WHERE order_id = '{CLIENT_ID}'",
            f"UPDATE orders SET accepted_at = accepted_at - 1 WHERE order_id = '{CLIENT_ID}'",
            f"orders row {CLIENT_ID}, column accepted_at",
        ),
        (
            "UPDATE positions SET realized_pnl = realized_pnl + 1",
            "UPDATE positions SET realized_pnl = realized_pnl - 1",
            "positions row alice manual SIM:BTC/USDT, column paid",
        ),
        (
            "UPDATE journal_entries SET line = 9 WHERE stream_version = 2 AND line = 1",
            "UPDATE journal_entries SET line = 1 WHERE stream_version = 2 AND line = 9",
            "journal_entries row alice 2 9",
        ),
    ],
    ids=["balance", "fill", "order", "position", "journal"],
)
def test_altered_postgres_row_is_named(session: Settings, there: str, back: str, names: str) -> None:
    with altered_postgres(session, there, back):
        assert names in named(verify(session), "I4")


@pytest.mark.parametrize(
    ("table", "column", "changed", "where"),
    [
        ("trades", "price", "price + 1", "1"),
        ("book_updates", "bid_sizes", "arrayPushBack(bid_sizes, 1)", "event_type = 'BookDelta'"),
        ("account_events", "posting_amount", "arrayReverse(posting_amount)", "event_type = 'FundsDeposited'"),
        ("signals", "values", "map('x', 0.25)", "1"),
        ("venue_reports", "written_ts", "NULL", "event_type = 'SubmitAcknowledged'"),
        ("commands", "record_crc", "record_crc + 1", "event_type = 'Deposit'"),
    ],
)
def test_altered_clickhouse_column_is_named(
    session: Settings, table: str, column: str, changed: str, where: str
) -> None:
    clickhouse(session, f"CREATE OR REPLACE TABLE kept AS {table}")
    clickhouse(session, f"INSERT INTO kept SELECT * FROM {table}")
    try:
        clickhouse(session, f"ALTER TABLE {table} UPDATE `{column}` = {changed} WHERE {where}")
        found = named(verify(session), "I5")
        assert f"in table {table}" in found if column == "record_crc" else f"{column} is " in found
    finally:
        clickhouse(session, f"TRUNCATE TABLE {table}")
        clickhouse(session, f"INSERT INTO {table} SETTINGS insert_deduplicate = 0 SELECT * FROM kept")


def test_missing_clickhouse_row_is_named(session: Settings) -> None:
    clickhouse(session, "CREATE OR REPLACE TABLE kept AS quotes")
    clickhouse(session, "INSERT INTO kept SELECT * FROM quotes")
    try:
        clickhouse(session, "TRUNCATE TABLE quotes")
        assert "quotes row of market.quotes.v1/" in named(verify(session), "I5")
    finally:
        clickhouse(session, "INSERT INTO quotes SETTINGS insert_deduplicate = 0 SELECT * FROM kept")


def test_altered_line_of_the_exchange_is_named(session: Settings) -> None:
    path = session.data / FILE
    before = path.read_bytes()
    path.write_bytes(before.replace(b'"price": "100.00000000"', b'"price": "100.00000001"'))
    try:
        found = named(verify(session), "I2")
        assert "accounts.jsonl line 3: its checksum does not match" in found
        assert f"order {CLIENT_ID}, price: stored '100.00000001'" in found
    finally:
        path.write_bytes(before)


def test_second_order_of_one_command_at_the_exchange_is_named(session: Settings) -> None:
    lines = journal()
    write_journal(session.data / FILE, [*lines, lines[2] | {"order_id": 8}])
    try:
        assert "the exchange accepted 2 orders (journal lines 3, 5)" in named(verify(session), "I2")
    finally:
        write_journal(session.data / FILE, lines)


def test_an_order_that_nobody_authorised_is_named(session: Settings) -> None:
    lines = journal()
    write_journal(session.data / FILE, [*lines, lines[2] | {"order_id": 8, "client_order_id": "f" * 32}])
    try:
        (executed,) = (check for check in verify(session).checks if check.name == "I2")
        assert executed.differences == [f"journal line 5, order {'f' * 32}: nobody in the log authorised it"]
    finally:
        write_journal(session.data / FILE, lines)


def test_fill_that_the_log_missed_is_named_once_quiet(session: Settings) -> None:
    lines = journal()
    write_journal(session.data / FILE, [*lines, lines[3] | {"trade_id": 42}])
    try:
        found = named(verify(session), "I7")
        assert f"fill BTCUSDT trade 42 of order {CLIENT_ID} (alice) is missing in the log" in found
        assert "balance of BTC of alice: stored '2', the log says '1'" in found
    finally:
        write_journal(session.data / FILE, lines)


def test_hole_in_a_stream_and_one_sided_postings_are_named(session: Settings) -> None:
    """Last of this module: the log keeps what is written here."""
    event = next(event for event in story() if isinstance(event, FundsDeposited))
    crooked = dataclasses.replace(event, postings=event.postings[1:])
    publish(session, [Out(topic=topics.ACCOUNT_EVENTS.name, key=ALICE, event=crooked, meta=meta(9))])
    found = {check.name: check.differences for check in verify(session).checks}
    assert "account alice has version 9 where 7 is due (a hole)" in found["I1"][0]
    assert "postings of USDT sum to 1000" in found["I3"][0]
