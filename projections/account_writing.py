"""Rows of the read tables into PostgreSQL: the last state of each key, in as few round trips as there can be.

Many rows go by COPY, those that change through a temporary table and one statement. A few go as statements in one pipeline,
because there every round trip is waited for. Both belong to the transaction of whoever calls.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import psycopg

from skeet.projections.account_rows import ADDED_TABLES, PRIMARY_KEYS, Row, Rows

COPY_FROM = 100
"""Rows of a batch, all tables together, from which COPY is quicker than statements in a pipeline (measured: see ADR 17)."""


class RowWriter:
    """Writes rows over one connection. Errors are psycopg's."""

    def __init__(self, connection: psycopg.Connection[Any], copy_from: int = COPY_FROM) -> None:
        self._connection = connection
        self._copy_from = copy_from
        self._columns: dict[str, tuple[str, ...]] = {}

    def write(self, rows: Rows) -> None:
        """Insert or update the rows that change, insert those that are added."""
        changed = {table: found.values() for table, found in rows.changed.items() if found}
        added = {table: found for table, found in rows.added.items() if found}
        for table in (*changed, *added):
            self._columns_of(table)  # asked before a pipeline begins
        if sum(map(len, (*changed.values(), *added.values()))) < self._copy_from:
            self._by_statements(changed, added)
        else:
            for table in PRIMARY_KEYS:
                self.merge(table, changed.get(table, ()))
            for table in ADDED_TABLES:
                self._copy(table, table, added.get(table, ()))

    def merge(self, table: str, rows: Collection[Row]) -> None:
        """Insert or update rows with different keys, through a temporary table and one statement."""
        if not rows:
            return
        temporary = f"changed_{table}"
        self._execute(f"CREATE TEMP TABLE IF NOT EXISTS {temporary} (LIKE {table}) ON COMMIT DELETE ROWS")
        self._copy(temporary, table, rows)
        self._execute(f"INSERT INTO {table} SELECT * FROM {temporary} {self._on_conflict(table)}")

    def upsert_each(self, table: str, rows: Collection[Row]) -> None:
        """Insert or update rows in their order, a statement for each; all are sent before an answer is waited for."""
        self.insert_each(table, rows, self._on_conflict(table))

    def _by_statements(self, changed: dict[str, Any], added: dict[str, list[Row]]) -> None:
        with self._connection.pipeline():
            for table, rows in changed.items():
                self.upsert_each(table, rows)
            for table, found in added.items():
                self.insert_each(table, found)

    def insert_each(self, table: str, rows: Collection[Row], on_conflict: str = "") -> None:
        """Insert rows, a statement for each; all are sent before an answer is waited for."""
        columns = self._columns_of(table)
        places = ", ".join(["%s"] * len(columns))
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) {on_conflict}"
        with self._connection.cursor() as cursor:
            cursor.executemany(statement.encode(), [[row[column] for column in columns] for row in rows])

    def _on_conflict(self, table: str) -> str:
        keys = PRIMARY_KEYS[table]
        updates = ", ".join(f"{column} = EXCLUDED.{column}" for column in self._columns_of(table) if column not in keys)
        return f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {updates}"

    def _copy(self, target: str, like: str, rows: Collection[Row]) -> None:
        if not rows:
            return
        columns = self._columns_of(like)
        statement = f"COPY {target} ({', '.join(columns)}) FROM STDIN"
        with self._connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            for row in rows:
                copy.write_row([row[column] for column in columns])

    def _columns_of(self, table: str) -> tuple[str, ...]:
        if table not in self._columns:
            found = self._execute(f"SELECT * FROM {table} LIMIT 0").description or ()
            self._columns[table] = tuple(column.name for column in found)
        return self._columns[table]

    def _execute(self, statement: str, parameters: Sequence[Any] | None = None) -> psycopg.Cursor[Any]:
        return self._connection.execute(statement.encode(), parameters)
