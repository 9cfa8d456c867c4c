"""What analysts stand on: the example queries, the views, and a data dictionary that is complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest

from skeet.config import ClickhouseSettings, PostgresSettings, Settings
from skeet.projections.bench_sql import INSTRUMENT, discard, example_queries, measure, prepare
from skeet.projections.clickhouse_store import HistoryStore
from skeet.projections.dictionary import described_clickhouse, described_postgres, rendered
from skeet.projections.postgres_store import AccountStore

pytestmark = pytest.mark.integration
TRADES = 1_000_000
DICTIONARY = Path(__file__).parents[2] / "docs" / "data-dictionary.md"


@pytest.fixture(scope="module")
def settings(clickhouse: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    url, token = clickhouse
    section = {"url": url, "password": token, "database": f"t{uuid4().hex[:8]}"}
    return Settings(clickhouse=ClickhouseSettings.model_validate(section), data=tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def synthetic(settings: Settings) -> Iterator[HistoryStore]:
    store = prepare(settings, TRADES)
    yield store
    discard(store)
    store.close()


def test_every_example_query_answers_on_a_million_trades(synthetic: HistoryStore) -> None:
    timings = {timing.query: timing for timing in measure(synthetic, runs=1)}
    assert set(timings) == {"ohlcv", "vwap", "spread", "slippage", "latency", "pnl"}
    assert all(timing.rows > 0 for timing in timings.values())


def test_bars_of_a_day_hold_every_trade_once(synthetic: HistoryStore) -> None:
    bars, trades, volume = synthetic.rows("SELECT count(), sum(trade_count), sum(volume) FROM ohlcv_1m")[0]
    assert (bars, trades) == (2 * 24 * 60, TRADES)
    assert synthetic.rows("SELECT sum(size) FROM trades") == [(volume,)]


def test_latency_names_every_hop_with_what_it_took(synthetic: HistoryStore) -> None:
    rows = synthetic.rows(example_queries()["latency"], {"instrument": INSTRUMENT})
    medians = {hop.split(" ", 1)[1] if hop[0].isdigit() else hop: p50 for hop, _, p50, _ in rows}
    assert medians == {
        "tick to command": pytest.approx(2, abs=1),
        "command to authorized": pytest.approx(2, abs=1),
        "authorized to attempt": pytest.approx(2, abs=1),
        "attempt to socket": pytest.approx(1, abs=1),
        "socket to answer": pytest.approx(2),
        "answer to fill": pytest.approx(3, abs=1),
        "tick to socket": pytest.approx(7),
    }


def test_slippage_is_positive_when_worse_than_mid(synthetic: HistoryStore) -> None:
    rows = synthetic.rows(
        "SELECT side, min(slippage_bps) > 0, max(slippage_bps) < 0 FROM fills GROUP BY side ORDER BY side"
    )
    # Fills of the bench are two cents above the mid price at the decision.
    assert rows == [("BUY", 1, 0), ("SELL", 0, 1)]


def test_hourly_profit_adds_up_to_cash_and_the_open_position(synthetic: HistoryStore) -> None:
    total = synthetic.rows("SELECT sum(pnl) FROM pnl_hourly")[0][0]
    last = synthetic.rows(
        "SELECT sum(e) FROM (SELECT argMax(equity, hour) AS e FROM pnl_hourly GROUP BY account_id, book_id, instrument_id)"
    )[0][0]
    cash = synthetic.rows("SELECT sum(if(side = 'BUY', -notional, notional)) - sum(fee_quote) FROM fills")[0][0]
    held = synthetic.rows(
        "SELECT sum(toDecimal256(p, 18) * c) FROM (SELECT argMax(position, hour) AS p, argMax(close, hour) AS c "
        "FROM pnl_hourly GROUP BY account_id, book_id, instrument_id)"
    )[0][0]
    assert total == last
    assert abs(Decimal(last) - (Decimal(cash) + Decimal(held))) < Decimal("1e-15")


def test_the_data_dictionary_is_complete_and_true(settings: Settings, postgres_dsn: str) -> None:
    section = PostgresSettings.model_validate({"dsn": postgres_dsn, "schema_name": f"t{uuid4().hex[:8]}"})
    history, accounts = HistoryStore(settings), AccountStore(settings.model_copy(update={"postgres": section}))
    try:
        history.migrate()
        accounts.migrate()
        described = described_clickhouse(history), described_postgres(accounts)
    finally:
        history.command_outside(f"DROP DATABASE {history.database} SYNC")
        accounts.connection.execute(f"DROP SCHEMA {accounts.schema} CASCADE".encode())
        history.close()
        accounts.close()
    assert [(line.table, line.column) for line in (*described[0], *described[1]) if not line.meaning] == []
    document = rendered(*described)
    if os.environ.get("SKEET_WRITE_DOCS"):
        DICTIONARY.write_text(document)
    assert DICTIONARY.read_text() == document, "run this test with SKEET_WRITE_DOCS=1 and commit the file"
