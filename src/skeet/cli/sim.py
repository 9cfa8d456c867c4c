"""``skeet sim``: look at the simulated exchange, steer it, and tell it to misbehave."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from skeet.cli.exchange_admin import ExchangeAdmin
from skeet.cli.output import console, print_json, print_rows
from skeet.config import load_settings
from skeet.core.errors import InvalidInput

app = typer.Typer(no_args_is_help=True, help="The simulated exchange.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
POOLED_SEEDS = 4


@app.command()
def status(as_json: Json = False) -> None:
    """Instruments, prices, speed, and what it was told to do wrong."""
    answer = ExchangeAdmin(load_settings()).status()
    if as_json:
        print_json(answer)
        return
    flow, behaviour = answer["flow"], answer["behaviour"]
    console().print(f"flow {'paused' if flow['paused'] else 'runs'} at speed {flow['speed']:g}, seed {answer['seed']}")
    console().print(
        f"client order ids unique among {behaviour['duplicate_client_ids']}; answers dropped: {behaviour['dropped']}, "
        f"to drop: {behaviour['drop_next']} next, probability {behaviour['drop_probability']:g}"
    )
    print_rows("", answer["instruments"], as_json=False)


@app.command()
def pause() -> None:
    """Stop the background flow; orders of accounts still trade with each other and with what rests."""
    ExchangeAdmin(load_settings()).pause()
    console().print("the flow is paused")


@app.command()
def resume() -> None:
    """Let the background flow go on."""
    ExchangeAdmin(load_settings()).resume()
    console().print("the flow runs")


@app.command()
def speed(
    factor: Annotated[float, typer.Argument(help="Seconds of flow per second; timestamps stay wall clock.")],
) -> None:
    """Change how fast the background flow runs."""
    ExchangeAdmin(load_settings()).set_speed(factor)
    console().print(f"the flow runs at speed {factor:g}")


@app.command()
def behave(
    duplicate_client_ids: Annotated[
        str | None, typer.Option(help="Where a client order id must be unique: all, open or none.")
    ] = None,
    drop_next: Annotated[int | None, typer.Option(help="Accept so many orders and drop the answer.")] = None,
    drop_probability: Annotated[float | None, typer.Option(help="Drop each order's answer with this chance.")] = None,
    repeat_next: Annotated[int | None, typer.Option(help="Send so many execution reports twice.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the drops by chance.")] = None,
    as_json: Json = False,
) -> None:
    """Tell the exchange to misbehave (without options: show). A restart makes it behave again."""
    asked = {
        "duplicate_client_ids": duplicate_client_ids,
        "drop_next": drop_next,
        "drop_probability": drop_probability,
        "repeat_next": repeat_next,
        "seed": seed,
    }
    answer = ExchangeAdmin(load_settings()).behave({k: v for k, v in asked.items() if v is not None})
    print_rows("", [answer], as_json=as_json)


@app.command()
def stats(
    symbol: Annotated[str, typer.Option(help="Venue symbol.")] = "BTCUSDT",
    hours: Annotated[float, typer.Option(min=0.5, help="Simulated hours over all seeds.")] = 24.0,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds share the hours.")] = POOLED_SEEDS,
    as_json: Json = False,
) -> None:
    """Measure whether the flow behaves like a market; exit 1 if a promised property does not hold.

    Needs no running exchange. Takes about one second per simulated hour.
    """
    from skeet.venues.sim.flow import PROFILES
    from skeet.venues.sim.stats import pool, simulate

    if symbol not in PROFILES:
        raise InvalidInput(f"--symbol is {symbol!r}; expected one of {', '.join(PROFILES)}")
    pooled = pool(symbol, [simulate(symbol, seed, hours / seeds) for seed in range(1, seeds + 1)])
    failures = pooled.failures()
    if as_json:
        print_json({**dataclasses.asdict(pooled), "failures": failures})
    else:
        print_rows("", [{"figure": k, "value": str(v)} for k, v in dataclasses.asdict(pooled).items()], as_json=False)
        for failure in failures:
            console().print(f"does not hold: {failure}")
    raise typer.Exit(1 if failures else 0)
