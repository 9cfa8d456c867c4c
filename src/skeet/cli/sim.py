"""``skeet sim``: look at the simulated exchange, steer it, and tell it to misbehave."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from skeet.cli.exchange_admin import ExchangeAdmin
from skeet.cli.output import console, print_json, print_rows
from skeet.config import load_settings
from skeet.core.errors import InvalidInput
from skeet.venues.sim.behaviour import Faults

app = typer.Typer(no_args_is_help=True, help="The simulated exchange.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
POOLED_SEEDS = 4


def _fault(name: str) -> Any:
    """The option of one fault, with the words of its field."""
    return typer.Option(help=Faults.model_fields[name].description)


@app.command()
def status(as_json: Json = False) -> None:
    """Instruments, prices, speed, and what it was told to do wrong."""
    answer = ExchangeAdmin(load_settings()).status()
    if as_json:
        print_json(answer)
        return
    flow, behaviour = answer["flow"], answer["behaviour"]
    console().print(f"flow {'paused' if flow['paused'] else 'runs'} at speed {flow['speed']:g}, seed {answer['seed']}")
    happened = behaviour.pop("happened")
    console().print("behaviour " + ", ".join(f"{name} {value}" for name, value in behaviour.items()))
    console().print("faults done " + (", ".join(f"{name} {count}" for name, count in happened.items()) or "none"))
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
def behave(  # noqa: PLR0913, PLR0917 - one option for each fault
    duplicate_client_ids: Annotated[str | None, _fault("duplicate_client_ids")] = None,
    drop_next: Annotated[int | None, _fault("drop_next")] = None,
    drop_probability: Annotated[float | None, _fault("drop_probability")] = None,
    unavailable_next: Annotated[int | None, _fault("unavailable_next")] = None,
    limit_next: Annotated[int | None, _fault("limit_next")] = None,
    answer_delay_ms: Annotated[int | None, _fault("answer_delay_ms")] = None,
    hide_ms: Annotated[int | None, _fault("hide_ms")] = None,
    repeat_next: Annotated[int | None, _fault("repeat_next")] = None,
    lose_frames_next: Annotated[int | None, _fault("lose_frames_next")] = None,
    frozen: Annotated[bool | None, _fault("frozen")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the drops by chance.")] = None,
    as_json: Json = False,
) -> None:
    """Tell the exchange to misbehave (without options: show). A restart makes it behave again."""
    asked = {
        "duplicate_client_ids": duplicate_client_ids,
        "drop_next": drop_next,
        "drop_probability": drop_probability,
        "unavailable_next": unavailable_next,
        "limit_next": limit_next,
        "answer_delay_ms": answer_delay_ms,
        "hide_ms": hide_ms,
        "repeat_next": repeat_next,
        "lose_frames_next": lose_frames_next,
        "frozen": frozen,
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
