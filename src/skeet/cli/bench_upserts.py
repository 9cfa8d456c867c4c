"""The part of ``skeet bench sinks`` that measures PostgreSQL, on a server that it starts itself."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skeet.cli.bench_ratio import Comparison, interleave, rate
from skeet.config import PostgresSettings, Settings
from skeet.core.errors import BugError
from skeet.local.postgres import PostgresServer
from skeet.projections.account_rebuild import account_checksums
from skeet.projections.bench_accounts import (
    BATCH_FACTS,
    EveryStateStore,
    Follower,
    facts,
    states_of,
    upsert_each_state,
    upsert_last_states,
)
from skeet.projections.postgres_store import AccountStore

UPSERT_GOAL, UPSERT_FLOOR = 20.0, 8.0


def measured_accounts(count: int, rounds: int, floor: float | None = None) -> tuple[list[Comparison], tuple[str, ...]]:
    """Writing the states of so many facts, and folding and storing them: comparisons, and what else was seen.

    Raises
    ------
    BugError
        the tables of both sides differ.
    """
    with _schemas("each", "last", "folded_each", "folded_last") as (each, last, folded_each, folded_last):
        states = states_of(facts(0, BATCH_FACTS))
        count_states = sum(map(len, states.values()))
        written = interleave(
            lambda: rate(count_states, lambda: upsert_each_state(each, states)),
            lambda: rate(count_states, lambda: upsert_last_states(last, states)),
            rounds,
        )
        _compare(each, last)
        sides = Follower(folded_each), Follower(folded_last)
        batches = [iter([facts(r * count, count) for r in range(rounds + 1)]) for _ in sides]
        stored = interleave(
            lambda: rate(count, lambda: sides[0].apply(next(batches[0]))),
            lambda: rate(count, lambda: sides[1].apply(next(batches[1]))),
            rounds,
        )
        rows = _compare(folded_each, folded_last)
    found = [
        _comparison("account states into PostgreSQL", "states/s", written, UPSERT_GOAL, floor or UPSERT_FLOOR),
        _comparison("account facts folded and stored", "facts/s", stored),
    ]
    return found, (f"compared: {rows:,} rows of PostgreSQL on each side, every column",)


@contextmanager
def _schemas(*names: str) -> Iterator[list[Any]]:
    """Stores in schemas of their own, in one empty database; those named ``…each`` write every state."""
    # Not below a directory of mode 0700: as root, the server runs as an unprivileged user.
    with tempfile.TemporaryDirectory(prefix="skeet-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        server = PostgresServer(Path(folder) / "cluster")
        stores: list[AccountStore] = []
        try:
            dsn = server.start()
            for name in names:
                settings = Settings(postgres=PostgresSettings(dsn=dsn, schema_name=name), data=Path(folder))
                stores.append((EveryStateStore if name.endswith("each") else AccountStore)(settings))
                stores[-1].migrate()
            yield stores
        finally:
            for store in stores:
                store.close()
            server.stop()


def _compare(one: AccountStore, other: AccountStore) -> int:
    held = [account_checksums(store) for store in (one, other)]
    if held[0] != held[1]:
        raise BugError(f"executemany wrote {held[0]}, the store {held[1]}")
    return sum(each.rows for each in held[0])


def _comparison(
    what: str,
    unit: str,
    figures: tuple[tuple[float, ...], tuple[float, ...]],
    goal: float | None = None,
    floor: float | None = None,
) -> Comparison:
    return Comparison(
        what=what,
        unit=unit,
        baseline_name="executemany",
        our_name="store",
        baseline=figures[0],
        ours=figures[1],
        goal=goal,
        floor=floor,
    )
