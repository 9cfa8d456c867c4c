"""What a save does in `skeet dev`, and what is shown; the edges to Kafka are written down instead of used."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from skeet.cli import dev_session
from skeet.cli.dev import given_parameters
from skeet.cli.dev_session import DevSession
from skeet.cli.log import Line
from skeet.config import Settings
from skeet.core.control import StrategyHalted, StrategyStarted
from skeet.core.record import Record, TopicPosition

GOOD = """
from decimal import Decimal
from pydantic import BaseModel
from skeet.core.strategy import Strategy

class Parameters(BaseModel):
    size: Decimal = Decimal(1)

class Mine(Strategy[None]):
    Parameters = Parameters
    def initial(self):
        return None
"""


class Sitting:
    """A session on a folder, with what it started and what it printed."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, parameters: str = "{}") -> None:
        self.file = folder / "mine" / "strategy.py"
        self.file.parent.mkdir()
        self.started: list[StrategyStarted] = []
        self._printed = io.StringIO()
        monkeypatch.setattr(dev_session, "post", lambda settings, event, instance, account: self.started.append(event))
        monkeypatch.setattr(dev_session, "store_artefact", lambda settings, artefact: None)
        self.session = DevSession(
            settings=Settings(data=folder / "data"),
            place=self.file.parent,
            name="mine",
            instance="dev-mine",
            account="acc",
            instrument="SIM:BTC/USDT",
            parameters=parameters,
            out=Console(file=self._printed, width=300),
        )

    def save(self, text: str) -> str:
        """Write the file as an editor does; what is printed because of it."""
        self.file.write_text(text)
        return self.printed(self.session.saved)

    def printed(self, act: Any, *arguments: Any) -> str:
        self._printed.seek(0)
        self._printed.truncate()
        act(*arguments)
        return self._printed.getvalue()

    def halt(self, line: int) -> str:
        """The instance halts at a line of what was started last."""
        place = f"/data/instances/dev-mine/home/artefacts/{self.started[-1].artefact}/mine/strategy.py"
        event = StrategyHalted(
            instance_id="dev-mine", handler="on_quote", file=place, line=line, error="ValueError: no"
        )
        at = TopicPosition("control.events.v1", 0, 7)
        record: Record[Any] = Record(event=event, meta=None, at=at, log_ns=1)
        return self.printed(self.session.show, Line(at=at, log_ns=1, key="dev-mine", record=record, value=b""))


@pytest.fixture
def sitting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sitting:
    return Sitting(tmp_path, monkeypatch)


def test_good_save_is_started_once(sitting: Sitting) -> None:
    assert "starting dev-mine" in sitting.save(GOOD)
    assert sitting.save(GOOD) == "", "nothing changed"
    assert "starting dev-mine" in sitting.save(GOOD + "\n")
    assert len({started.artefact for started in sitting.started}) == 2
    assert len({started.code_version for started in sitting.started}) == 2


def test_save_that_does_not_parse_names_the_users_file_and_leaves_the_last_good_one_running(sitting: Sitting) -> None:
    sitting.save(GOOD)
    shown = sitting.save(GOOD + "def f(:\n")
    line = len(GOOD.splitlines()) + 1
    assert f"{sitting.file}:{line}: SyntaxError: " in shown
    assert f"{line} | def f(:" in shown
    assert "the last good one goes on" in shown
    assert len(sitting.started) == 1


def test_error_while_importing_names_the_line(sitting: Sitting) -> None:
    shown = sitting.save(GOOD + "1 / 0\n")
    assert f"{sitting.file}:{len(GOOD.splitlines()) + 1}: ZeroDivisionError: division by zero" in shown
    assert "nothing runs" in shown


def test_parameter_that_does_not_fit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Sitting(tmp_path, monkeypatch, json.dumps({"size": "much"})).save(GOOD)
    assert "parameter 'size' is 'much'" in shown
    assert "strategy.py:" not in shown


def test_halt_is_shown_in_the_users_file_and_the_next_save_starts_again_even_unchanged(sitting: Sitting) -> None:
    sitting.save(GOOD)
    shown = sitting.halt(line=4)
    assert f"{sitting.file}:4: on_quote: ValueError: no" in shown
    assert "4 | from skeet.core.strategy import Strategy" in shown
    assert "save a fix to start it again" in shown
    assert "starting dev-mine" in sitting.save(GOOD)
    assert len(sitting.started) == 2


def test_parameters_come_from_options_else_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "parameters.json").write_text('{"size": "2"}')
    assert json.loads(given_parameters(tmp_path, "", [])) == {"size": "2"}
    assert json.loads(given_parameters(tmp_path, "", ["size=3"])) == {"size": "3"}
    assert json.loads(given_parameters(tmp_path, '{"a": 1}', [])) == {"a": 1}
