"""The embedded ClickHouse engine: several connections side by side, so that a heavy query never holds an insert.

One process owns a directory. A connection costs half a millisecond and is a session of its own (database, settings), so
each request gets a fresh one. Everything here blocks; the server calls it from threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import psutil

from skeet.core.errors import Damaged, InfrastructureError
from skeet.local.clickhouse_protocol import (
    HEADLESS_FORMATS,
    Statement,
    code_of,
    from_file,
    identifier,
    literal,
    set_statement,
)

MEMORY_SHARE = 0.5
"""Of the machine's memory one query may take; without a limit one careless query ends the whole engine."""


class EngineError(Exception):
    """The engine refused a statement; ``code`` is ClickHouse's error code, the text its message."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = code_of(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a finished statement read and wrote."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    elapsed_ns: int = 0


class Engine:
    """An open ClickHouse directory. ``close()`` writes everything out; kill -9 loses nothing that was answered."""

    def __init__(self, folder: Path) -> None:
        try:
            from chdb import _chdb
        except ImportError as error:
            raise InfrastructureError("the ClickHouse engine is not installed; `pip install skeet[local]`") from error
        folder.mkdir(parents=True, exist_ok=True)
        self._connect: Callable[[str], Any] = _chdb.connect  # type: ignore[attr-defined]
        self._folder = str(folder)
        # Held open: closing the last connection would close the directory.
        try:
            self._base: Any = self._connect(self._folder)
        except RuntimeError as error:
            # The engine prints its own reason; what it raises names none.
            raise Damaged(
                f"the ClickHouse engine cannot open {folder} (its reason stands above); its tables are rebuilt from the "
                "log and the archive: move the directory away and `skeet up` again"
            ) from error
        self._limits = {"max_memory_usage": str(int(psutil.virtual_memory().total * MEMORY_SHARE))}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the directory. Idempotent."""
        with self._lock:
            if self._base is not None:
                self._base.close()
                self._base = None

    def session(self) -> Session:
        """A new session; close it."""
        return Session(self._connect(self._folder), self._limits)

    def kill(self, query_id: str) -> None:
        """Cancel the running statements of a client's query id, without waiting for them."""
        session = self.session()
        try:
            condition = f"Settings['log_comment'] = {literal(query_id)}"
            session.run(Statement(sql=f"KILL QUERY WHERE {condition} ASYNC".encode(), format="TabSeparated"))
        finally:
            session.close()


class Session:
    """One connection: its current database and settings last until it is closed. One statement at a time."""

    def __init__(self, connection: Any, limits: dict[str, str]) -> None:
        self._connection = connection
        self._limits = limits

    def run(self, statement: Statement) -> tuple[bytes, Counts]:
        """Run a statement to its end; its answer and counts. EngineError when the engine refuses it."""
        try:
            self._prepare(statement)
            if statement.block is None:
                result = self._connection.query(statement.sql.decode(), statement.format)
                return result.bytes(), _counts(result)
            return b"", self._insert(statement)
        except (RuntimeError, UnicodeDecodeError) as error:
            raise EngineError(str(error)) from error

    def stream(self, statement: Statement) -> Iterator[bytes]:
        """The answer to a SELECT block by block; closing the iterator early cancels the query."""
        try:
            self._prepare(statement)
            stream = self._connection.send_query(statement.sql.decode(), statement.format)
            yield from self._blocks(stream, statement)
        except (RuntimeError, UnicodeDecodeError) as error:
            raise EngineError(str(error)) from error

    def reset(self, statement: Statement) -> None:
        """Take a request's settings back: a deduplication token left behind would swallow the next insert."""
        settings = [f"{name}=DEFAULT" for name in statement.settings if not name.startswith("param_")]
        try:
            if settings:
                self._connection.query(f"SET {', '.join(settings)}")
            if statement.database:
                self._connection.query("USE default")
        except RuntimeError:
            return  # a setting that the engine had refused in the first place

    def close(self) -> None:
        """End the session."""
        self._connection.close()

    def _blocks(self, stream: Any, statement: Statement) -> Iterator[bytes]:
        empty, finished = True, False
        try:
            while True:
                result = self._connection.streaming_fetch_result(stream)
                if result is None or result.rows_read() == 0:
                    finished = True
                    break
                empty = False
                yield result.bytes()
        finally:
            if not finished:
                self._connection.streaming_cancel_query(stream)
        if empty and statement.format not in HEADLESS_FORMATS:
            # A stream without rows ends without its header, too; asked as a whole it has one.
            yield self._connection.query(statement.sql.decode(), statement.format).bytes()

    def _prepare(self, statement: Statement) -> None:
        if statement.database:
            self._connection.query(f"USE {identifier(statement.database)}")
        self._connection.query(set_statement({**self._limits, **statement.settings}))

    def _insert(self, statement: Statement) -> Counts:
        """Insert the rows beside a statement.

        As a file for the query to read: the engine's own interface for pushed rows reports an insert as done that
        found its disk full at the end (chdb 4.4), a query tells.
        """
        with _as_file(statement.block or b"") as path:
            sql = from_file(statement.sql, path, statement.format)
            return _counts(self._connection.query(sql.decode(), "TabSeparated"))


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """The path of a file that holds this; in memory, and of no other process, where the system can do that."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("insert"), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with NamedTemporaryFile() as named:
            named.write(content)
            named.flush()
            yield named.name


def _counts(result: Any) -> Counts:
    return Counts(
        read_rows=result.storage_rows_read(),
        read_bytes=result.storage_bytes_read(),
        written_rows=result.rows_written(),
        written_bytes=result.bytes_written(),
        elapsed_ns=int(result.elapsed() * 1e9),
    )
