"""``skeet limits``: what an order may be at most. The tightest of platform, tenant and account wins."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import typer

from skeet.cli import arguments, control
from skeet.cli.arguments import Json
from skeet.cli.output import console, print_rows
from skeet.config import load_settings
from skeet.core.control import LimitsSet
from skeet.core.errors import InvalidInput

app = typer.Typer(no_args_is_help=True, help="Risk limits.")

NONE = "none"


@app.command()
def show(as_json: Json = False) -> None:
    """The limits in force: the defaults, and those set for a scope."""
    settings = load_settings()
    defaults = {
        "scope": "default",
        "version": 0,
        "max_quantity": Decimal(settings.risk.max_quantity),
        "max_notional": Decimal(settings.risk.max_notional),
    }
    rows = [defaults, *(_row(limits) for limits in current(settings).values())]
    print_rows("", rows, as_json=as_json)


@app.command("set")
def set_limits(
    scope: Annotated[str, typer.Option("--scope", help="platform, tenant:ID or account:ID.")] = control.PLATFORM,
    max_quantity: Annotated[
        str | None, typer.Option("--max-quantity", help="Largest order in base units; none: no limit here.")
    ] = None,
    max_notional: Annotated[
        str | None, typer.Option("--max-notional", help="Largest order value in quote units; none: no limit here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Set limits of a scope; what is not named stays as it is. Confirmed once every partition of the desk acts on it."""
    if max_quantity is None and max_notional is None:
        raise InvalidInput("nothing to set: give --max-quantity, --max-notional or both")
    name = control.scope(scope)
    for field, text in (("--max-quantity", max_quantity), ("--max-notional", max_notional)):
        _limit(field, text, None)  # what was typed is judged before anybody is asked
    settings = load_settings()
    before = current(settings).get(name)
    event = LimitsSet(
        scope=name,
        version=before.version + 1 if before else 1,
        max_quantity=_limit("--max-quantity", max_quantity, before.max_quantity if before else None),
        max_notional=_limit("--max-notional", max_notional, before.max_notional if before else None),
    )
    control.post(settings, event, name)
    print_rows("", [_row(event)], as_json=as_json)
    if not as_json:
        console().print("in force in every partition of the desk")


def current(settings: Any) -> dict[str, LimitsSet]:
    """The newest limits of each scope that has some."""
    records = control.control_records(settings)
    return {record.event.scope: record.event for record in records if isinstance(record.event, LimitsSet)}


def _limit(field: str, text: str | None, before: Decimal | None) -> Decimal | None:
    if text is None:
        return before
    return None if text == NONE else arguments.amount(field, text)


def _row(limits: LimitsSet) -> dict[str, Any]:
    return {
        "scope": limits.scope,
        "version": limits.version,
        "max_quantity": limits.max_quantity,
        "max_notional": limits.max_notional,
    }
