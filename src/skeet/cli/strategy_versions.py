"""``skeet strategy push | versions | rollback``: numbered, hashed sources, and the way back in one command."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skeet.cli.output import print_rows, time_text
from skeet.config import Settings, load_settings
from skeet.core.control import StrategyPushed
from skeet.core.errors import InvalidInput
from skeet.core.record import Out, Record

if TYPE_CHECKING:
    from skeet.agents.strategy_artefacts import Artefact

NAME = re.compile(r"[a-z][a-z0-9_-]{0,47}")
LATEST = "latest"
PUSH_ATTEMPTS = 5
"""Others may push at the same moment; each attempt takes the next free number."""

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name it was pushed under.")]


def push(
    place: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with a strategy.py, or one Python file.")],
    name: Annotated[str, typer.Option("--name", help="Instead of the folder's or file's name.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Store sources as the next version of a strategy; equal sources are the version they were before."""
    from skeet.agents.strategy_artefacts import pack

    settings = load_settings()
    chosen, artefact = checked_name(name or place.resolve().stem), pack(place)
    known = versions_of(settings, chosen)
    number = next((n for n, record in known.items() if record.event.artefact == artefact.hash), 0)
    new = not number
    if new:
        number = _store(settings, chosen, artefact)
    if as_json:
        typer.echo(json.dumps({"strategy": chosen, "version": number, "artefact": artefact.hash, "new": new}))
        return
    typer.echo(f"{chosen} version {number}{'' if new else ' (pushed before)'}: {artefact.hash}")
    typer.echo(
        f"run it:   skeet strategy start INSTANCE --strategy {chosen} --version {number} --account … --instrument …"
    )


def versions(
    name: Name,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """Every version of a strategy, with its hash and the instances that run it."""
    from skeet.cli.strategy import instance_rows

    settings = load_settings()
    instances = instance_rows(settings, ask_groups=False)
    rows: list[dict[str, Any]] = [
        {
            "version": number,
            "artefact": record.event.artefact,
            "pushed": time_text(record.log_ns),
            "files": record.event.files,
            "size": record.event.size,
            "instances": " ".join(
                row["instance"]
                for row in instances
                if base_name(row["strategy"]) == name and row["version"] == number and row["state"] == "started"
            ),
        }
        for number, record in versions_of(settings, name).items()
    ]
    if not as_json:
        rows = [row | {"artefact": row["artefact"][:12]} for row in rows]
    print_rows("", rows, as_json=as_json, empty=f"No version of {name}: `skeet strategy push DIR` stores one")


def rollback(
    name: Name,
    to: Annotated[str, typer.Option("--to", metavar="N", help="This version instead of the one before.")] = "",
) -> None:
    """Start the version before on every instance of a strategy, halted ones too; their parameters are kept."""
    from skeet.cli.strategy import instance_rows, post, started_event

    settings = load_settings()
    rows = [
        row
        for row in instance_rows(settings, ask_groups=False)
        if base_name(row["strategy"]) == name and row["version"] and row["state"] != "stopped"
    ]
    if not rows:
        raise InvalidInput(f"no instance runs a pushed version of {name!r}; `skeet strategy list` shows what runs")
    known = versions_of(settings, name)
    # Everything is checked before anything is started: a parameter that the old version refuses changes nothing.
    planned: list[tuple[dict[str, Any], Any]] = []
    for row in rows:
        chosen = pushed(settings, name, to or str(version_before(known, row["version"], name)))
        parameters = json.dumps(row["parameters"])
        started = started_event(
            settings, row["instance"], row["strategy"], row["instrument"], parameters, row["on_halt"], chosen
        )
        planned.append((row, started))
    for row, started in planned:
        post(settings, started, row["instance"], row["account"])
        typer.echo(f"{row['instance']}: {name} version {row['version']} -> {started.version}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedVersion:
    """Sources with the number they were pushed under; 0 for those that were stored without one."""

    number: int
    artefact: Artefact


def pushed(settings: Settings, name: str, version: str) -> PushedVersion:
    """Number and sources of a version: a number, or ``latest``.

    Raises
    ------
    InvalidInput
        there is no such version; the message lists those there are.
    """
    from skeet.agents.strategy_artefacts import fetch
    from skeet.streams.registry import registered_codec

    known = versions_of(settings, name)
    number = max(known, default=0) if version == LATEST else int(version) if version.isdigit() else 0
    if number not in known:
        listed = ", ".join(map(str, known)) or "none; `skeet strategy push DIR` stores one"
        raise InvalidInput(f"version is {version!r}; {name} has {listed}")
    artefact = fetch(settings, registered_codec(settings), known[number].event.artefact)
    return PushedVersion(number=number, artefact=artefact)


def versions_of(settings: Settings, name: str) -> dict[int, Record[StrategyPushed]]:
    """All versions of a strategy by number, read from the log."""
    from skeet.agents.strategy_artefacts import known_versions
    from skeet.streams.reading import records_until_end
    from skeet.streams.registry import registered_codec
    from skeet.streams.topics import CONTROL

    return known_versions(records_until_end(settings, registered_codec(settings), [CONTROL]), name)


def version_before(known: dict[int, Any], current: int, name: str) -> int:
    """The version that a rollback from ``current`` starts.

    Raises
    ------
    InvalidInput
        there is none before it.
    """
    earlier = [number for number in known if number < current]
    if not earlier:
        raise InvalidInput(f"{name} runs version {current}, and there is none before it; name one with --to")
    return max(earlier)


def checked_name(name: str) -> str:
    """The name, if a strategy may be pushed under it.

    Raises
    ------
    InvalidInput
        it is no such name, or that of a strategy that ships.
    """
    from skeet.agents.strategy_loading import SHIPPED

    if not NAME.fullmatch(name) or name in SHIPPED:
        raise InvalidInput(
            f"strategy name is {name!r}: use lower case letters, digits, dashes and underscores, at most 48, and none "
            f"of {', '.join(SHIPPED)}; --name chooses one"
        )
    return name


def base_name(strategy: str) -> str:
    """``NAME`` of ``NAME:Class``."""
    return strategy.partition(":")[0]


def store_artefact(settings: Settings, artefact: Artefact) -> None:
    """Write the artefact's bytes into the log; again is harmless."""
    from skeet.agents.strategy_artefacts import artefact_outs

    _publish(settings, lambda meta: artefact_outs(artefact, meta))


def _store(settings: Settings, name: str, artefact: Artefact) -> int:
    """Bytes first, then the number: a version that is known can be run."""
    from skeet.streams.topics import CONTROL

    store_artefact(settings, artefact)
    for _ in range(PUSH_ATTEMPTS):
        number = max(versions_of(settings, name), default=0) + 1
        event = StrategyPushed(
            strategy=name,
            version=number,
            artefact=artefact.hash,
            size=len(artefact.content),
            files=len(artefact.files),
        )
        _publish(settings, lambda meta, event=event: [Out(topic=CONTROL.name, key=name, event=event, meta=meta)])
        if versions_of(settings, name)[number].event.artefact == artefact.hash:
            return number
    raise InvalidInput(f"{name}: others pushed at the same time, {PUSH_ATTEMPTS} times; push again")


def _publish(settings: Settings, outs: Any) -> None:
    from skeet.cli.desk import command_meta, fresh_key
    from skeet.streams.kafka import producer
    from skeet.streams.publishing import Publisher
    from skeet.streams.registry import registered_codec

    publisher = Publisher(settings, registered_codec(settings), producer(settings, "skeet-cli"))
    publisher.send(outs(command_meta(settings, "", fresh_key(), time.time_ns())))
    publisher.flush()
