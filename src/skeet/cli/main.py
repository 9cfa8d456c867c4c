"""The ``skeet`` command: the table of its commands, loaded only when asked for.

``skeet --help`` answers from this table alone; a command's own module, with the libraries it needs, is imported when that
command is called. Errors leave as one clear line and the exit code of their kind (``docs/exit-codes.md``).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from skeet.cli.lazy import Entry, LazyGroup
from skeet.core.errors import SkeetError

PLATFORM = "The platform"
TRADING = "Trading"
LOOKING = "Looking"
OPERATING = "Operating"

COMMANDS: tuple[Entry, ...] = (
    Entry("up", "skeet.cli.platform:up", "Start everything on this machine.", PLATFORM),
    Entry("down", "skeet.cli.platform:down", "Stop everything that was started.", PLATFORM),
    Entry("status", "skeet.cli.platform:status", "What runs, where, and how it is.", PLATFORM),
    Entry("logs", "skeet.cli.platform:logs", "Log lines of the parts.", PLATFORM),
    Entry("doctor", "skeet.cli.platform:doctor", "Check this machine, with a remedy for each finding.", PLATFORM),
    Entry("reset", "skeet.cli.platform:reset", "Delete the data directory's content.", PLATFORM),
    Entry("demo", "skeet.cli.demo:demo", "Everything with two demo accounts trading.", PLATFORM),
    Entry("account", "skeet.cli.account:app", "Create accounts, deposit, show.", TRADING),
    Entry("tenant", "skeet.cli.tenant:app", "Users with processes of their own on Kafka.", TRADING),
    Entry("order", "skeet.cli.order:app", "Place, cancel and list orders.", TRADING),
    Entry("strategy", "skeet.cli.strategy:app", "List, start, stop, write and push strategies.", TRADING),
    Entry("dev", "skeet.cli.dev:dev", "Run a strategy while you write it.", TRADING),
    Entry("kill", "skeet.cli.kill:app", "The kill switch.", TRADING),
    Entry("limits", "skeet.cli.limits:app", "Risk limits.", TRADING),
    Entry("watch", "skeet.cli.watch:watch", "Live view: prices, positions, orders, lag.", LOOKING),
    Entry("tail", "skeet.cli.tail:tail", "Decoded records of a topic.", LOOKING),
    Entry("trace", "skeet.cli.trace:trace", "An order from tick to fill, with times.", LOOKING),
    Entry("sql", "skeet.cli.sql:sql", "Ask ClickHouse.", LOOKING),
    Entry("connect", "skeet.cli.connect:connect", "How to reach the stores with your own tools.", LOOKING),
    Entry("verify", "skeet.cli.verify:verify", "Prove that log, stores and venue agree.", LOOKING),
    Entry("mark", "skeet.cli.mark:mark", "Mark this place in the log.", LOOKING),
    Entry("topics", "skeet.cli.topics:app", "The table of topics against the broker.", OPERATING),
    Entry("access", "skeet.cli.access:app", "Who may read and write which topic.", OPERATING),
    Entry("config", "skeet.cli.config:app", "The settings in force.", OPERATING),
    Entry("dead-letters", "skeet.cli.dead_letters:app", "Records turned away: list, show, send again.", OPERATING),
    Entry("projection", "skeet.cli.projection:app", "Read tables: status, checksum, rebuild.", OPERATING),
    Entry("archive", "skeet.cli.archive:app", "Sealed market records, and the disk budget.", OPERATING),
    Entry("backup", "skeet.cli.backup:app", "Back up, check, restore.", OPERATING),
    Entry("feed", "skeet.cli.feed:app", "Market data: replay recorded sessions.", OPERATING),
    Entry("sim", "skeet.cli.sim:app", "The simulated exchange.", OPERATING),
    Entry("chaos", "skeet.cli.chaos:app", "Kill, freeze, mislead, and prove that nothing is lost.", OPERATING),
    Entry("bench", "skeet.cli.bench:app", "Measure this machine.", OPERATING),
    Entry("run", "skeet.cli.run:run", "Run one part in the foreground.", OPERATING),
)


class SkeetGroup(LazyGroup):
    """The root: every command of the table."""

    entries = COMMANDS


app = typer.Typer(cls=SkeetGroup, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(version("skeet"))
        except PackageNotFoundError:
            typer.echo("not installed (a source tree)")
        raise typer.Exit


@app.callback()
def root(
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Data directory (instead of SKEET_DATA).")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """SKEET: trading automation on one durable, ordered log. Begin with `skeet up`, or `skeet demo`."""
    if data is not None:
        # Settings look for the data directory before anything else, and child processes must find the same one.
        os.environ["SKEET_DATA"] = str(data.expanduser().absolute())
    if debug:
        os.environ["SKEET_DEBUG"] = "1"


def main() -> NoReturn:
    """Entry point of the ``skeet`` command; always ends the process with its exit code."""
    command = typer.main.get_command(app)
    try:
        command()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output (head, less) has seen enough; the interpreter must not complain while flushing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if os.environ.get("SKEET_DEBUG"):
            raise
        sys.exit(report(error))
    sys.exit(0)


def report(error: Exception) -> int:
    """One line on stderr for the error; returns the exit code."""
    match error:
        case SkeetError():
            typer.echo(f"skeet: {error}", err=True)
            return error.exit_code
        case _:
            line = " ".join(str(error).split())
            typer.echo(f"skeet: unexpected {type(error).__name__}: {line} (`skeet --debug …` shows where)", err=True)
            return 1
