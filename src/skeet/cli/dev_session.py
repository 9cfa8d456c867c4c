"""One sitting of ``skeet dev``: what a save does, and what is shown of the instance meanwhile.

A save is packed, loaded here to see whether it loads, stored in the log, and started; the strategies role runs it exactly as
any other, confined and limited.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import TopicPartition
from rich.console import Console
from rich.text import Text

from skeet.agents.strategy_artefacts import pack
from skeet.cli.log import POLL_S, Line, line_of
from skeet.cli.strategy import instance_rows, post, started_event
from skeet.cli.strategy_versions import PushedVersion, store_artefact
from skeet.cli.tail import as_text
from skeet.config import Settings
from skeet.core.control import StrategyHalted, StrategyStarted, StrategyStopped
from skeet.core.errors import InvalidInput
from skeet.core.strategy.places import place_of
from skeet.streams.kafka import consumer
from skeet.streams.reading import end_offsets, partitions_of
from skeet.streams.registry import registered_codec
from skeet.streams.topics import ACCOUNT_EVENTS, COMMANDS, CONTROL

STOP_DEADLINE_S = 15.0
FOLLOW_JOIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with a save, and where in the user's own files."""

    text: str
    file: str = ""
    line: int = 0
    source: str = ""


@dataclass(slots=True, kw_only=True)
class DevSession:
    """The instance of one ``skeet dev``. ``parameters`` is a JSON object."""

    settings: Settings
    place: Path
    name: str
    instance: str
    account: str
    instrument: str
    parameters: str
    out: Console
    running: str = ""
    """Hash of the last good save, which was started."""
    halted: bool = False

    @property
    def folder(self) -> Path:
        """What is watched."""
        return self.place.parent if self.place.is_file() else self.place

    def saved(self) -> None:
        """Start what the files hold now, if it loads and is new; else say what is wrong."""
        started = self.checked()
        if isinstance(started, Problem):
            kept = "the last good one goes on" if self.running and not self.halted else "nothing runs"
            self._show_problem(started, kept)
        elif started is not None:
            post(self.settings, started, self.instance, self.account)
            self.running, self.halted = started.artefact, False
            self.out.print(f"{_now()} saved {started.artefact[:12]}: starting {self.instance}", style="green")

    def checked(self) -> StrategyStarted | Problem | None:
        """The start of what the files hold now, its sources stored; None when that was started already."""
        try:
            artefact = pack(self.place)
            if artefact.hash == self.running and not self.halted:
                return None
            version = PushedVersion(number=0, artefact=artefact)
            started = started_event(
                self.settings, self.instance, self.name, self.instrument, self.parameters, "cancel", version
            )
        except InvalidInput as error:
            return self._problem(error)
        store_artefact(self.settings, artefact)
        return started

    def stop(self) -> None:
        """Stop the instance, cancel its open orders, wait until it is gone."""
        if not self.running:
            return
        event = StrategyStopped(instance_id=self.instance, reason="skeet dev ended", cancel_open=True)
        post(self.settings, event, self.instance, self.account)
        deadline = time.monotonic() + STOP_DEADLINE_S
        while self._runs() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        self.out.print(f"{_now()} stopped {self.instance}; its open orders are canceled")

    @contextmanager
    def following(self, stop: threading.Event) -> Iterator[None]:
        """Show what becomes of the instance until the block ends."""
        codec, client = registered_codec(self.settings), consumer(self.settings, "skeet-dev")
        ends = end_offsets(client, partitions_of(self.settings, [CONTROL, COMMANDS, ACCOUNT_EVENTS]))
        client.assign([TopicPartition(*place, offset) for place, offset in ends.items()])

        def follow() -> None:
            while not stop.is_set():
                message = client.poll(POLL_S)
                if message is not None and message.error() is None:
                    self.show(line_of(codec, message, self.settings))

        thread = threading.Thread(target=follow, name="follow", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(FOLLOW_JOIN_S)
            client.close()

    def show(self, line: Line) -> None:
        """Print a record if it is about this instance."""
        if isinstance(line.record, InvalidInput):
            return
        event: Any = line.record.event
        match event:
            case StrategyHalted(instance_id=self.instance):
                text = f"{event.handler}: {event.error}" if event.handler else event.error
                self.halted = True
                file, source = self.own(event.file, event.line)
                problem = Problem(text=text, file=file, line=event.line, source=source)
                self._show_problem(problem, f"halted ({event.reason}); save a fix to start it again")
            case StrategyStarted() | StrategyStopped():
                return
            case _ if getattr(event, "book_id", "") == self.instance:
                self.out.print(as_text(line))

    def own(self, file: str, line: int) -> tuple[str, str]:
        """The user's own file for one of an unpacked artefact, and its text at that line."""
        _, found, name = file.partition(f"/{self.name}/")
        path = (
            (self.place if self.place.is_file() else self.place / name)
            if found and "artefacts/" in file
            else Path(file)
        )
        try:
            return str(path), path.read_text().splitlines()[line - 1].rstrip() if line else ""
        except (OSError, IndexError, UnicodeDecodeError):
            return str(path), ""

    def _problem(self, error: InvalidInput) -> Problem:
        cause = error.__cause__
        if cause is None or isinstance(cause, InvalidInput):
            return Problem(text=str(error))
        file, line = place_of(cause) if isinstance(cause, Exception) else ("", 0)
        own, source = self.own(file, line)
        text = cause.msg if isinstance(cause, SyntaxError) else str(cause)
        # A parameter that does not fit has no place in the strategy's code; the message names it.
        if not own.startswith(str(self.folder)):
            return Problem(text=str(error))
        return Problem(text=f"{type(cause).__name__}: {text}", file=own, line=line, source=source)

    def _show_problem(self, problem: Problem, consequence: str) -> None:
        place = f"{problem.file}:{problem.line}: " if problem.file else ""
        self.out.print(Text(f"{_now()} {place}{problem.text}", style="red"))
        if problem.source:
            self.out.print(Text(f"  {problem.line:>5} | {problem.source}", style="dim"))
        self.out.print(Text(f"{_now()} {consequence}", style="yellow"))

    def _runs(self) -> bool:
        return any(row["running"] for row in instance_rows(self.settings) if row["instance"] == self.instance)


def _now() -> str:
    return time.strftime("%H:%M:%S", time.gmtime())
