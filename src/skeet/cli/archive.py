"""``skeet archive``: the sealed segments of market records, whether they are whole, and the disks they make room on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer

from skeet.cli.arguments import Json
from skeet.cli.output import console, print_json, print_rows
from skeet.config import Settings, load_settings
from skeet.core.errors import InfrastructureError, SkeetError
from skeet.core.retention import sized, stop_reason
from skeet.projections.archive import Keeper, locked
from skeet.projections.archive_files import Manifest, difference, manifests
from skeet.projections.archive_sealing import Archive, is_proven, stored_sums
from skeet.projections.clickhouse_store import HistoryStore
from skeet.projections.disk_use import look
from skeet.projections.history import TABLE_OF_TOPIC
from skeet.streams.registry import registered_codec

app = typer.Typer(no_args_is_help=True, help="Sealed market records, and the disk budget.")


@app.command("list")
def list_segments(as_json: Json = False) -> None:
    """Every sealed segment: its range, records, size, and what it was compared with."""
    found = manifests(load_settings().archive_dir)
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "topic": each.topic,
            "partition": each.partition,
            "first": each.first_offset,
            "next": each.next_offset,
            "records": each.records,
            "from": _time(each.first_ms),
            "to": _time(each.last_ms),
            "size": sized(each.file_bytes),
            "compared with": each.proof.value,
        }
        for each in found
    ]
    print_rows("", rows, as_json=False, empty="nothing is sealed; that begins at half of the disk budget")


@app.command()
def verify(
    files_only: Annotated[bool, typer.Option("--files-only", help="Do not ask ClickHouse.")] = False,
    as_json: Json = False,
) -> None:
    """Read every segment again and compare it with its manifest, and with ClickHouse where the topic is history.

    Exit code 1 when a segment is not what was sealed.
    """
    settings = load_settings()
    with _history(settings, wanted=not files_only) as store:
        rows = [_verified(settings, each, store) for each in manifests(settings.archive_dir)]
    if as_json:
        print_json(rows)
    else:
        wrong = [row for row in rows if row["difference"]]
        print_rows("", wrong, as_json=False, empty=f"{len(rows)} segments are what was sealed")
    if first := next((row for row in rows if row["difference"]), None):
        raise SkeetError(f"{first['difference']}; the log or a backup may still hold the range")


@app.command()
def seal(as_json: Json = False) -> None:
    """Seal now whatever market records the log holds, whether or not the budget asks for it. Deletes nothing."""
    settings = load_settings()
    made: list[Manifest] = []
    with locked(settings.archive_dir), _history(settings, wanted=True) as store:
        archive = Archive(settings)
        ranges = archive.ranges()
        while new := archive.seal(ranges, all_of_it=True):
            made += new
        if store is not None:
            archive.prove(lambda: store)
        archive.announce(Keeper(settings, registered_codec(settings), archive).announce)
        proven = sum(is_proven(each) for each in archive.segments)
    if as_json:
        print_json(made)
    else:
        records, size = sum(each.records for each in made), sum(each.file_bytes for each in made)
        console().print(
            f"sealed {records} records in {len(made)} segments, {sized(size)}; {proven} segments are proven"
        )


@app.command()
def status(as_json: Json = False) -> None:
    """How much of the disk budget is used, what is free on every disk, and whether market ingest may run."""
    use = look(load_settings(), {}, {})
    reason = stop_reason(use, stopped=False)
    if as_json:
        print_json(
            {
                "used": use.used,
                "budget": use.budget,
                "reserve": use.reserve,
                "ingest_stops": reason,
                "volumes": use.volumes,
            }
        )
        return
    print_rows("", [{"disk": v.name, "path": v.path, "free": sized(v.free)} for v in use.volumes], as_json=False)
    percent = use.used * 100 // use.budget
    console().print(
        f"{sized(use.used)} used, {percent} % of the budget of {sized(use.budget)}; " + (reason or "ingest may run")
    )


def _verified(settings: Settings, manifest: Manifest, store: HistoryStore | None) -> dict[str, object]:
    wrong = difference(settings.archive_dir, manifest)
    compared = "file"
    if not wrong and store is not None and manifest.topic in TABLE_OF_TOPIC:
        compared = "file, ClickHouse"
        held = stored_sums(store, manifest)
        if held != (manifest.records, manifest.record_crc):
            wrong = (
                f"{manifest.stem}: ClickHouse holds {held[0]} records with CRC sum {held[1]}, "
                f"sealed were {manifest.records} with {manifest.record_crc}"
            )
    return {"segment": manifest.stem, "records": manifest.records, "compared": compared, "difference": wrong}


@contextmanager
def _history(settings: Settings, *, wanted: bool) -> Iterator[HistoryStore | None]:
    """The history, if it is wanted and there."""
    if not wanted:
        yield None
        return
    try:
        store = HistoryStore(settings)
    except InfrastructureError as error:
        raise InfrastructureError(f"{error}; `--files-only` leaves ClickHouse out") from error
    try:
        yield store
    finally:
        store.close()


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
