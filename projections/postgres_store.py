"""Account state in PostgreSQL: migrations, and batches of records applied together with the position they lead to.

A batch is one transaction: check and move the positions, load the rows it touches, fold, write. The check compares the
stored positions with those the batch begins at, so two instances can never both apply it and a repetition changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from skeet.config import Settings
from skeet.connections.postgres import postgres_options, postgres_refusals
from skeet.core.errors import InfrastructureError, SkeetError
from skeet.core.record import Record
from skeet.projections.account_rows import PRIMARY_KEYS, Key, Row, Rows, fold, keys_of
from skeet.projections.account_writing import RowWriter
from skeet.projections.migrations import migrations_of, pending
from skeet.streams.crash_points import POSTGRES_BEFORE_COMMIT, reach

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_MS = 60_000
LOCK_TIMEOUT_MS = 15_000
MIGRATION_LOCK = 7_338_170_302
"""Advisory lock (any fixed number): two processes that start together migrate one after the other."""
REBUILD_SUFFIX = "_rebuild"
REPLACED_SUFFIX = "_replaced"

Positions = dict[tuple[str, int], int]
"""Next offset per topic (without prefix) and partition."""


class PositionMoved(InfrastructureError):
    """Another instance, or a rebuild, moved the stored position: read it again and begin there."""


class RefusedRecords(SkeetError):
    """A row that these records make is none that the tables take: nothing of the batch is stored."""


class AccountStore:
    """One schema of one database, over one connection. Not thread-safe; methods may raise InfrastructureError."""

    rows_class: type[Rows] = Rows
    writer_class: type[RowWriter] = RowWriter

    def __init__(self, settings: Settings, suffix: str = "") -> None:
        address = postgres_options(settings.postgres)
        self.schema = settings.postgres.schema_name + suffix
        with translated(), postgres_refusals():
            self.connection = psycopg.connect(
                **address,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name="skeet-projection",
                options=f"-c search_path={self.schema},pg_temp -c statement_timeout={STATEMENT_TIMEOUT_MS} "
                # Rows and position are one transaction: a crash that loses the last of them loses both, and the log
                # has them. So no commit needs to wait for the disk.
                f"-c lock_timeout={LOCK_TIMEOUT_MS} -c synchronous_commit=off -c timezone=UTC",
            )
        self.writer = self.writer_class(self.connection)

    def close(self) -> None:
        """Let the connection go."""
        self.connection.close()

    def migrate(self) -> None:
        """Make the schema what this version needs; idempotent, safe when several start together."""
        with translated(), self.connection.transaction():
            self._execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
            self.connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self.schema)))
            self._execute(
                "CREATE TABLE IF NOT EXISTS schema_migrations "
                "(version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL)"
            )
            for column, meaning in {"version": "number", "name": "name", "checksum": "SHA-256"}.items():
                self._execute(f"COMMENT ON COLUMN schema_migrations.{column} IS '{meaning} of the file'")
            self._execute("COMMENT ON TABLE schema_migrations IS 'numbered files applied to this schema'")
            applied: dict[int, str] = dict(
                self.connection.execute("SELECT version, checksum FROM schema_migrations").fetchall()
            )
            for migration in pending(migrations_of("postgres"), applied):
                for statement in migration.statements:
                    self._execute(statement)
                self._execute(
                    "INSERT INTO schema_migrations VALUES (%s, %s, %s)",
                    (migration.version, migration.name, migration.checksum),
                )

    def positions(self) -> Positions:
        """Where to begin; a partition that is missing begins at 0."""
        with translated():
            rows = self.connection.execute("SELECT topic, partition, next_offset FROM log_positions").fetchall()
            return {(topic, partition): offset for topic, partition, offset in rows}

    def apply(self, records: Sequence[Record[Any]], begin: Mapping[tuple[str, int], int]) -> None:
        """Fold records (in order within each partition) into the tables, and move the positions past them.

        Raises
        ------
        PositionMoved
            a stored position is not the one in ``begin``: nothing was changed.
        RefusedRecords
            a record makes a row that a table refuses: nothing was changed.
        """
        try:
            self._apply(records, begin)
        except (psycopg.DataError, psycopg.IntegrityError, ArithmeticError, ValueError, KeyError, TypeError) as error:
            raise RefusedRecords(f"{type(error).__name__}: {' '.join(str(error).split())[:500]}") from error

    def _apply(self, records: Sequence[Record[Any]], begin: Mapping[tuple[str, int], int]) -> None:
        with translated(), self.connection.transaction():
            self._move_positions(records, begin)
            rows = self.rows_class()
            for table, keys in keys_of(records).items():
                for row in self._load(table, keys):
                    rows.put(table, row)
            for record in records:
                fold(rows, record)
            self.writer.write(rows)
            reach(POSTGRES_BEFORE_COMMIT)

    def _move_positions(self, records: Sequence[Record[Any]], begin: Mapping[tuple[str, int], int]) -> None:
        ends: Positions = {}
        counts: dict[tuple[str, int], int] = {}
        for record in records:
            at = (record.at.topic, record.at.partition)
            ends[at] = record.at.offset + 1
            counts[at] = counts.get(at, 0) + 1
        for (topic, partition), end in sorted(ends.items()):
            expected = begin.get((topic, partition), 0)
            if expected == 0:
                self._execute(
                    "INSERT INTO log_positions VALUES (%s, %s, 0, 0) ON CONFLICT DO NOTHING", (topic, partition)
                )
            moved = self._execute(
                "UPDATE log_positions SET next_offset = %s, records = records + %s "
                "WHERE topic = %s AND partition = %s AND next_offset = %s",
                (end, counts[topic, partition], topic, partition, expected),
            )
            if moved.rowcount != 1:
                raise PositionMoved(f"{topic}/{partition} is no longer at {expected}; another instance moved it")

    def _load(self, table: str, keys: Iterable[Key]) -> Iterator[Row]:
        wanted = list(keys)
        if not wanted:
            return
        columns = PRIMARY_KEYS[table]
        condition = sql.SQL("({}) IN (SELECT * FROM unnest({}))").format(
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ").join(sql.SQL("%s::text[]") for _ in columns),
        )
        query = sql.SQL("SELECT * FROM {} WHERE {}").format(sql.Identifier(table), condition)
        with self.connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(query, [[key[index] for key in wanted] for index in range(len(columns))])
            yield from (_as_folded(row) for row in cursor)

    def _execute(self, statement: str, parameters: Sequence[Any] | None = None) -> psycopg.Cursor[Any]:
        return self.connection.execute(statement.encode(), parameters)


def _as_folded(row: Row) -> Row:
    """A loaded row as the fold makes them: jsonb columns back to text."""
    if "parameters" in row and row["parameters"] is not None:
        return row | {"parameters": json.dumps(row["parameters"])}
    return row


@contextmanager
def translated() -> Iterator[None]:
    """PostgreSQL's errors as ours, once, at this door. What says that a value is at fault is not its, and passes."""
    try:
        yield
    except (psycopg.DataError, psycopg.IntegrityError):
        raise
    except psycopg.Error as error:
        raise InfrastructureError(f"PostgreSQL: {' '.join(str(error).split())[:500]}") from error
