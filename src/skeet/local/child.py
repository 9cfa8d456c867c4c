"""One supervised process: started with its log file and ready file, looked at, stopped. Deciding is the supervisor's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from skeet.local.identity import Identity, sweep_session
from skeet.local.installation import Installation
from skeet.local.plan import ProcessSpec, State
from skeet.local.state import ProcessRecord
from skeet.niceness import set_niceness
from skeet.probes import read_address

MAX_LOG_BYTES = 32 * 1024 * 1024
"""Per process; one older file of this size is kept beside it."""


class Child:
    """A process of a spec, started by us or taken over from a supervisor that was killed."""

    def __init__(self, spec: ProcessSpec, installation: Installation, environment: Mapping[str, str]) -> None:
        self.spec = spec
        self.state = State.WAITING
        self.since = time.time()
        self.restarts = 0
        self.failures = 0
        self.last_exit = ""
        self.identity: Identity | None = None
        self._popen: subprocess.Popen[bytes] | None = None
        self._health = ""
        self._ready = installation.ready / f"{spec.name}.ready"
        self._log = installation.logs / f"{spec.name}.log"
        who = {} if spec.principal is None else {"SKEET_KAFKA__SASL_USERNAME": spec.principal}
        self._environment = {**environment, **spec.environment, **who, "SKEET_READY_FILE": str(self._ready)}

    def start(self) -> None:
        """Start it in a session of its own: a Ctrl-C at the terminal reaches the supervisor only."""
        self._ready.unlink(missing_ok=True)
        self._ready.with_suffix(".health").unlink(missing_ok=True)
        rotate(self._log)
        with self._log.open("ab") as log:
            self._popen = subprocess.Popen(
                self.spec.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        self.identity = Identity.of(self._popen.pid)
        if self.spec.niceness:
            set_niceness(self._popen.pid, self.spec.niceness)
        self.enter(State.STARTING)

    def adopt(self, record: ProcessRecord) -> bool:
        """Take over a process that an earlier supervisor started, if it still runs and was ready."""
        if record.identity is None or not record.identity.alive or not self._ready.exists():
            return False
        self.identity, self.restarts, self.since = record.identity, record.restarts, record.since
        self.state, self.last_exit = State.READY, record.last_exit
        return True

    def ended(self) -> bool:
        """Whether it is gone; if so, whatever it started is gone too, and ``last_exit`` says how it ended."""
        if self._popen is not None:
            code = self._popen.poll()
            if code is None:
                return False
            self.last_exit = _exit_text(code)
        elif self.identity is None or self.identity.alive:
            return self.identity is None
        else:
            self.last_exit = "ended"
        if self.identity is not None:
            sweep_session(self.identity)
        return True

    @property
    def succeeded(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self._popen is not None and self._popen.poll() == 0

    @property
    def is_ready(self) -> bool:
        """Whether it said that it does its work."""
        return self._ready.exists()

    @property
    def health(self) -> str:
        """Where it answers about its health; empty for programs that are not ours, and while it is not running."""
        if not self._health and self.identity is not None:
            self._health = read_address(self._ready.with_suffix(".health"))
        return self._health

    def enter(self, state: State) -> None:
        """Note a new state and its time."""
        self.state, self.since = state, time.time()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal if it runs."""
        if self.identity is not None:
            self.identity.send(number)

    def forget(self) -> None:
        """It is gone: no pid, no ready file."""
        self.identity, self._popen, self._health = None, None, ""
        self._ready.unlink(missing_ok=True)

    def record(self) -> ProcessRecord:
        """Its line of state.json."""
        return ProcessRecord(
            name=self.spec.name,
            state=self.state,
            identity=self.identity,
            restarts=self.restarts,
            since=self.since,
            last_exit=self.last_exit,
            group=self.spec.group,
            stop_signal=int(self.spec.stop_signal),
            health=self.health if self.state is State.READY else "",
        )

    def trim_log(self) -> None:
        """Keep the log within its limit while the process writes to it (it appends, so cutting is safe)."""
        if self._log.exists() and self._log.stat().st_size > MAX_LOG_BYTES:
            shutil.copyfile(self._log, self._log.with_suffix(".log.1"))
            os.truncate(self._log, 0)


def rotate(log: Path) -> None:
    """Put a full log aside before a process that will write to it starts."""
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))


def _exit_text(code: int) -> str:
    return f"exit {code}" if code >= 0 else signal.Signals(-code).name
