"""`skeet strategy push | rollback` on a log in memory: numbers, hashes, and what is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from skeet.agents.strategy_artefacts import joined, known_versions
from skeet.cli import strategy, strategy_versions
from skeet.cli.desk import command_meta
from skeet.cli.strategy_versions import PushedVersion
from skeet.config import Settings
from skeet.core.control import ArtefactStored, StrategyStarted
from skeet.core.errors import InvalidInput
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


class Log:
    """What was written, read back by the commands instead of Kafka; ``racing`` pushes arrive just before ours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.events: list[Any] = []
        self.racing: list[Any] = []
        self.rows: list[dict[str, Any]] = []
        self.started: list[StrategyStarted] = []
        self.settings = Settings(data=tmp_path / "data")
        monkeypatch.setenv("SKEET_DATA", str(tmp_path / "data"))
        monkeypatch.setattr(strategy_versions, "_publish", self.publish)
        monkeypatch.setattr(strategy_versions, "versions_of", self.versions_of)
        monkeypatch.setattr(strategy_versions, "pushed", self.pushed)
        monkeypatch.setattr(strategy, "instance_rows", lambda settings, ask_groups=True: self.rows)
        monkeypatch.setattr(strategy, "post", lambda settings, event, instance, account: self.started.append(event))

    def publish(self, settings: Settings, outs: Any) -> None:
        made = [out.event for out in outs(command_meta(self.settings, "", "key", 1))]
        if self.racing and not isinstance(made[0], ArtefactStored):
            self.events.append(self.racing.pop())
        self.events += made

    def versions_of(self, settings: Settings, name: str) -> dict[int, Any]:
        at = TopicPosition("control.events.v1", 0, 0)
        return known_versions((Record(event=e, meta=None, at=at, log_ns=1) for e in self.events), name)

    def pushed(self, settings: Settings, name: str, version: str) -> PushedVersion:
        record = self.versions_of(settings, name)[int(version)]
        stored = [event for event in self.events if isinstance(event, ArtefactStored)]
        return PushedVersion(number=int(version), artefact=joined(stored, record.event.artefact))

    def run(self, *words: str) -> str:
        result = CliRunner().invoke(strategy.app, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Log:
    return Log(monkeypatch, tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "mine"
    place.mkdir()
    (place / "strategy.py").write_text(GOOD)
    return place


def push(log: Log, folder: Path, text: str) -> dict[str, Any]:
    (folder / "strategy.py").write_text(text)
    answer: dict[str, Any] = json.loads(log.run("push", str(folder), "--json"))
    return answer


def row(instance: str, version: int, state: str = "started", **fields: Any) -> dict[str, Any]:
    known = {"account": "acc", "instrument": "SIM:BTC/USDT", "strategy": "mine", "parameters": {"size": "3"}}
    return known | {"instance": instance, "version": version, "state": state, "on_halt": "leave"} | fields


def test_versions_count_up_and_equal_sources_are_the_version_they_were(log: Log, folder: Path) -> None:
    first, second = push(log, folder, GOOD), push(log, folder, GOOD + "\n")
    again = push(log, folder, GOOD)
    assert [(p["version"], p["new"]) for p in (first, second, again)] == [(1, True), (2, True), (1, False)]
    assert first["artefact"] == again["artefact"] != second["artefact"]


def test_push_that_loses_a_number_to_another_takes_the_next(log: Log, folder: Path, tmp_path: Path) -> None:
    push(log, folder, GOOD)
    other = log.versions_of(log.settings, "mine")[1].event
    log.racing = [type(other)(strategy="mine", version=2, artefact="f" * 64, size=1, files=1)]
    mine = push(log, folder, GOOD + "\n")
    known = log.versions_of(log.settings, "mine")
    assert mine["version"] == 3
    assert [known[n].event.artefact for n in (2, 3)] == ["f" * 64, mine["artefact"]]


def test_rollback_starts_the_version_before_on_every_instance_but_stopped_ones_and_keeps_parameters(
    log: Log, folder: Path
) -> None:
    pushes = [push(log, folder, GOOD + "\n" * n) for n in range(3)]
    log.rows = [row("a", 3), row("b", 2, "halted"), row("c", 3, "stopped"), row("d", 3, strategy="other"), row("e", 0)]
    log.run("rollback", "mine")
    assert [(s.instance_id, s.version, s.artefact) for s in log.started] == [
        ("a", 2, pushes[1]["artefact"]),
        ("b", 1, pushes[0]["artefact"]),
    ]
    assert all(json.loads(s.parameters) == {"size": "3"} and s.on_halt == "leave" for s in log.started)
    assert len({s.code_version for s in log.started}) == 2


def test_rollback_that_the_old_version_refuses_changes_nothing(log: Log, folder: Path) -> None:
    push(
        log,
        folder,
        GOOD.replace("size: Decimal", "lots: Decimal").replace("(BaseModel):", "(BaseModel, extra='forbid'):"),
    )
    push(log, folder, GOOD)
    log.rows = [row("a", 2)]
    with pytest.raises(InvalidInput, match="parameter 'size'"):
        log.run("rollback", "mine")
    log.rows = [row("b", 2, parameters={}), row("a", 1)]
    with pytest.raises(InvalidInput, match="none before it"):
        log.run("rollback", "mine")
    assert log.started == []
