"""``skeet chaos``: kill, freeze and mislead the parts of a running platform, and prove that nothing is lost or doubled."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from skeet.cli.arguments import Json
from skeet.cli.output import print_json, print_rows
from skeet.config import load_settings
from skeet.core.errors import InvalidInput
from skeet.streams.crash_points import CATALOGUE, Action, Arming, chaos_directory, point_named

if TYPE_CHECKING:
    from skeet.cli.chaos_report import ChaosReport, FaultResult
    from skeet.cli.chaos_schedule import Fault

app = typer.Typer(
    no_args_is_help=True, help="Faults on purpose: crash points, kills, pauses, and the proof after them."
)

SNAPSHOT_EVERY = "200"
"""Events between two snapshots of a platform that is started for a run: a crash in a snapshot needs snapshots."""


@app.command()
def points(as_json: Json = False) -> None:
    """Every crash point: its name, its role, and what is done and not done there."""
    rows = [{"point": point.name, "role": point.role, "where": point.meaning} for point in CATALOGUE]
    print_rows("", rows, as_json=as_json)


@app.command()
def arm(
    name: Annotated[str, typer.Argument(metavar="POINT", help="As `skeet chaos points` lists it.")],
    nth: Annotated[int, typer.Option("--nth", min=1, help="The passage that fires.")] = 1,
    freeze: Annotated[bool, typer.Option("--freeze", help="SIGSTOP instead of SIGKILL.")] = False,
) -> None:
    """Arm a crash point on a platform that runs with SKEET_CHAOS__ENABLED=1; it fires once."""
    arming = Arming(nth=nth, action=Action.STOP if freeze else Action.KILL)
    chaos_directory(load_settings()).arm(point_named(name), arming)
    typer.echo(f"armed {name}: passage {nth}, {arming.action}")


@app.command()
def run(
    seed: Annotated[int, typer.Option("--seed", help="Equal seeds make equal schedules.")] = 1,
    minutes: Annotated[float, typer.Option("--minutes", min=0.5, help="How long faults are made.")] = 15.0,
    faults: Annotated[
        str, typer.Option("--faults", help="Kinds, separated by commas: kill, pause, point, exchange, everything.")
    ] = "kill,pause,point,exchange,everything",
    only_plan: Annotated[bool, typer.Option("--plan", help="Print the schedule and do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Make faults on the demo (started if nothing runs), wait for each recovery, then quiesce and verify.

    Client order ids may repeat at the exchange meanwhile, so that an order sent twice would show in its journal.
    Exit code 0 only when every fault was recovered from, `verify` agrees and no order was doubled.
    """
    from skeet.cli.chaos_schedule import parse_kinds, schedule

    planned = schedule(seed, minutes, parse_kinds(faults))
    told = Console(stderr=True, highlight=False, soft_wrap=True)
    if only_plan:
        print_rows("", [_plan_row(fault) for fault in planned], as_json=as_json)
        return
    told.print(f"seed {seed}, {minutes:g} minutes, {len(planned)} faults:")
    for fault in planned:
        told.print(f"  from {fault.at_s:6.1f} s  {fault.text}", style="dim")
    _start()
    report = _run(told, seed, minutes, planned)
    if as_json:
        print_json(report)
    else:
        report.show()
    if not report.clean:
        raise typer.Exit(1)


def _start() -> None:
    """The demo, with crash points; one that runs already is taken as it is.

    Raises
    ------
    InvalidInput
        it runs without crash points.
    """
    from skeet.cli import demo
    from skeet.cli.chaos_platform import ChaosPlatform

    os.environ["SKEET_CHAOS__ENABLED"] = "1"
    os.environ.setdefault("SKEET_DESK__SNAPSHOT_EVERY", SNAPSHOT_EVERY)
    os.environ.setdefault("SKEET_SIM__DUPLICATE_CLIENT_IDS", "none")
    platform = ChaosPlatform(load_settings())
    supervisor = platform.state.supervisor
    if supervisor is not None and supervisor.alive and not platform.has_crash_points:
        raise InvalidInput(
            "the platform runs without crash points: `skeet down` first, or start it with SKEET_CHAOS__ENABLED=1"
        )
    with redirect_stdout(sys.stderr):  # what is said on the way is not the report
        demo.demo(for_s=None, watching=False)


def _run(told: Console, seed: int, minutes: float, planned: Sequence[Fault]) -> ChaosReport:
    from skeet.cli.chaos_run import ChaosRun

    def tell(result: FaultResult, traded: int) -> None:
        again = "not recovered" if result.recovery_s is None else f"trades again after {result.recovery_s:5.1f} s"
        whole = "" if result.whole_s is None else f", whole after {result.whole_s:5.1f} s"
        said = result.note or again + whole
        told.print(f"{result.at_s:6.1f} s  {result.what:<48} {said}; {traded} orders traded")

    with redirect_stdout(sys.stderr):
        return ChaosRun(load_settings(), seed, minutes, tell).run(planned)


def _plan_row(fault: Fault) -> dict[str, object]:
    return {"at_s": fault.at_s, "kind": str(fault.kind), "target": fault.target, "amount": fault.amount}
