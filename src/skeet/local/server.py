"""One of our own servers as a child process: started, awaited, stopped. What tests and tools use by hand."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from skeet.core.errors import InfrastructureError
from skeet.local.children import stop_child, tied

START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 20.0
POLL_INTERVAL_S = 0.02


class ChildServer:
    """``python -m MODULE ARGUMENTS`` that writes its ready file; it dies with this process.

    Parameters
    ----------
    module, arguments
        what to run.
    home
        directory for its output and ready file.
    environment
        variables added to this process's own.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], home: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._home = home
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it is ready; InfrastructureError with its last output when it is not."""
        self._home.mkdir(parents=True, exist_ok=True)
        ready, output = self._home / "ready", self._home / "output.log"
        ready.unlink(missing_ok=True)
        with output.open("ab") as log:
            self._process = subprocess.Popen(
                tied(self._command), stdout=log, stderr=log, env={**self._environment, "SKEET_READY_FILE": str(ready)}
            )
        deadline = time.monotonic() + START_DEADLINE_S
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise InfrastructureError(f"{' '.join(self._command)} did not start: {output.read_text()[-2000:]}")
            time.sleep(POLL_INTERVAL_S)

    def stop(self) -> None:
        """Stop cleanly, killed after a deadline. Idempotent."""
        if self._process is not None:
            stop_child(self._process, STOP_DEADLINE_S)

    def kill(self) -> None:
        """kill -9, for tests of recovery."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait(self, deadline_s: float) -> int:
        """The exit code of a server that ends by itself; InfrastructureError when it does not in time."""
        assert self._process is not None
        try:
            return self._process.wait(deadline_s)
        except subprocess.TimeoutExpired as error:
            raise InfrastructureError(f"{' '.join(self._command)} did not end within {deadline_s} s") from error
