"""``rebuild`` from beginning to end, for both stores: fill beside, compare, put in place; or drop and fill in place."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaException

from skeet.config import Settings
from skeet.core.errors import InfrastructureError, InvalidInput
from skeet.projections.account_rebuild import (
    account_checksums,
    clear_accounts,
    fold_all,
    rebuild_accounts_beside,
    replace_accounts,
)
from skeet.projections.archive_files import manifests
from skeet.projections.clickhouse_store import HistoryStore, quoted
from skeet.projections.history import TABLES
from skeet.projections.history_rebuild import (
    carry_over_expired,
    comparable_checksums,
    fill,
    mark_complete,
    rebuild_beside,
    replace,
    replacement_waits,
)
from skeet.projections.postgres_store import AccountStore
from skeet.streams.kafka import admin, group_name
from skeet.streams.ranges import watermarks
from skeet.streams.reading import partitions_of
from skeet.streams.registry import registered_codec

TAKE_OVER_S = 30.0
"""A running projection puts a complete rebuild in place within this time."""
POLL_S = 0.1
GROUP_TIMEOUT_S = 10.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedTable:
    """One table before and after."""

    table: str
    rows_before: int
    rows_rebuilt: int
    identical: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a rebuild did. ``tables`` is empty when there was nothing to compare with."""

    tables: tuple[ComparedTable, ...]
    note: str

    @property
    def identical(self) -> bool:
        """Whether every compared table came out as it was."""
        return all(table.identical for table in self.tables)


def rebuild_postgres(settings: Settings, progress: Progress, *, in_place: bool) -> Outcome:
    """Rebuild the account state. Compared when the tables in use stood at the same positions."""
    codec = registered_codec(settings)
    if in_place:
        clear_accounts(settings)
        if members(settings, "projection-postgres"):
            return Outcome(tables=(), note="dropped; the running projection is folding the topics again")
        store = AccountStore(settings)
        store.migrate()
        fold_all(settings, codec, store, progress)
        return Outcome(tables=(), note="dropped and folded again in place")
    current = AccountStore(settings)
    current.migrate()
    rebuilt = rebuild_accounts_beside(settings, codec, progress)
    before, after = account_checksums(current), account_checksums(rebuilt)
    comparable = before[0] == after[0]  # the positions, which come first
    current.close()
    rebuilt.close()
    replace_accounts(settings)
    note = "the rebuilt tables are in place"
    if not comparable:
        return Outcome(tables=(), note=f"{note}; not compared: the tables in use stood at other positions")
    pairs = zip(before, after, strict=True)
    return Outcome(tables=tuple(_compared(a.table, a.rows, b.rows, a == b) for a, b in pairs), note=note)


def rebuild_clickhouse(settings: Settings, progress: Progress, *, in_place: bool) -> Outcome:
    """Rebuild the history. Compared over the records that both copies hold; records that the topics no longer hold are
    carried over from the copy in use.

    Raises
    ------
    InvalidInput
        in place while the projection runs, or beside while several run: they must be stopped first.
    """
    running = members(settings, "projection-clickhouse")
    if in_place:
        return _history_in_place(settings, progress, running)
    if running > 1:
        raise InvalidInput(f"{running} projections of ClickHouse run; stop all but one, so that one can swap")
    current = HistoryStore(settings)
    current.migrate()
    rebuilt = rebuild_beside(settings, registered_codec(settings), progress)
    carried = carry_over_expired(settings, rebuilt)
    before, after = comparable_checksums(current, rebuilt)
    mark_complete(rebuilt)
    if running:
        _await_take_over(settings, current)
    else:
        replace(settings)
    note = f"the rebuilt tables are in place{covered(settings)}"
    if carried:
        note += f"; {carried} records that the topics no longer hold were carried over"
    pairs = zip(before, after, strict=True)
    return Outcome(tables=tuple(_compared(a.table, a.rows, b.rows, a == b) for a, b in pairs), note=note)


def members(settings: Settings, group: str) -> int:
    """How many processes are in a projection's consumer group."""
    name, client = group_name(settings, group), admin(settings)
    try:
        # On a broker that has never had a group, describing one waits for a coordinator that is not there; listing does not.
        listed = client.list_consumer_groups(request_timeout=GROUP_TIMEOUT_S).result(timeout=2 * GROUP_TIMEOUT_S)
        if name not in {group.group_id for group in listed.valid}:
            return 0
        described = client.describe_consumer_groups([name], request_timeout=GROUP_TIMEOUT_S)[name]
        members: Sequence[object] = described.result(timeout=2 * GROUP_TIMEOUT_S).members
    except (KafkaException, TimeoutError) as error:
        raise InfrastructureError(f"Kafka did not say who is in the group {name}: {error!r}") from error
    return len(members)


def _history_in_place(settings: Settings, progress: Progress, running: int) -> Outcome:
    if running:
        raise InvalidInput("projection-clickhouse runs; stop it first (`skeet down`), or rebuild without --in-place")
    store = HistoryStore(settings)
    store.command_outside(f"DROP DATABASE IF EXISTS {quoted(store.database)} SYNC")
    store.migrate()
    fill(settings, registered_codec(settings), store, progress)
    return Outcome(tables=(), note=f"dropped and copied again in place{covered(settings)}")


def covered(settings: Settings) -> str:
    """Which range a rebuild covers, where the topics no longer begin at their first record."""
    partitions = partitions_of(settings, [table.topic for table in TABLES])
    starts = {partition: start for partition, (start, _) in watermarks(settings, partitions).items() if start}
    if not starts:
        return ""
    prefix = settings.kafka.topic_prefix
    ends: dict[tuple[str, int], int] = {}
    for manifest in manifests(settings.archive_dir):
        place = (prefix + manifest.topic, manifest.partition)
        if manifest.first_offset <= ends.get(place, 0):
            ends[place] = max(ends.get(place, 0), manifest.next_offset)
    missing = sorted(place for place, start in starts.items() if ends.get(place, 0) < start)
    if missing:
        names = ", ".join(f"{topic}/{partition}" for topic, partition in missing)
        return f"; what left the log before the archive begins is in neither: {names}"
    return f"; {sum(starts.values())} offsets that left the log came from the archive"


def _await_take_over(settings: Settings, store: HistoryStore) -> None:
    deadline = time.monotonic() + TAKE_OVER_S
    while replacement_waits(settings, store):
        if time.monotonic() > deadline:
            raise InfrastructureError(
                f"projection-clickhouse did not take the rebuilt database within {TAKE_OVER_S:.0f} s; "
                "it will as soon as it runs"
            )
        time.sleep(POLL_S)


def _compared(table: str, before: int, rebuilt: int, identical: bool) -> ComparedTable:
    return ComparedTable(table=table, rows_before=before, rows_rebuilt=rebuilt, identical=identical)
