"""``skeet projection``: how far the read tables are, what they hold, and making them again from the topics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from skeet.cli.output import console, print_json, print_rows
from skeet.config import load_settings
from skeet.core.errors import SkeetError
from skeet.projections.account_rebuild import account_checksums
from skeet.projections.clickhouse_store import HistoryStore
from skeet.projections.postgres_store import AccountStore
from skeet.projections.rebuilding import Outcome, rebuild_clickhouse, rebuild_postgres
from skeet.projections.standing import standing

app = typer.Typer(no_args_is_help=True, help="Read tables: status, checksum, rebuild.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Name(StrEnum):
    """The projections."""

    POSTGRES = "postgres"
    CLICKHOUSE = "clickhouse"


OnlyOne = Annotated[Name | None, typer.Argument(help="Only this one.")]


@app.command()
def status(as_json: Json = False) -> None:
    """Positions of both projections against the ends of their topics (transaction markers at an end count as behind)."""
    rows = [
        {
            "projection": line.projection,
            "topic": line.topic,
            "partition": line.partition,
            "position": line.position,
            "end": line.end,
            "behind": line.end - line.position,
        }
        for line in standing(load_settings())
        if line.end or as_json
    ]
    print_rows("", rows, as_json=as_json, empty="the topics are empty")


@app.command()
def migrate(name: OnlyOne = None, as_json: Json = False) -> None:
    """Make databases, tables and views what this version needs. Safe to repeat; the projections do it at their start."""
    settings = load_settings()
    if name is not Name.CLICKHOUSE:
        AccountStore(settings).migrate()
    if name is not Name.POSTGRES:
        HistoryStore(settings).migrate()
    done = [store.value for store in Name if name in (None, store)]
    if as_json:
        print_json({"migrated": done})
    else:
        console().print(f"{' and '.join(done)}: at this version")


@app.command()
def checksum(name: OnlyOne = None, as_json: Json = False) -> None:
    """Rows and checksum of every table, by SQL: equal contents give equal checksums, in whatever order they came."""
    settings = load_settings()
    rows: list[dict[str, Any]] = []
    if name in (None, Name.POSTGRES):
        with _opened(AccountStore(settings)) as accounts:
            rows += [
                {"store": "postgres", "table": c.table, "rows": c.rows, "checksum": c.content}
                for c in account_checksums(accounts)
            ]
    if name in (None, Name.CLICKHOUSE):
        with _opened(HistoryStore(settings)) as history:
            rows += [
                {"store": "clickhouse", "table": c.table, "rows": c.rows, "checksum": f"{c.record_crc}/{c.content}"}
                for c in history.checksums()
            ]
    print_rows("", rows, as_json=as_json)


@app.command()
def rebuild(
    name: Annotated[Name, typer.Argument(help="Which projection.")],
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Drop the tables first; queries see them fill up again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make the read tables again from the topics: beside those in use, compared, then put in their place."""
    settings = load_settings()
    chosen: Callable[..., Outcome] = rebuild_postgres if name is Name.POSTGRES else rebuild_clickhouse
    with _progress(f"rebuilding {name}", hidden=as_json) as progress:
        outcome = chosen(settings, progress, in_place=in_place)
    if as_json:
        print_json(outcome)
    else:
        rows = [
            {
                "table": line.table,
                "rows before": line.rows_before,
                "rows rebuilt": line.rows_rebuilt,
                "checksums": "identical" if line.identical else "DIFFERENT",
            }
            for line in outcome.tables
        ]
        print_rows("", rows, as_json=False, empty="rebuilt in place: there was nothing to compare with")
        console().print(outcome.note)
    if not outcome.identical:
        raise SkeetError(f"the rebuilt {name} tables differ from those that were in use; see the table above")


@contextmanager
def _opened(store: Any) -> Iterator[Any]:
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _progress(title: str, *, hidden: bool) -> Iterator[Callable[[int, int], None]]:
    with Progress(console=Console(stderr=True), disable=hidden) as drawn:
        task = drawn.add_task(title, total=None)
        yield lambda done, total: drawn.update(task, completed=done, total=total)
