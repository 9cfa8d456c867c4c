"""Child processes that never outlive their parent, and a stop that always ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

# A launcher of three lines instead of a preexec_fn: that one may deadlock in a parent with threads. 1 is
# PR_SET_PDEATHSIG (linux/prctl.h), 15 SIGTERM; the setting survives the exec. A parent that died in between is noticed.
_LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def tied(command: Sequence[str]) -> list[str]:
    """A command line whose process gets SIGTERM when the thread that starts it ends (Linux; elsewhere unchanged).

    Start it from a thread that lives as long as the child should, usually the main one. ``command[0]`` is absolute.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-S", "-E", "-c", _LAUNCHER, str(os.getpid()), *command]


def stop_child(process: subprocess.Popen[bytes], deadline_s: float) -> None:
    """SIGTERM, wait, SIGKILL. Returns once the process is gone and reaped; idempotent."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(deadline_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
