"""``skeet strategy``: list, start, stop and write strategies."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from skeet.cli.output import print_rows
from skeet.cli.strategy_versions import PushedVersion, base_name, push, pushed, rollback, versions
from skeet.config import Settings, load_settings
from skeet.core.control import StrategyStarted, StrategyStopped
from skeet.core.errors import InvalidInput
from skeet.core.record import Event, Out

app = typer.Typer(help="List, start, stop, write and push strategies.", no_args_is_help=True)
app.command()(push)
app.command()(versions)
app.command()(rollback)

ADMIN_TIMEOUT_S = 10.0


class OnHalt(StrEnum):
    """Policies of ``--on-halt``."""

    CANCEL = "cancel"
    LEAVE = "leave"


@app.command("list")
def list_strategies(as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False) -> None:
    """Every instance that was ever started: its account, instrument, state, and whether its process runs."""
    settings = load_settings()
    rows = instance_rows(settings)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    shown = ("instance", "account", "instrument", "strategy", "version", "state", "reason")
    print_rows(
        "",
        [{name: row[name] or "" for name in shown} | {"running": "yes" if row["running"] else "no"} for row in rows],
        as_json=False,
        empty="No strategy was started yet: `skeet strategy start INSTANCE --strategy …`",
    )


@app.command()
def start(  # noqa: PLR0913, PLR0917 (each is an option of the command)
    instance: Annotated[str, typer.Argument(help="Its name: lower case letters, digits and dashes.")],
    strategy: Annotated[
        str, typer.Option("--strategy", help="module:Class, a shipped name, or a file of your folder.")
    ],
    account: Annotated[str, typer.Option("--account", help="Account to trade on.")],
    instrument: Annotated[str, typer.Option("--instrument", help="As in SIM:BTC/USDT.")],
    param: Annotated[list[str] | None, typer.Option("--param", metavar="K=V", help="A parameter; repeatable.")] = None,
    params: Annotated[
        str, typer.Option("--params", metavar="JSON", help="Parameters as a JSON object or @file.")
    ] = "{}",
    version: Annotated[
        str, typer.Option("--version", metavar="N", help="A pushed version of the strategy: its number, or latest.")
    ] = "",
    on_halt: Annotated[
        OnHalt, typer.Option("--on-halt", help="What becomes of its open orders when it is halted.")
    ] = OnHalt.CANCEL,
) -> None:
    """Start an instance, or start it anew with other parameters. The strategies role runs it."""
    settings = load_settings()
    given = parameters_of(params, param or [])
    chosen = pushed(settings, base_name(strategy), version) if version else None
    started = started_event(settings, instance, strategy, instrument, given, on_halt, chosen)
    post(settings, started, instance, account)
    shown = f"{strategy} version {chosen.number}" if chosen else strategy
    typer.echo(f"started {instance}: {shown} on {account}, {instrument} (code {started.code_version[:12]})")


@app.command()
def stop(
    instance: Annotated[str, typer.Argument(help="Its name.")],
    reason: Annotated[str, typer.Option("--reason", help="Recorded in the log.")] = "stopped by operator",
    keep_orders: Annotated[bool, typer.Option("--keep-orders", help="Leave its open orders at the venue.")] = False,
) -> None:
    """Stop an instance; its open orders are canceled unless told otherwise."""
    settings = load_settings()
    known = {row["instance"]: row for row in instance_rows(settings, ask_groups=False)}
    if instance not in known:
        raise InvalidInput(f"instance {instance!r} was never started; `skeet strategy list` shows {sorted(known)}")
    event = StrategyStopped(instance_id=instance, reason=reason, cancel_open=not keep_orders)
    post(settings, event, instance, known[instance]["account"])
    typer.echo(f"stopped {instance}")


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Its name: lower case letters, digits and underscores.")],
    folder: Annotated[Path | None, typer.Option("--folder", help="Instead of your strategies folder.")] = None,
) -> None:
    """Write a strategy, its test and its parameters, ready to run, into your own folder."""
    from skeet.agents.strategy_loading import user_folder
    from skeet.strategies.template import write_strategy

    place = folder or user_folder(load_settings())
    for path in write_strategy(name, place):
        typer.echo(f"wrote {path}")
    typer.echo(f"test it:  pytest {place / name}")
    typer.echo(
        f"run it:   skeet strategy start my-{name.replace('_', '-')} --strategy {name} --account ACCOUNT "
        f"--instrument SIM:BTC/USDT --params @{place / name / 'parameters.json'}"
    )


def started_event(
    settings: Settings,
    instance: str,
    strategy: str,
    instrument: str,
    parameters: dict[str, Any] | str,
    on_halt: str = "cancel",
    version: PushedVersion | None = None,
) -> StrategyStarted:
    """The event that starts an instance; everything in it is checked. With a version, its sources are what runs.

    Raises
    ------
    InvalidInput
        the name, the strategy or a parameter cannot be used.
    """
    from skeet.agents.strategy_loading import parse_parameters, user_folder
    from skeet.agents.strategy_sources import Sources, unpacked

    if not instance or not all(c.isdigit() or c == "-" or ("a" <= c <= "z") for c in instance) or len(instance) > 48:
        raise InvalidInput(f"instance is {instance!r}: use lower case letters, digits and dashes, at most 48")
    sources = (
        Sources(reference=strategy, folder=user_folder(settings))
        if version is None
        else unpacked(version.artefact, strategy, settings.data / "artefacts")
    )
    found = sources.load()
    checked = parse_parameters(found, parameters)
    return StrategyStarted(
        instance_id=instance,
        strategy=strategy,
        instrument_id=instrument,
        parameters=checked.model_dump_json(),
        code_version=sources.code_version(found, checked),
        on_halt=on_halt,
        artefact=sources.artefact,
        version=version.number if version else 0,
    )


def post(settings: Settings, event: Event, instance: str, account: str) -> None:
    """Write one control event and return once it is acknowledged."""
    from skeet.cli.desk import command_meta, fresh_key
    from skeet.streams.kafka import producer
    from skeet.streams.publishing import Publisher
    from skeet.streams.registry import registered_codec
    from skeet.streams.topics import CONTROL

    meta = command_meta(settings, account, fresh_key(), time.time_ns())
    publisher = Publisher(settings, registered_codec(settings), producer(settings, "skeet-cli"))
    publisher.send([Out(topic=CONTROL.name, key=instance, event=event, meta=meta)])
    publisher.flush()


def parameters_of(text: str, pairs: list[str]) -> dict[str, Any]:
    """``--params`` (JSON or @file), overridden by each ``--param``.

    Raises
    ------
    InvalidInput
        names the option, what it was, and what is expected.
    """
    if text.startswith("@"):
        path = Path(text[1:])
        if not path.is_file():
            raise InvalidInput(f"--params names {path}, which is no file")
        text = path.read_text()
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"--params is no JSON object: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"--params is {text!r}; expected a JSON object")
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InvalidInput(f"--param is {pair!r}; expected name=value")
        found[key] = value
    return found


def instance_rows(settings: Settings, *, ask_groups: bool = True) -> list[dict[str, Any]]:
    from skeet.agents.strategy_instances import folded
    from skeet.streams.reading import records_until_end
    from skeet.streams.registry import registered_codec
    from skeet.streams.topics import CONTROL

    instances = folded(records_until_end(settings, registered_codec(settings), [CONTROL]))
    running = _running(settings, list(instances)) if ask_groups else {}
    return [
        {
            "instance": name,
            "account": instance.account_id,
            "instrument": instance.started.event.instrument_id,
            "strategy": instance.started.event.strategy,
            "version": instance.started.event.version,
            "state": instance.state,
            "reason": instance.reason,
            "running": running.get(name, False),
            "parameters": json.loads(instance.started.event.parameters),
            "code_version": instance.started.event.code_version,
            "artefact": instance.started.event.artefact,
            "on_halt": instance.started.event.on_halt,
        }
        for name, instance in sorted(instances.items())
    ]


def _running(settings: Settings, names: list[str]) -> dict[str, bool]:
    """An instance runs when its consumer group has a member."""
    from skeet.streams.kafka import admin, group_name

    if not names:
        return {}
    groups = {group_name(settings, f"strategy-{name}"): name for name in names}
    client = admin(settings)  # must outlive its futures: they are never resolved once it is collected
    described = client.describe_consumer_groups(list(groups), request_timeout=ADMIN_TIMEOUT_S)
    found: dict[str, bool] = {}
    for group, future in described.items():
        try:
            found[groups[group]] = bool(future.result(timeout=ADMIN_TIMEOUT_S).members)
        except Exception:  # a group that never existed is an error in some brokers: not running
            found[groups[group]] = False
    return found
