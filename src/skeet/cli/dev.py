"""``skeet dev``: runs a strategy while it is being written, anew after every save."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from skeet.cli.output import console
from skeet.config import load_settings
from skeet.core.errors import InvalidInput

RULE = "A save that does not load leaves the last good one running; an error while it runs halts it until the next good save."
WATCHED = (".toml", ".json")


def dev(
    place: Annotated[Path, typer.Argument(metavar="DIR_OR_FILE", help="Folder with a strategy.py, or one file.")],
    account: Annotated[str, typer.Option("--account", help="Account to trade on.")],
    instrument: Annotated[str, typer.Option("--instrument", help="As in SIM:BTC/USDT.")],
    param: Annotated[list[str] | None, typer.Option("--param", metavar="K=V", help="A parameter; repeatable.")] = None,
    params: Annotated[
        str, typer.Option("--params", metavar="JSON", help="Parameters; default: parameters.json of the folder.")
    ] = "",
    instance: Annotated[str, typer.Option("--instance", help="Its name; default: dev-NAME.")] = "",
) -> None:
    """Run a strategy that is being written: started anew on every save, its orders and errors shown as they come.

    A save that does not load leaves the last good one running; an error while it runs halts it until the next good save.
    Ctrl-C stops it and cancels its open orders.
    """
    from watchfiles import PythonFilter, watch

    from skeet.cli.dev_session import DevSession
    from skeet.cli.strategy_versions import checked_name

    settings = load_settings()
    if not place.exists():
        raise InvalidInput(f"{place} does not exist; `skeet strategy new NAME` writes a strategy to begin with")
    name = checked_name((place.resolve().stem if place.is_file() else place.resolve().name).lower())
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    session = DevSession(
        settings=settings,
        place=place.resolve(),
        name=name,
        instance=instance or f"dev-{name.replace('_', '-')}",
        account=account,
        instrument=instrument,
        parameters=given_parameters(place, params, param or []),
        out=console(),
    )
    console().print(RULE, style="dim")
    with session.following(stop):
        session.saved()
        for _ in watch(
            session.folder, watch_filter=PythonFilter(extra_extensions=WATCHED), stop_event=stop, debounce=200
        ):
            session.saved()
    session.stop()


def given_parameters(place: Path, text: str, pairs: list[str]) -> str:
    """The parameters as JSON: the options', else those of ``parameters.json`` beside the strategy; ``--param`` on top."""
    from skeet.cli.strategy import parameters_of

    beside = place / "parameters.json"
    return json.dumps(parameters_of(text or (f"@{beside}" if beside.is_file() else "{}"), pairs))
