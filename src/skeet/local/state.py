"""``state.json``: what the supervisor knows of its processes, for the next supervisor, ``status`` and ``down``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from skeet.core.errors import Damaged, NewerFormat
from skeet.local.identity import Identity
from skeet.local.plan import State

FORMAT = 1
"""Raised when a field changes its meaning. A newer one is refused: what it says about running processes is not guessed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """One process as last seen. ``since`` is when it got into its state (seconds since the epoch), ``health`` where it
    answers ``/livez``, ``/readyz`` and ``/metrics``."""

    name: str
    state: State
    identity: Identity | None
    restarts: int
    since: float
    last_exit: str
    group: str
    stop_signal: int
    health: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformState:
    """The supervisor, its processes, the ports of the embedded parts, and the parts given by address."""

    supervisor: Identity | None
    processes: tuple[ProcessRecord, ...] = ()
    ports: dict[str, int] = field(default_factory=dict)
    external: tuple[str, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether every process is ready."""
        return bool(self.processes) and all(record.state is State.READY for record in self.processes)


def write_state(path: Path, state: PlatformState) -> None:
    """Replace the file at once, so that a reader never sees half of it."""
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps({"format": FORMAT} | asdict(state), indent=1))
    scratch.replace(path)


def read_state(path: Path) -> PlatformState:
    """The last state written; an empty one when there is none.

    Raises
    ------
    Damaged
        it cannot be read. It is never taken for an empty one: the processes it named may run, and others started beside
        them would write into the same files.
    NewerFormat
        a newer version wrote it.
    """
    if not path.exists():
        return PlatformState(supervisor=None)
    try:
        raw = json.loads(path.read_text())
        found = raw.get("format", FORMAT)
        if found > FORMAT:
            raise NewerFormat(
                f"{path} has format {found}, this version reads up to {FORMAT}: a newer SKEET started this platform; stop it "
                "with that version's `skeet down`, or use that version"
            )
        return PlatformState(
            supervisor=_identity(raw["supervisor"]),
            processes=tuple(_record(record) for record in raw["processes"]),
            ports=raw["ports"],
            external=tuple(raw["external"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(
            f"{path} cannot be read ({type(error).__name__}: {error}); end what still runs of this platform "
            f"(`pgrep -af {path.parent}`), delete the file, and `skeet up` again: it holds nothing else"
        ) from error


def _record(raw: dict[str, Any]) -> ProcessRecord:
    return ProcessRecord(**{**raw, "state": State(raw["state"]), "identity": _identity(raw["identity"])})


def _identity(raw: dict[str, Any] | None) -> Identity | None:
    return Identity(**raw) if raw else None
