"""Rows of the read tables into PostgreSQL: the last state of each key, in as few round trips as there can be.

A table's many rows go by COPY, those that change into the place of what stood there. A few go as statements in one pipeline,
because there every round trip is waited for. Both belong to the transaction of whoever calls.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import itemgetter
from typing import Any

import psycopg

from skeet.projections.account_rows import PRIMARY_KEYS, Row, Rows

COPY_FROM = 100
"""Rows of a table from which COPY is quicker than statements in a pipeline (measured: see ADR 17)."""


class RowWriter:
    """Writes rows over one connection. Errors are psycopg's."""

    def __init__(self, connection: psycopg.Connection[Any], copy_from: int = COPY_FROM) -> None:
        self._connection = connection
        self._copy_from = copy_from
        self._columns: dict[str, dict[str, str]] = {}

    def write(self, rows: Rows) -> None:
        """Insert or update the rows that change, insert those that are added."""
        changed: dict[str, Collection[Row]] = {table: found.values() for table, found in rows.changed.items() if found}
        added: dict[str, Collection[Row]] = {table: found for table, found in rows.added.items() if found}
        for table in (*changed, *added):
            self._columns_of(table)  # asked before a pipeline begins
        copied = {table: found for table, found in (changed | added).items() if len(found) >= self._copy_from}
        with self._connection.pipeline():
            for table, found in changed.items():
                if table in copied:
                    self._remove(table, found)
                else:
                    self.upsert_each(table, found)
            for table, found in added.items():
                if table not in copied:
                    self.insert_each(table, found)
        for table, found in copied.items():
            self._copy(table, found)

    def upsert_each(self, table: str, rows: Collection[Row]) -> None:
        """Insert or update rows in their order, a statement for each; all are sent before an answer is waited for."""
        self.insert_each(table, rows, self._on_conflict(table))

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

    def _remove(self, table: str, rows: Collection[Row]) -> None:
        """What stands under the keys of these rows goes."""
        keys = PRIMARY_KEYS[table]
        arrays = [f"%s::{self._columns_of(table)[key]}[]" for key in keys]
        found = (
            f"({', '.join(keys)}) IN (SELECT * FROM unnest({', '.join(arrays)}))"
            if len(keys) > 1
            else f"{keys[0]} = ANY ({arrays[0]})"
        )
        self._execute(f"DELETE FROM {table} WHERE {found}", [[row[key] for row in rows] for key in keys])

    def _copy(self, table: str, rows: Collection[Row]) -> None:
        columns = self._columns_of(table)
        values = itemgetter(*columns)
        statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
        with self._connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            for row in rows:
                copy.write_row(values(row))

    def _columns_of(self, table: str) -> dict[str, str]:
        """Names of the columns in their order, and their types."""
        if table not in self._columns:
            found = self._execute(f"SELECT * FROM {table} LIMIT 0").description or ()
            self._columns[table] = {column.name: column.type_display for column in found}
        return self._columns[table]

    def _execute(self, statement: str, parameters: Sequence[Any] | None = None) -> psycopg.Cursor[Any]:
        return self._connection.execute(statement.encode(), parameters)
