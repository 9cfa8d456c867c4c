"""How far a process stands behind the others for the processor."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def set_niceness(pid: int, niceness: int) -> None:
    """For all threads of the process, and for its session where the system groups by sessions. As far as allowed: without
    privileges, threads only ever become nicer."""
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, int(thread.name), niceness)
    with suppress(OSError):
        # Threads are weighed within their session's group; this is the weight of the group.
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))
