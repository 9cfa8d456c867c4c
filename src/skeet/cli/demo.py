"""``skeet demo``: the main job in one command. Everything runs, two accounts trade, each by one of the shipped strategies.

Speed, seeds and parameters are fixed here, so that everybody sees the same kind of session. With ``--for`` there is no
screen: after that many seconds the flow pauses, strategies stop, open orders are cancelled, every consumer reads to the
captured end, and the session is judged: ``verify``, profit recomputed from the fills by SQL, and where the time went.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from skeet.cli import account as accounts
from skeet.cli import platform
from skeet.cli.demo_report import judge
from skeet.cli.desk import Desk, command_meta, fresh_key, validity
from skeet.cli.exchange_admin import ExchangeAdmin
from skeet.cli.output import console, count_down
from skeet.config import Settings, load_settings
from skeet.core.commands import CancelAllOrders
from skeet.core.errors import InfrastructureError
from skeet.local.installation import Installation
from skeet.local.pulse import is_ready
from skeet.local.status import metrics_targets
from skeet.streams.progress import await_caught_up
from skeet.wiring import ROLES

SPEED = "10"
"""Arrivals per natural arrival: busy enough for a minute to be worth watching, natural enough to look like a market."""

QUIET_MARK = "all is quiet"
QUIET_DEADLINE_S = 90.0
HISTORY_DEADLINE_S = 180.0
START_DEADLINE_S = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoAccount:
    """One account of the demo, its money and the strategy that trades it."""

    name: str
    instance: str
    strategy: str
    instrument: str
    deposits: Mapping[str, str]
    parameters: Mapping[str, str] = field(default_factory=dict)


ACCOUNTS = (
    DemoAccount(
        name="demo-trend",
        instance="trend-btc",
        strategy="ema-cross",
        instrument="SIM:BTC/USDT",
        deposits={"USDT": "100000"},
        parameters={
            "interval": "1s",
            "fast": "2",
            "slow": "4",
            "entry_imbalance": "-0.5",
            "exit_imbalance": "-0.8",
            "max_hold_s": "0.5",
            "pause_ms": "100",
            "slack_bps": "3",
        },
    ),
    DemoAccount(
        name="demo-maker",
        instance="maker-eth",
        strategy="market-maker",
        instrument="SIM:ETH/USDT",
        deposits={"USDT": "100000", "ETH": "25"},
        parameters={"half_spread_bps": "0", "requote_ticks": "2", "pause_ms": "100", "back_off_s": "0.2"},
    ),
)


def demo(
    for_s: Annotated[
        int | None,
        typer.Option("--for", min=5, metavar="SECONDS", help="Run headless this long, then verify and report."),
    ] = None,
    watching: Annotated[
        bool, typer.Option("--watch/--no-watch", help="Show the live view once everything trades.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="With --for: print the report as JSON.")] = False,
) -> None:
    """Start everything, trade two demo accounts on the simulated exchange, and watch. Safe to repeat."""
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        settings = _trade(for_s, watching=watching)
        report = judge(settings, [each.instance for each in ACCOUNTS]) if for_s is not None else None
    if report is not None:
        report.show(as_json=as_json)
    if report is not None and not report.clean:
        raise typer.Exit(1)


def _trade(for_s: int | None, *, watching: bool) -> Settings:
    """Start everything, and watch; or trade for so many seconds and come to rest."""
    os.environ.setdefault("SKEET_SIM__SPEED", SPEED)
    _say("skeet up")
    platform.up()
    settings = load_settings()
    ExchangeAdmin(settings).resume()
    for each in ACCOUNTS:
        _open(settings, each)
    _await_live_data(settings)
    for each in ACCOUNTS:
        start_strategy(each)
    _await_strategies(settings)
    if for_s is None:
        _watch(watching=watching)
    else:
        count_down("trading", for_s)
        quiesce(settings)
    return settings


def _say(command: str) -> None:
    console().print(f"[dim]$[/dim] [b]{command}[/b]", highlight=False)


def _open(settings: Settings, each: DemoAccount) -> None:
    """Open and fund the account, unless an earlier demo did."""
    from skeet.projections import queries

    if any(row["account_id"] == each.name for row in queries.accounts(settings)):
        return
    _say(f"skeet account create {each.name}")
    accounts.create(each.name)
    for asset, amount in each.deposits.items():
        _say(f"skeet account deposit {each.name} {asset} {amount}")
        accounts.deposit(each.name, asset, amount, key=f"demo-{each.name}-{asset}")


def _await_live_data(settings: Settings) -> None:
    """At a first start the worker first makes bars and signals of the exchange's last two hours."""
    with console().status("reading the exchange's history"):
        await_caught_up(settings, [ROLES["worker"].group], HISTORY_DEADLINE_S)


