"""The data dictionary, written from the comments that the stores themselves hold: ``docs/data-dictionary.md``.

``python -m skeet.projections.dictionary`` prints it for the running platform; a test compares the committed file.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from skeet.config import Settings, load_settings
from skeet.projections.clickhouse_store import HistoryStore
from skeet.projections.postgres_store import AccountStore

INTRODUCTION = """# Data dictionary

Every table and column of the read side, with unit and meaning. Both stores are copies of the log: they can be dropped and
rebuilt from it (`skeet projection rebuild postgres|clickhouse`), and nothing but a projection writes them. This file is
written from the comments in the stores (`python -m skeet.projections.dictionary`).

**Exactness.** Amounts, prices and quantities are decimals with 18 places in both stores, never floats; `signals.values`,
basis points and milliseconds are doubles and never amounts. Times of ClickHouse are UTC with nanoseconds (`log_ts`:
milliseconds); times of Postgres are nanoseconds since the epoch as integers:
`to_timestamp(decided_at / 1e9)` shows one.

**Where a row comes from.** In ClickHouse every row is one record of the log: `log_topic`, `log_partition`, `log_offset` say
which, `causation_id` and `cause_at` name the record that caused it, `correlation_id` what started it all. What was caused by
a trade names the trade's `event_id`, which `trades` and `quotes` compute when asked for.

**Count and checksum (I5).** `record_crc` is the CRC-32 (zlib) of the record's value as it stands in Kafka. Per topic
partition, `count()` and `sum(record_crc)` of the view `log_records` equal those of what a read_committed consumer is
delivered from the log's start to the stored position; a record that this version cannot read is a row of
`unreadable_records` and counts too. `skeet projection checksum` adds a hash over all columns of each table.

**Positions.** Postgres holds its own in `log_positions`, changed in the same transaction as the rows. For ClickHouse it is
the committed offset of the consumer group `projection-clickhouse`, whose metadata names the store (`projection_store`) and
the range under way; one past the largest `log_offset` of a partition says the same.

