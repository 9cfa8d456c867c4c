"""An installation as its user has it: the ``skeet`` command in another process, and conditions with deadlines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skeet.local.ports import free_port

COMMAND_DEADLINE_S = 300


class Installation:
    """One data directory and the command that works on it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.environment = {**os.environ, "SKEET_DATA": str(data)}

    def skeet(self, *words: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run the command; its exit code must be ``expect`` (None: any)."""
        done = subprocess.run(
            [sys.executable, "-m", "skeet", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_DEADLINE_S,
            check=False,
        )
        assert expect is None or done.returncode == expect, f"skeet {' '.join(words)}: {done.stdout}\n{done.stderr}"
        return done

    @contextmanager
    def running(self, role: str) -> Iterator[str]:
        """A role beside those that ``up`` starts, as long as the block lasts; yields the address that it answers on."""
        address = f"127.0.0.1:{(port := free_port())}"
        process = subprocess.Popen(
            [sys.executable, "-m", "skeet", "run", role], env=self.environment | {"SKEET_HEALTH__PORT": str(port)}
        )
        try:
            eventually(lambda: scrape(f"http://{address}/livez").status, COMMAND_DEADLINE_S, f"{role} answering")
            yield address
        finally:
            process.terminate()
            process.wait(COMMAND_DEADLINE_S)

    def json(self, *words: str, expect: int | None = 0) -> Any:
        """The command's JSON, whatever it printed before."""
        text = self.skeet(*words, "--json", expect=expect).stdout
        starts = [place for place in (text.find("\n{"), text.find("\n[")) if place >= 0]
        return json.loads(text if text[:1] in "{[" else text[min(starts) :])

    def processes(self) -> dict[str, int]:
        """Pid of each running process."""
        return {row["name"]: row["pid"] for row in self.json("status", expect=None)["processes"] if row["pid"]}

    def count(self, event_type: str) -> int:
        """How many account events of this type ClickHouse holds."""
        words = (
            "sql",
            f"SELECT count() AS n FROM account_events WHERE event_type = '{event_type}'",
            "--format",
            "json",
        )
        done = self.skeet(*words, expect=None)
        return int(json.loads(done.stdout)["n"]) if done.returncode == 0 else -1


@dataclass(frozen=True, slots=True)
class Answer:
    """Of an HTTP GET; status 0 when there was none."""

    status: int
    text: str


def scrape(url: str) -> Answer:
    """GET, whatever the status."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return Answer(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read().decode())
    except OSError as error:
        return Answer(0, str(error))


def kill(pid: int) -> None:
    """SIGKILL one process."""
    os.kill(pid, signal.SIGKILL)


def eventually(condition: Callable[[], Any], deadline_s: float, what: str) -> Any:
    """The condition's first true value; fails naming ``what`` when the deadline passes."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.5)
    raise AssertionError(f"not within {deadline_s:.0f} s: {what}")
