"""The platform as a chaos run sees it: processes by name, found in state.json, to be killed, frozen and waited for."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterable

import psutil

from skeet.cli.chaos_schedule import STRATEGY
from skeet.config import Settings
from skeet.core.errors import InfrastructureError, InvalidInput
from skeet.local.identity import Identity
from skeet.local.installation import Installation
from skeet.local.state import PlatformState, read_state
from skeet.wiring import PLATFORM

UP_DEADLINE_S = 240.0
GONE_DEADLINE_S = 10.0


class ChaosPlatform:
    """One installation's processes."""

    def __init__(self, settings: Settings) -> None:
        self._installation = Installation(settings.data.absolute())

    @property
    def state(self) -> PlatformState:
        """What the supervisor last wrote."""
        return read_state(self._installation.state_file)

    @property
    def whole(self) -> bool:
        """Whether the supervisor lives and every process is ready and alive."""
        state = self.state
        alive = all(r.identity is None or r.identity.alive for r in state.processes)
        return state.supervisor is not None and state.supervisor.alive and state.settled and alive

    @property
    def missing(self) -> list[str]:
        """What is not ready now, by name."""
        state = self.state
        if state.supervisor is None or not state.supervisor.alive:
            return ["supervisor"]
        return [r.name for r in state.processes if r.state != "ready" or (r.identity and not r.identity.alive)]

    @property
    def has_crash_points(self) -> bool:
        """Whether the running processes look for armed points: the supervisor's environment says so."""
        supervisor = self.state.supervisor
        process = supervisor.process() if supervisor else None
        return process is not None and process.environ().get("SKEET_CHAOS__ENABLED", "") in ("1", "true", "True")

    def identity(self, name: str) -> Identity:
        """The process of this name; ``strategy`` is the first instance.

        Raises
        ------
        InfrastructureError
            it does not run.
        """
        state = self.state
        if name == "supervisor" and state.supervisor is not None:
            return state.supervisor
        if name == STRATEGY:
            return self._instances()[0]
        for record in state.processes:
            if record.name == name and record.identity is not None and record.identity.alive:
                return record.identity
        raise InfrastructureError(f"{name} does not run; see `skeet status`")

    def kill(self, name: str) -> None:
        """SIGKILL: the process; of Kafka, Postgres and ClickHouse also the server that it started."""
        identity = self.identity(name)
        _kill(_family(identity) if name in PLATFORM else [identity])

    def kill_all(self, *, supervisor: bool) -> None:
        """SIGKILL every process of the platform, the supervisor first if at all."""
        state = self.state
        victims = [state.supervisor] if supervisor and state.supervisor is not None else []
        for record in state.processes:
            if record.identity is not None:
                victims += _family(record.identity)
        _kill(victims)

    def freeze(self, name: str) -> list[Identity]:
        """SIGSTOP, with the server where there is one; what to give to :meth:`resume`."""
        identity = self.identity(name)
        frozen = _family(identity) if name in PLATFORM else [identity]
        for each in frozen:
            each.send(signal.SIGSTOP)
        return frozen

    def resume(self, frozen: Iterable[Identity]) -> None:
        """SIGCONT, to those that still are."""
        for each in frozen:
            each.send(signal.SIGCONT)

    def up(self) -> None:
        """`skeet up`.

        Raises
        ------
        InfrastructureError
            its last words.
        """
        done = subprocess.run(
            [sys.executable, "-m", "skeet", "up"], capture_output=True, text=True, timeout=UP_DEADLINE_S, check=False
        )
        if done.returncode:
            raise InfrastructureError(f"skeet up: {done.stderr.strip() or done.stdout.strip()}")

    def _instances(self) -> list[Identity]:
        parent = self.identity("strategies").process()
        children = parent.children(recursive=True) if parent is not None else []
        found = [Identity.of(child.pid) for child in children if "strategy" in _words(child)]
        if not found:
            raise InvalidInput("no strategy runs; start one with `skeet strategy start`, or the demo")
        return found


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


def _family(identity: Identity) -> list[Identity]:
    """The process and all that it started."""
    process = identity.process()
    children = process.children(recursive=True) if process is not None else []
    return [identity, *(Identity(pid=child.pid, started=child.create_time()) for child in children)]


def _kill(victims: Iterable[Identity]) -> None:
    """SIGKILL to all, then wait until they are gone: only from then on can anything be well again."""
    doomed = list(victims)
    for each in doomed:
        each.send(signal.SIGKILL)
    for each in doomed:
        each.wait_gone(GONE_DEADLINE_S)
