"""ClickHouse through its stock client: databases, migrations, inserts under a token, positions, checksums.

The same calls against the embedded engine and a real server. Names of databases come from settings and are quoted.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError

from skeet.config import Settings
from skeet.connections.clickhouse import clickhouse_options, is_near, raise_clickhouse_refusal
from skeet.core.errors import Damaged, InfrastructureError
from skeet.projections.history import TABLES, UNREADABLE
from skeet.projections.migrations import migrations_of, pending, statements_of

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 120
"""A statement that takes longer is given up; a repeated insert carries the same token."""
DAMAGE_CODES = frozenset({33, 40, 107, 226, 228, 246, 271})
"""ClickHouse's errors of a part that is not what was written: cannot read all data, checksum does not match, file does not
exist, no file or a bad size of one in a part, corrupted data, cannot decompress."""
REBUILD_SUFFIX = "_rebuild"
REPLACED_SUFFIX = "_replaced"

HISTORY_TABLES = (*(table.name for table in TABLES), UNREADABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChecksum:
    """What a table holds: rows, the sum of record CRCs, and an order-independent hash over all columns."""

    table: str
    rows: int
    record_crc: int
    content: str


class HistoryStore:
    """One database of ClickHouse. Not thread-safe; every method may raise InfrastructureError."""

    def __init__(self, settings: Settings, suffix: str = "") -> None:
        address = clickhouse_options(settings.clickhouse)
        self.database = settings.clickhouse.database + suffix
        with translated(settings.clickhouse.url):
            self._client: Any = clickhouse_connect.get_client(
                **address,
                database="default",
                connect_timeout=CONNECT_TIMEOUT_S,
                send_receive_timeout=STATEMENT_TIMEOUT_S,
                autogenerate_session_id=False,
                query_limit=0,
                compress=not is_near(settings.clickhouse),
            )
        self._url = settings.clickhouse.url

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Rows of a query in this database."""
        with translated(self._url):
            result = self._client.query(sql, parameters=parameters, settings=self._in_database())
            return [tuple(row) for row in result.result_rows]

    def command(self, sql: str) -> None:
        """A statement without a result."""
        with translated(self._url):
            self._client.command(sql, settings=self._in_database())

    def rows_outside(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Rows of a query that needs no database of ours."""
        with translated(self._url):
            return [tuple(row) for row in self._client.query(sql, parameters=parameters).result_rows]

    def command_outside(self, sql: str) -> None:
        """A statement about databases."""
        with translated(self._url):
            self._client.command(sql)

    def exists(self) -> bool:
        """Whether the database is there."""
        sql = "SELECT count() FROM system.databases WHERE name = {name:String}"
        return bool(self.rows_outside(sql, {"name": self.database})[0][0])

    def migrate(self) -> str:
        """Make database, tables and views what this version needs; idempotent. Returns the identity of the store."""
        self.command_outside(f"CREATE DATABASE IF NOT EXISTS {quoted(self.database)}")
        self.command(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version UInt32 COMMENT 'number of the file', "
            "name String COMMENT 'name of the file', checksum String COMMENT 'SHA-256 of the file', "
            "applied_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when it was applied (UTC)') "
            "ENGINE = MergeTree ORDER BY version COMMENT 'numbered files applied to this database'"
        )
        applied = {row[0]: row[1] for row in self.rows("SELECT version, checksum FROM schema_migrations")}
        for migration in pending(migrations_of("clickhouse"), applied):
            for statement in migration.statements:
                # A start that died half-way through a file finds its tables and goes on.
                self.command(statement.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ", 1))
            self.insert_rows(
                "schema_migrations",
                [[migration.version, migration.name, migration.checksum]],
                ["version", "name", "checksum"],
            )
        for statement in statements_of("clickhouse", "views.sql"):
            self.command(statement)
        return self.store_id()

    def store_id(self) -> str:
        """The identity of this copy of the history; made once, with the database."""
        found = self.rows("SELECT argMin(store_id, (created_at, store_id)) FROM projection_store HAVING count() > 0")
        if found:
            return str(found[0][0])
        self.command(f"INSERT INTO projection_store (store_id) VALUES ('{uuid.uuid4().hex}')")
        return self.store_id()

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert one block; under a token that the table has had already, nothing happens."""
        with translated(self._url):
            self._client.insert_arrow(
                table,
                rows,
                database=self.database,
                settings={"insert_deduplication_token": token, "insert_deduplicate": 1, "async_insert": 0},
            )

    def insert_rows(self, table: str, rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> None:
        """Insert rows of Python values, without a token: slow, for measurements and single rows."""
        with translated(self._url):
            self._client.insert(table, rows, column_names=columns, database=self.database)

    def next_offsets(self) -> dict[tuple[str, int], int]:
        """Per topic (without prefix) and partition: one past the last record held. Blocks are whole, so nothing is
        missing below it."""
        found = self.rows("SELECT log_topic, log_partition, max(log_offset) + 1 FROM log_records GROUP BY 1, 2")
        return {(topic, partition): end for topic, partition, end in found}

    def checksums(self, before: Mapping[tuple[str, int], int] | None = None) -> list[TableChecksum]:
        """Checksum of every history table, of the records below the given offsets (default: of all)."""
        condition = _below(before)
        found = []
        for table in HISTORY_TABLES:
            sql = f"SELECT count(), sum(record_crc), hex(sum(cityHash64(*))) FROM {table} {condition}"
            rows, crc, content = self.rows(sql)[0]
            found.append(TableChecksum(table=table, rows=rows, record_crc=crc, content=content))
        return found

    def copy_below(self, table: str, database: str, before: Mapping[tuple[str, int], int]) -> None:
        """Copy the rows of another database's table that stand below the given offsets."""
        self.command(f"INSERT INTO {table} SELECT * FROM {quoted(database)}.{table} {_below(before)}")

    def _in_database(self) -> dict[str, str]:
        return {"database": self.database}


def _below(before: Mapping[tuple[str, int], int] | None) -> str:
    if before is None:
        return ""
    limits = ", ".join(f"('{topic}', {partition}, {end})" for (topic, partition), end in sorted(before.items()))
    names = f"arrayMap(x -> (x.1, x.2), [{limits}])"
    ends = f"arrayMap(x -> x.3, [{limits}])"
    if not limits:
        return "WHERE false"
    return f"WHERE log_offset < transform((log_topic, log_partition), {names}, {ends}, 0)"


def quoted(name: str) -> str:
    """An identifier in backticks."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


@contextmanager
def translated(where: str) -> Iterator[None]:
    """ClickHouse's and the network's errors as ours, once, at this door."""
    try:
        yield
    except ClickHouseError as error:
        raise_clickhouse_refusal(error)
        kind = Damaged if getattr(error, "code", None) in DAMAGE_CODES else InfrastructureError
        raise kind(f"ClickHouse {where}: {' '.join(str(error).split())[:500]}") from error
    except OSError as error:
        raise_clickhouse_refusal(error)
        raise InfrastructureError(f"ClickHouse {where}: {error}") from error
