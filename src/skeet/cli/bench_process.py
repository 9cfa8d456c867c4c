"""A measurement's side in a process of its own: started, and heard when it ends.

A side prints one line of JSON last; one that also prints ``ready`` before can be waited for. What it says on stderr is shown
when it fails, and only then: peers and their libraries talk much.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from skeet.core.errors import BugError, InfrastructureError

DEADLINE_S = 400.0
SHOWN_LINES = 25
"""Of a failed side's stderr: the end of a traceback and what was said before it."""

Figures = dict[str, Any]
"""A side's line of JSON."""


@dataclass(frozen=True, slots=True)
class SideProcess:
    """A side that runs."""

    process: subprocess.Popen[str]
    said: IO[str]

    def wait_ready(self) -> None:
        """Until it printed ``ready``.

        Raises
        ------
        BugError
            it ended, or printed something else.
        """
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            self.process.kill()
            self.process.wait()
            raise BugError(f"{self._name} ended before it was ready{self._last_words()}")

    def figures(self) -> Figures:
        """What it found; it has ended then.

        Raises
        ------
        BugError
            it failed; the message has the end of what it said.
        InfrastructureError
            it did not end within :data:`DEADLINE_S`.
        """
        with self.said:
            try:
                output, _ = self.process.communicate(timeout=DEADLINE_S)
            except subprocess.TimeoutExpired as error:
                self.process.kill()
                self.process.wait()
                raise InfrastructureError(
                    f"{self._name} did not end within {DEADLINE_S:.0f} s{self._last_words()}"
                ) from error
            if self.process.returncode:
                raise BugError(f"{self._name} ended with {self.process.returncode}{self._last_words()}")
            found: Figures = json.loads(output.splitlines()[-1])
            return found

    @property
    def _name(self) -> str:
        words = self.process.args
        return " ".join(map(str, words)) if isinstance(words, list) else str(words)

    def _last_words(self) -> str:
        self.said.seek(0)
        lines = self.said.read().splitlines()[-SHOWN_LINES:]
        return ", and said:\n" + "\n".join(lines) if lines else ", and said nothing"


def started(words: Sequence[str], environment: Mapping[str, str] = os.environ) -> SideProcess:
    """A command as a side; quiet about warnings."""
    said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed by figures()
    quiet = {**environment, "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(list(words), stdout=subprocess.PIPE, stderr=said, text=True, env=quiet)
    return SideProcess(process, said)


def agent_side(side: str, bootstrap: str, topic: str, out: str, count: int, compare_at: int = 0) -> SideProcess:
    """One of :mod:`skeet.agents.bench_sides`."""
    words = (side, bootstrap, topic, out, str(count), str(compare_at))
    return started((sys.executable, "-m", "skeet.agents.bench_sides", *words))