def _await_strategies(settings: Settings) -> None:
    """They read their topics first: what is traded for so many seconds begins once they have."""
    installation, names = Installation(settings.data), [f"strategy/{each.instance}" for each in ACCOUNTS]
    until = time.monotonic() + START_DEADLINE_S
    with console().status("the strategies read their topics"):
        while late := [name for name in names if not _ready(installation, name)]:
            if time.monotonic() > until:
                listed = ", ".join(late)
                raise InfrastructureError(
                    f"not ready after {START_DEADLINE_S:.0f} s: {listed}; `skeet strategy list`, `skeet logs strategies`"
                )
            time.sleep(0.3)


def _ready(installation: Installation, name: str) -> bool:
    address = metrics_targets(installation).get(name)
    return address is not None and is_ready(f"http://{address}")


def start_strategy(each: DemoAccount) -> None:
    """Start, or start anew, the strategy of an account of the demo."""
    from skeet.cli import strategy

    parameters = [f"{name}={value}" for name, value in each.parameters.items()]
    shown = "".join(f" --param {parameter}" for parameter in parameters)
    _say(
        f"skeet strategy start {each.instance} --strategy {each.strategy} --account {each.name} "
        f"--instrument {each.instrument}{shown}"
    )
    strategy.start(
        each.instance, strategy=each.strategy, account=each.name, instrument=each.instrument, param=parameters
    )


def _watch(*, watching: bool) -> None:
    from skeet.cli.watch import watch

    if watching:
        watch()
    console().print(
        "\nThe platform goes on. Next: [b]skeet order list[/b] · [b]skeet trace ORDER_ID[/b] · "
        '[b]skeet sql "SELECT * FROM trades LIMIT 5"[/b] · [b]skeet verify[/b] · [b]skeet down[/b]'
    )


def stop_strategy(each: DemoAccount) -> None:
    """Stop the strategy of an account of the demo, and cancel what it left open."""
    from skeet.cli import strategy

    _say(f"skeet strategy stop {each.instance}")
    strategy.stop(each.instance)


def quiesce(settings: Settings) -> None:
    """Stop what makes new events, in the order in which they cause each other, and wait until all of it is folded."""
    from skeet.cli.mark import mark

    for each in ACCOUNTS:
        stop_strategy(each)
    for each in ACCOUNTS:
        _cancel_all(settings, each.name)
    _await_no_open_orders(settings)
    _say("skeet sim pause")
    ExchangeAdmin(settings).pause()
    _say(f"skeet mark '{QUIET_MARK}'")
    mark(QUIET_MARK)
    await_caught_up(settings, [role.group for role in ROLES.values() if role.group], QUIET_DEADLINE_S)


def _cancel_all(settings: Settings, account: str) -> None:
    """Ask for the cancel of every open order of the account."""
    _say(f"skeet order cancel {account} --all")
    now_ns = time.time_ns()
    with Desk(settings) as desk:
        desk.ask(CancelAllOrders(book_id="", **validity(now_ns)), command_meta(settings, account, fresh_key(), now_ns))


def _await_no_open_orders(settings: Settings) -> None:
    from skeet.projections import queries

    until = time.monotonic() + QUIET_DEADLINE_S
    while left := _open_orders(queries, settings):
        if time.monotonic() > until:
            raise InfrastructureError(f"orders still open after {QUIET_DEADLINE_S:.0f} s: {json.dumps(left)}")
        time.sleep(0.3)


def _open_orders(queries: Any, settings: Settings) -> list[str]:
    return [
        row["order_id"] for each in ACCOUNTS for row in queries.orders(settings, account_id=each.name, only_open=True)
    ]
