"""Child processes that never outlive their parent, become another user when they must, and a stop that always ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

# A launcher of a few lines instead of a preexec_fn: that one may deadlock in a parent with threads. 1 is
# PR_SET_PDEATHSIG (linux/prctl.h), 15 SIGTERM; a change of user clears it and an exec keeps it, hence the order. A
# parent that died in between is noticed.
_LAUNCHER = """
import ctypes, os, sys
parent, uid, gid = (int(word) for word in sys.argv[1:4])
if uid:
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == parent:
    os.execv(sys.argv[4], sys.argv[4:])
"""


@dataclass(frozen=True, slots=True)
class User:
    """A system user to run a program as."""

    uid: int
    gid: int


def tied(command: Sequence[str], user: User | None = None) -> list[str]:
    """A command line whose process gets SIGTERM when the thread that starts it ends (on Linux), run as ``user``.

    Start it from a thread that lives as long as the child should, usually the main one. ``command[0]`` is absolute.
    """
    ids = (str(user.uid), str(user.gid)) if user else ("0", "0")
    return [sys.executable, "-S", "-E", "-c", _LAUNCHER, str(os.getpid()), *ids, *command]


def become(user: User | None) -> None:
    """Give up this process's rights for those of ``user``, for good; nothing for None."""
    if user is not None:
        os.setgroups([])
        os.setgid(user.gid)
        os.setuid(user.uid)


def stop_child(
    process: subprocess.Popen[bytes], deadline_s: float, stop_signal: signal.Signals = signal.SIGTERM
) -> None:
    """Ask, wait, SIGKILL. Returns once the process is gone and reaped; idempotent."""
    if process.poll() is not None:
        return
    process.send_signal(stop_signal)
    try:
        process.wait(deadline_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
