"""Pushed versions and `skeet dev` on a real broker, run by the real role."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live import environment_of, events, wait_for
from test_strategy_live import SYMBOL, instrument, quote
from typer.testing import CliRunner

from skeet.cli.main import app
from skeet.config import Settings
from skeet.core.commands import CancelAllOrders, SubmitOrder
from skeet.core.control import StrategyStarted
from skeet.schemas.codec import Codec
from skeet.streams.topics import COMMANDS, CONTROL

pytestmark = pytest.mark.integration

STRATEGY = """
from decimal import Decimal
from pydantic import BaseModel
from skeet.core.strategy import Strategy, buy_limit
from rules import RULE

class Parameters(BaseModel):
    size: Decimal = Decimal("0.01")

class Mine(Strategy[None]):
    Parameters = Parameters
    def initial(self):
        return None
    def on_quote(self, state, quote, context):
        # BODY
        return [buy_limit(self.parameters.size, quote.ask_price, rule=RULE)]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "mine"
    place.mkdir()
    (place / "strategy.py").write_text(STRATEGY)
    (place / "rules.py").write_text('RULE = "one"\n')
    return place


@pytest.fixture
def skeet(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command of the CLI in this process; returns what it printed."""
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    return run


@pytest.fixture
def orders(settings: Settings, codec: Codec, publish: Callable[..., None]) -> Callable[..., Any]:
    """Publishes quotes until the instance made an order by this rule; returns it."""

    def wait(book: str, rule: str) -> Any:
        numbers = iter(range(1, 1_000))

        def found() -> Any:
            publish("market.quotes.v1", quote(next(numbers)))
            made = events(settings, codec, COMMANDS, SubmitOrder)
            return next((r.event for r in made if (r.event.book_id, r.event.rule) == (book, rule)), None)

        return wait_for(found, 40, f"an order of {book} by rule {rule}")

    return wait


def test_pushed_version_runs_and_one_command_goes_back(
    settings: Settings,
    codec: Codec,
    folder: Path,
    skeet: Callable[..., str],
    orders: Callable[..., Any],
    publish: Callable[..., None],
    role: Callable[[str], subprocess.Popen[bytes]],
) -> None:
    publish("instruments.v1", instrument())
    first = json.loads(skeet("strategy", "push", str(folder), "--json"))
    again = json.loads(skeet("strategy", "push", str(folder), "--json"))
    assert again == first | {"new": False}
    (folder / "rules.py").write_text('RULE = "two"\n')
    second = json.loads(skeet("strategy", "push", str(folder), "--json"))
    assert (first["version"], second["version"]) == (1, 2)
    options = ("--account", "acc-1", "--instrument", SYMBOL, "--param", "size=0.03", "--on-halt", "leave")
    skeet("strategy", "start", "alpha", "--strategy", "mine", "--version", "latest", *options)
    role("strategies")
    newer = orders("alpha", "two")

    assert "version 2 -> 1" in skeet("strategy", "rollback", "mine")
    older = orders("alpha", "one")
    assert newer.quantity == older.quantity, "parameters are kept"
    starts = [r.event for r in events(settings, codec, CONTROL, StrategyStarted)]
    assert [(s.version, s.artefact, s.on_halt) for s in starts] == [
        (2, second["artefact"], "leave"),
        (1, first["artefact"], "leave"),
    ]
    assert [newer.code_version, older.code_version] == [s.code_version for s in starts], "the hash is in every command"
    listed = json.loads(skeet("strategy", "versions", "mine", "--json"))
    assert [(row["version"], row["instances"]) for row in listed] == [(1, "alpha"), (2, "")]


@pytest.fixture
def dev(settings: Settings, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`skeet dev` in a process of its own, and the file with what it prints."""
    printed = settings.data / "dev.out"
    with printed.open("wb") as out:
        command = [
            sys.executable,
            "-u",
            "-m",
            "skeet",
            "dev",
            str(folder),
            "--account",
            "acc-1",
            "--instrument",
            SYMBOL,
        ]
        process = subprocess.Popen(command, env=os.environ | environment_of(settings), stdout=out, stderr=out)
    try:
        yield process, printed
    finally:
        process.kill()
        process.wait()


def test_dev_runs_every_good_save_and_says_what_is_wrong_with_the_others(
    settings: Settings,
    codec: Codec,
    folder: Path,
    orders: Callable[..., Any],
    publish: Callable[..., None],
    role: Callable[[str], subprocess.Popen[bytes]],
    dev: tuple[subprocess.Popen[bytes], Path],
) -> None:
    process, printed = dev
    publish("instruments.v1", instrument())
    role("strategies")
    orders("dev-mine", "one")
    wait_for(lambda: "SubmitOrder" in printed.read_text(), 10, "the order is shown")

    (folder / "strategy.py").write_text(STRATEGY.replace("# BODY", "if True"))
    wait_for(lambda: "the last good one goes on" in printed.read_text(), 15, "the syntax error")
    line = STRATEGY.splitlines().index("        # BODY") + 1
    assert f"{folder}/strategy.py:{line}: SyntaxError: expected ':'" in printed.read_text()

    (folder / "strategy.py").write_text(STRATEGY.replace("# BODY", 'raise ValueError("on purpose")'))
    wait_for(lambda: printed.read_text().count("starting dev-mine") == 2, 15, "the save that raises")
    numbers = iter(range(1, 1_000))

    def halted() -> bool:
        publish("market.quotes.v1", quote(next(numbers)))
        return "save a fix to start it again" in printed.read_text()

    wait_for(halted, 30, "the halt")
    assert f"{folder}/strategy.py:{line}: on_quote: ValueError: on purpose" in printed.read_text()
    assert f'{line} |         raise ValueError("on purpose")' in printed.read_text()

    (folder / "strategy.py").write_text(STRATEGY)
    (folder / "rules.py").write_text('RULE = "fixed"\n')
    orders("dev-mine", "fixed")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0, printed.read_text()
    assert "stopped dev-mine" in printed.read_text()
    wait_for(lambda: events(settings, codec, COMMANDS, CancelAllOrders), 10, "its orders are canceled")