**Examples**: `docs/queries/*.sql` (OHLCV, VWAP, spread, slippage, latency per hop, profit and loss by strategy and hour).
"""


VIEW_MEANINGS = {
    "ts_open": "start of the minute (UTC)",
    "minute": "the minute (UTC)",
    "hour": "the hour (UTC)",
    "volume": "traded, base units, exact",
    "quote_volume": "sum of price x size, quote units, exact",
    "trade_count": "trades in the minute",
    "open": "first price, quote units per base unit, exact",
    "close": "last price, quote units per base unit, exact",
    "quotes": "quotes in the minute",
    "spread_min": "smallest ask - bid, quote units",
    "spread_max": "largest ask - bid, quote units (double)",
    "spread_avg": "mean ask - bid over the quotes, quote units (double)",
    "spread_avg_bps": "mean of (ask - bid) / mid, basis points (double)",
    "reference_mid": "middle of reference_bid and reference_ask, quote units per base unit (double)",
    "decided_ts": "ts_event of the decision (UTC, ns)",
    "decided_log_ts": "append time of the decision (UTC, ms)",
    "notional": "price x quantity, quote units, exact",
    "fee_quote": "the fee where it is in the quote asset, quote units; else 0",
    "slippage_bps": "distance of the price from reference_mid, basis points; positive: worse than mid (double)",
    "tick_ts": "when the frame that started it reached SKEET (UTC, ns)",
    "command_log_ts": "append time of the SubmitOrder command (UTC, ms)",
    "authorized_log_ts": "append time of OrderAuthorized (UTC, ms)",
    "attempted_log_ts": "append time of SubmitAttempted (UTC, ms); null: never attempted",
    "acknowledged_log_ts": "append time of SubmitAcknowledged (UTC, ms)",
    "first_fill_log_ts": "append time of the first OrderFilled (UTC, ms); null: never filled",
    "tick_to_command_ms": "tick_ts to command_log_ts, ms",
    "command_to_authorized_ms": "command_log_ts to authorized_log_ts, ms",
    "authorized_to_attempt_ms": "authorized_log_ts to attempted_log_ts, ms",
    "attempt_to_written_ms": "attempted_log_ts to written_ts, ms",
    "written_to_answered_ms": "written_ts to answered_ts: the venue's round trip, ms",
    "answered_to_fill_ms": "answered_ts to first_fill_log_ts, ms",
    "tick_to_written_ms": "tick_ts to written_ts: tick to order at the venue's socket, ms",
    "fills": "executions in the hour",
    "position": "position at the hour's end, base units",
    "fees": "fees of the hour taken in the quote asset, quote units",
    "equity": "cash flow after fees since the beginning plus the position at the close, quote units",
    "pnl": "change of equity in the hour, quote units",
}
"""Columns of views have no comments in the store; those that a table has by the same name mean the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A column, or a table when ``column`` is empty."""

    table: str
    column: str
    type: str
    meaning: str


def described_clickhouse(store: HistoryStore) -> list[Described]:
    """Tables and views of the history with their columns, as the store describes them."""
    found = store.rows(
        "SELECT * FROM (SELECT name, '', engine = 'View' ? 'view' : 'table', comment, toUInt64(0) AS place "
        "FROM system.tables WHERE database = currentDatabase() UNION ALL "
        "SELECT table, name, concat(type, default_kind = 'ALIAS' ? ', computed' : ''), comment, position "
        "FROM system.columns WHERE database = currentDatabase()) ORDER BY 1, place"
    )
    meanings = {column: meaning for _, column, _, meaning, _ in found if meaning}
    views = {table for table, column, kind, _, _ in found if not column and kind == "view"}
    return [
        Described(table=table, column=column, type=kind, meaning=meaning or _of_view(column, table in views, meanings))
        for table, column, kind, meaning, _ in found
    ]


def _of_view(column: str, in_view: bool, meanings: dict[str, str]) -> str:
    return VIEW_MEANINGS.get(column) or meanings.get(column, "") if in_view else ""


def described_postgres(store: AccountStore) -> list[Described]:
    """Tables of the account state with their columns, as the store describes them."""
    statement = (
        "SELECT c.relname, coalesce(a.attname, ''), coalesce(format_type(a.atttypid, a.atttypmod) || "
        "CASE WHEN a.attnotnull THEN '' ELSE ', null' END, 'table'), "
        "coalesce(CASE WHEN a.attnum IS NULL THEN obj_description(c.oid) ELSE col_description(c.oid, a.attnum) END, '') "
        "FROM pg_class c CROSS JOIN LATERAL (SELECT NULL::smallint AS attnum, NULL::name AS attname, NULL::oid AS atttypid, "
        "NULL::int AS atttypmod, NULL::bool AS attnotnull UNION ALL SELECT attnum, attname, atttypid, atttypmod, attnotnull "
        "FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) a "
        "WHERE c.relnamespace = to_regnamespace(%s) AND c.relkind IN ('r', 'v') "
        "ORDER BY c.relname, coalesce(a.attnum, 0)"
    )
    found = store.connection.execute(statement.encode(), (store.schema,)).fetchall()
    return [Described(table=row[0], column=row[1], type=row[2], meaning=row[3]) for row in found]


def rendered(history: list[Described], accounts: list[Described]) -> str:
    """The whole document."""
    sections = [
        INTRODUCTION,
        "## ClickHouse: history\n\nDatabase `skeet` (`SKEET_CLICKHOUSE__DATABASE`).\n",
        _tables(history),
        "## Postgres: account state\n\nSchema `skeet` (`SKEET_POSTGRES__SCHEMA_NAME`).\n",
        _tables(accounts),
    ]
    return "\n".join(sections).rstrip() + "\n"


def document(settings: Settings) -> str:
    """The dictionary of the stores of these settings."""
    history, accounts = HistoryStore(settings), AccountStore(settings)
    try:
        history.migrate()
        accounts.migrate()
        return rendered(described_clickhouse(history), described_postgres(accounts))
    finally:
        history.close()
        accounts.close()


def _tables(described: list[Described]) -> str:
    lines: list[str] = []
    for line in described:
        if not line.column:
            kind = " (view)" if line.type == "view" else ""
            lines += ["", f"### {line.table}{kind}", "", f"{_sentence(line.meaning)}", ""]
            lines += ["| column | type | meaning and unit |", "|---|---|---|"]
        else:
            lines.append(f"| `{line.column}` | {line.type} | {line.meaning.replace('|', '&#124;')} |")
    return "\n".join(lines[1:]) + "\n"


def _sentence(text: str) -> str:
    return (text[:1].upper() + text[1:] + ".") if text else ""


if __name__ == "__main__":
    sys.stdout.write(document(load_settings()))
