"""``skeet backup``: the whole installation into a folder, the folder checked, and back into an empty installation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from skeet.backup.layout import Manifest, read_manifest
from skeet.cli.arguments import Json
from skeet.cli.output import console, print_json, time_text
from skeet.config import Settings, load_settings

app = typer.Typer(no_args_is_help=True, help="Back up topics, positions and registry; check; restore.")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the backup.")]


@app.command()
def create(folder: Folder, as_json: Json = False) -> None:
    """Back up every topic, consumers' positions, the registry and the simulated exchange into a new folder.

    Works while the platform runs, at a moment when no account trades (it looks for one); Postgres and ClickHouse are left
    out, they are rebuilt from the log. The folder appears once it is whole.
    """
    from skeet.backup import creating

    with _bar(quiet=as_json) as report:
        manifest = creating.create(
            load_settings(), folder.absolute(), lambda done, total: report("backing up", done, total)
        )
    _say(folder, "backed up", manifest, as_json=as_json)


@app.command()
def verify(folder: Folder, as_json: Json = False) -> None:
    """Read a backup again, whole, against its checksums; exit code 1 names the first bad segment."""
    from skeet.backup import checking

    with _bar(quiet=as_json) as report:
        manifest = checking.check(folder.absolute(), lambda done, total: report("checking", done, total))
    _say(folder, "is whole", manifest, as_json=as_json)


@app.command()
def restore(folder: Folder, as_json: Json = False) -> None:
    """Write a backup into an empty installation: every record at its old offset; then start it with `skeet up`.

    Refuses a damaged backup, a target that is not empty, and other partition counts. Without an address of Kafka in the
    settings, the broker of the data directory is started for it and stopped again.
    """
    from skeet.backup import restoring

    settings = load_settings()
    restoring.refuse_other_installation(settings, read_manifest(folder.absolute()))
    with _bar(quiet=as_json) as report, _brokers(settings) as target:
        manifest = restoring.restore(target, folder.absolute(), report)
    _say(folder, f"restored into {settings.data}", manifest, as_json=as_json)


@contextmanager
def _brokers(settings: Settings) -> Iterator[Settings]:
    """Settings with brokers behind them: the given ones, or those of a fresh data directory, started for as long."""
    from skeet.core.errors import InvalidInput
    from skeet.local.installation import Installation, external_parts, write_endpoints
    from skeet.local.kafka import KafkaBroker
    from skeet.local.kafka_security import is_secured

    installation = Installation(settings.data.absolute())
    external = external_parts(settings, installation)
    if "kafka" in external:
        yield settings
        return
    home = installation.data / "kafka"
    if (home / "logs").exists():
        raise InvalidInput(f"{home} holds a broker already: restore into an empty data directory (--data DIR)")
    if is_secured(installation, settings):
        raise InvalidInput(
            f"{installation.data} asks for a secured Kafka, and a restore starts a plain one: start the secured brokers first and"
            " name them (SKEET_KAFKA__BOOTSTRAP, with the operator's credentials)"
        )
    installation.create()
    ports = write_endpoints(installation, external, None)
    broker = KafkaBroker(home, port=ports["kafka"], controller_port=ports["kafka-controller"])
    broker.start()
    try:
        yield load_settings()
    finally:
        broker.stop()


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr; none for machines."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield report


def _say(folder: Path, what: str, manifest: Manifest, *, as_json: bool) -> None:
    facts = {
        "folder": str(folder.absolute()),
        "taken": time_text(manifest.created_ns),
        "topics": len(manifest.topics),
        "records": manifest.records,
        "positions": len(manifest.positions),
        "files": len(manifest.files),
        "bytes": manifest.size_bytes,
    }
    if as_json:
        print_json(facts)
        return
    console().print(
        f"{folder} {what}: {manifest.records} records of {len(manifest.topics)} topics, {len(manifest.positions)} positions,"
        f" {len(manifest.files)} files, {manifest.size_bytes / 1e6:.1f} MB, taken {facts['taken']}",
        highlight=False,
    )
