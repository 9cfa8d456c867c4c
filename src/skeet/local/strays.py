"""Processes of an installation that no state.json names: their supervisor was killed between starting them and noting it.

Beside their successors two feeds would write every trade twice, and a broker's port would be taken. They are known by a
variable of their environment that only this installation's processes carry.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

import psutil

from skeet.local.identity import Identity
from skeet.local.installation import Installation

READY_VARIABLE = "SKEET_READY_FILE"
GONE_DEADLINE_S = 10.0


def stop_strays(installation: Installation, known: Iterable[Identity]) -> list[str]:
    """SIGKILL every process of the installation that no known one started. Returns their names, once gone.

    To be called while no supervisor runs there, or by the one that holds the lock.
    """
    roots = {identity.pid for identity in known} | {os.getpid()}
    found = [
        (name, Identity(pid=process.pid, started=process.create_time()))
        for process in psutil.process_iter()
        if (name := _started_as(process, installation)) and not _descends(process, roots)
    ]
    for _, identity in found:
        identity.send(signal.SIGKILL)
    for _, identity in found:
        identity.wait_gone(GONE_DEADLINE_S)
    return sorted({name for name, _ in found})


def _started_as(process: psutil.Process, installation: Installation) -> str:
    """Its name in this installation; empty for a process of anybody else."""
    prefix, suffix = f"{installation.ready}{os.sep}", ".ready"
    try:
        ready = str(process.environ().get(READY_VARIABLE, ""))
    except (psutil.Error, OSError):
        return ""  # another user's, or gone
    return ready.removeprefix(prefix).removesuffix(suffix) if ready.startswith(prefix) else ""


def _descends(process: psutil.Process, roots: set[int]) -> bool:
    """Whether it is one of them or was started by one; PostgreSQL's backends have sessions of their own."""
    try:
        return not roots.isdisjoint({process.pid, *(parent.pid for parent in process.parents())})
    except psutil.Error:
        return True
