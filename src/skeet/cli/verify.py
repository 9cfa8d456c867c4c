"""``skeet verify``: prove from outside that log, stores and venue agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from skeet.cli.arguments import Json
from skeet.cli.output import console, print_json, table
from skeet.config import Settings, load_settings
from skeet.core.errors import InfrastructureError
from skeet.verify.findings import CannotVerify, Check, Report
from skeet.verify.run import verify as run_checks


def verify(
    as_json: Json = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="A check that could not be judged fails too (exit 2).")
    ] = False,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Also fold all accounts from zero (F), decide every recorded cause again (D), look for an "
            "answer to everything the desk read (A), run strategies again along their journals (S), and make bars again "
            "from their trades (B).",
        ),
    ] = False,
) -> None:
    """Compare log, Postgres, ClickHouse and the simulated exchange's own journal.

    Exit code 0: all agree. 1: a difference, the first one named on stderr. 2: something that had to be compared is
    empty, so nothing was proven.
    """
    settings = load_settings()
    hashes: dict[str, str] = {}
    try:
        if as_json:
            report = run_checks(settings)
            report, hashes = _deeper(settings, report) if deep else (report, {})
        else:
            with Progress(
                SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), transient=True
            ) as bar:
                task = bar.add_task("reading the log")
                report = run_checks(settings, lambda n: bar.update(task, description=f"reading the log: {n:,} records"))
                if deep:
                    report, hashes = _deeper(
                        settings, report, lambda n: bar.update(task, description=f"deciding again: {n:,} records")
                    )
    except CannotVerify as error:
        raise InfrastructureError(str(error)) from error
    _print(report, hashes, as_json=as_json)
    code = report.exit_code or (2 if strict and any(check.not_judged for check in report.checks) else 0)
    if report.first_difference:
        typer.echo(f"skeet: {report.first_difference}", err=True)
    elif code:
        kinds = [f"{c.name} {kind}" for c in report.checks for kind in c.empty] or [
            c.name for c in report.checks if c.not_judged
        ]
        typer.echo(f"skeet: nothing was proven about {', '.join(kinds)}", err=True)
    raise typer.Exit(code)


def _deeper(
    settings: Settings, report: Report, progress: Callable[[int], None] = lambda _: None
) -> tuple[Report, dict[str, str]]:
    """The report with the deep checks behind its own, and the hash of what each of them made."""
    from skeet.parity.run import verify_deep

    found = verify_deep(settings, progress)
    both = Report(
        checks=report.checks + found.report.checks,
        records=report.records + found.report.records,
        duration_s=report.duration_s + found.report.duration_s,
    )
    return both, found.hashes


def _print(report: Report, hashes: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "exit_code": report.exit_code,
                "first_difference": report.first_difference,
                "records": report.records,
                "duration_s": round(report.duration_s, 3),
                "checks": [_row(check) for check in report.checks],
                "hashes": hashes,
            }
        )
        return
    out = console()
    rows = [
        (c.name, c.title, _verdict(c), _compared(c), c.not_judged or c.covers, f"{c.duration_s:.1f} s")
        for c in report.checks
    ]
    out.print(table("", ("", "check", "result", "compared", "covers", "time"), rows))
    for check in report.checks:
        for difference in check.differences:
            out.print(Text(f"{check.name} {difference}", style="red"))
        if check.difference_count > len(check.differences):
            out.print(f"{check.name} … and {check.difference_count - len(check.differences)} more")
    for name, value in hashes.items():
        out.print(f"{name} {value}", highlight=False)
    out.print(f"{report.records:,} records in {report.duration_s:.1f} s", highlight=False)


def _row(check: Check) -> dict[str, object]:
    return {
        "name": check.name,
        "title": check.title,
        "result": _verdict(check),
        "compared": check.compared,
        "covers": check.covers,
        "not_judged": check.not_judged,
        "differences": check.difference_count,
        "named": check.differences,
        "duration_s": round(check.duration_s, 3),
    }


def _verdict(check: Check) -> str:
    if check.differences:
        return f"{check.difference_count} differ"
    if check.not_judged:
        return "not judged"
    return "empty" if check.empty else "agree"


def _compared(check: Check) -> str:
    return ", ".join(f"{number:,} {kind}" for kind, number in check.compared.items() if number)
