"""Rebuilding the account state from the topics in a schema beside the one in use, and putting it in its place.

The swap is one transaction. A running projection notices by the position check of its next batch, and goes on from the
rebuilt schema's own positions; nothing has to be stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from skeet.config import Settings
from skeet.core.record import Record
from skeet.projections.account_poison import apply_records, let_in
from skeet.projections.account_rows import ADDED_TABLES, PRIMARY_KEYS
from skeet.projections.postgres_store import (
    REBUILD_SUFFIX,
    REPLACED_SUFFIX,
    AccountStore,
    translated,
)
from skeet.schemas.codec import Codec
from skeet.streams.door import Door
from skeet.streams.kafka import consumer
from skeet.streams.reading import end_offsets, messages_until_end, partitions_of
from skeet.streams.topics import ACCOUNT_EVENTS, CONTROL

BATCH_RECORDS = 5_000
INPUTS = (ACCOUNT_EVENTS, CONTROL)
TABLES = ("log_positions", *PRIMARY_KEYS, *ADDED_TABLES)

Progress = Callable[[int, int], None]
"""Called with records done and the highest number there can be (control markers occupy offsets)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChecksum:
    """What a table holds: rows, and an order-independent hash of their text."""

    table: str
    rows: int
    content: str


def rebuild_accounts_beside(
    settings: Settings, codec: Codec, progress: Progress = lambda done, total: None
) -> AccountStore:
    """Fold the topics up to their present ends into an empty schema beside the one in use."""
    store = AccountStore(settings, REBUILD_SUFFIX)
    _drop_schema(store, store.schema)
    store.migrate()
    fold_all(settings, codec, store, progress)
    return store


def fold_all(
    settings: Settings, codec: Codec, store: AccountStore, progress: Progress = lambda done, total: None
) -> None:
    """Fold from the store's positions up to the topics' present ends."""
    total, done = _log_size(settings), 0
    positions = store.positions()
    start = {(settings.kafka.topic_prefix + topic, p): offset for (topic, p), offset in positions.items()}
    door = Door(settings.kafka, codec)
    batch: list[Record[Any]] = []
    for message in messages_until_end(settings, partitions_of(settings, INPUTS), start):
        batch.append(let_in(door, message, settings.kafka.topic_prefix))
        if len(batch) >= BATCH_RECORDS:
            apply_records(store, batch, positions)
            done += len(batch)
            batch = []
            progress(done, total)
    if batch:
        apply_records(store, batch, positions)
    progress(total, total)


def replace_accounts(settings: Settings) -> None:
    """Put the rebuilt schema in the place of the one in use, and drop that; one transaction."""
    store = AccountStore(settings)
    name, rebuilt, replaced = store.schema, store.schema + REBUILD_SUFFIX, store.schema + REPLACED_SUFFIX
    try:
        with translated(), store.connection.transaction():
            _drop_schema(store, replaced)
            if store.connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", (name,)).fetchone() == (True,):
                _rename(store, name, replaced)
            _rename(store, rebuilt, name)
            _drop_schema(store, replaced)
    finally:
        store.close()


def clear_accounts(settings: Settings) -> None:
    """Drop the schema in use; a running projection makes it again and folds from the beginning."""
    store = AccountStore(settings)
    try:
        with translated(), store.connection.transaction():
            _drop_schema(store, store.schema)
    finally:
        store.close()


def account_checksums(store: AccountStore) -> list[TableChecksum]:
    """Checksum of every table, all as of one moment.

    The checksum is the sum, over rows, of the first 64 bits of the MD5 of the row as PostgreSQL prints it: equal rows in
    any order give equal sums.
    """
    with translated(), store.connection.transaction():
        store.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return [_checksum(store, table) for table in TABLES]


def _checksum(store: AccountStore, table: str) -> TableChecksum:
    statement = (
        "SELECT count(*), coalesce(sum(('x' || substr(md5(t::text), 1, 16))::bit(64)::bigint::numeric), 0)::text "
        f"FROM {table} t"
    )
    found = store.connection.execute(statement.encode()).fetchone()
    rows, content = found or (0, "0")
    return TableChecksum(table=table, rows=rows, content=content)


def _log_size(settings: Settings) -> int:
    client = consumer(settings, "skeet-rebuild")
    try:
        return sum(end_offsets(client, partitions_of(settings, INPUTS)).values())
    finally:
        client.close()


def _drop_schema(store: AccountStore, name: str) -> None:
    with translated():
        store.connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


def _rename(store: AccountStore, name: str, new: str) -> None:
    store.connection.execute(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(new)))
