"""``skeet kill``: stop orders from leaving. Works with Kafka away: the gateway's latch file is set first."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from skeet.agents import kill_latch
from skeet.cli import control
from skeet.cli.arguments import Json
from skeet.cli.output import console, print_rows, time_text
from skeet.config import Settings, load_settings
from skeet.core.control import KillSwitchSet
from skeet.core.errors import InfrastructureError

app = typer.Typer(no_args_is_help=True, help="The kill switch.")

Scope = Annotated[str, typer.Option("--scope", help="platform, tenant:ID or account:ID.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]


@app.command()
def on(
    scope: Scope = control.PLATFORM,
    reason: Reason = "",
    cancel_open: Annotated[bool, typer.Option("--cancel-open", help="Cancel the open orders too.")] = False,
) -> None:
    """Stop all new orders of the scope: at the gateway at once, at the desk as soon as the log says so."""
    settings, name = load_settings(), control.scope(scope)
    entry = kill_latch.LatchEntry(scope=name, reason=reason, cancel_open=cancel_open, set_ns=time.time_ns())
    kill_latch.set_latch(kill_latch.latch_path(settings), entry)
    console().print(f"the gateway sends no more orders of {name}", highlight=False)
    control.post(settings, KillSwitchSet(scope=name, active=True, cancel_open=cancel_open, reason=reason), name)
    console().print("every partition of the desk denies new orders", highlight=False)


@app.command()
def off(scope: Scope = control.PLATFORM, reason: Reason = "") -> None:
    """Let orders leave again: the desk first, then the gateway."""
    settings, name = load_settings(), control.scope(scope)
    control.post(settings, KillSwitchSet(scope=name, active=False, cancel_open=False, reason=reason), name)
    kill_latch.release_latch(kill_latch.latch_path(settings), name)
    console().print(f"orders of {name} may leave again", highlight=False)


@app.command()
def status(as_json: Json = False) -> None:
    """Which scopes are stopped, at the gateway (latch) and at the desk (log)."""
    settings = load_settings()
    latched = {entry.scope: entry for entry in kill_latch.read_latch(kill_latch.latch_path(settings))}
    logged, unreachable = _from_log(settings)
    rows: list[dict[str, Any]] = [
        {
            "scope": name,
            "gateway": "stopped" if name in latched else "open",
            "desk": _desk_word(logged.get(name), unreachable),
            "reason": (latched[name] if name in latched else logged[name][0]).reason,
            "since": time_text(latched[name].set_ns if name in latched else logged[name][1]),
        }
        for name in sorted(latched | logged)
    ]
    print_rows("", rows, as_json=as_json, empty="no kill switch was ever set")
    if unreachable:
        typer.echo(f"skeet: the log cannot be read ({unreachable}); shown is the gateway's latch alone", err=True)


def _from_log(settings: Settings) -> tuple[dict[str, tuple[KillSwitchSet, int]], str]:
    """The newest switch of each scope with its time, and why the log could not be read (empty: it could)."""
    try:
        records = list(control.control_records(settings))
    except InfrastructureError as error:
        return {}, str(error)
    return {r.event.scope: (r.event, r.log_ns) for r in records if isinstance(r.event, KillSwitchSet)}, ""


def _desk_word(found: tuple[KillSwitchSet, int] | None, unreachable: str) -> str:
    if unreachable:
        return "unknown"
    return "stopped" if found is not None and found[0].active else "open"
