"""Who keeps the processor goes behind whoever waits for it, long before a limit halts anybody.

What counts is not what a process got but what it wanted: the time it ran and the time it stood in line. Four instances
that loop on two cores get half a core each and look moderate; each of them wants a whole one. :class:`Demand` judges and is
pure; :class:`Priorities` looks at all instances fifty times a second and sets their niceness. Being behind costs nothing
on an idle machine.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

NICENESS = 19
"""Of an instance that is behind: a sixtieth of the weight of everybody else."""
SHARE = 0.3
"""Processor seconds a second that an instance may want for as long as it likes."""
BURST_S = 0.03
"""What it may want on top of that, at once."""
CALM_S = 5.0
"""Without any excess for so long, it is nobody's burden any more."""
LOOK_S = 0.02
"""Between two looks. One look at one process costs 15 µs."""
MAX_STEP_S = 0.5
"""More between two looks was this role's own delay."""

Wanted = tuple[float, float]
"""Monotonic time, and the seconds a process ran or waited for a core, since it began."""


@dataclass(slots=True)
class Demand:
    """What one process wants of the processor, as a leaking bucket. ``behind`` is the judgement."""

    behind: bool = False
    _excess_s: float = 0.0
    _calm_s: float = 0.0
    _last: Wanted | None = None

    def judge(self, seen: Wanted) -> bool:
        """Whether it has to stand behind the others after one more look."""
        before, self._last = self._last, seen
        if before is None:
            return self.behind
        step = min(seen[0] - before[0], MAX_STEP_S)
        wanted = min(seen[1] - before[1], MAX_STEP_S)
        self._excess_s = min(max(0.0, self._excess_s + wanted - SHARE * step), BURST_S)
        self._calm_s = self._calm_s + step if self._excess_s == 0 else 0.0
        if self._excess_s >= BURST_S:
            self.behind = True
        elif self._calm_s >= CALM_S:
            self.behind = False
        return self.behind


class Priorities:
    """Follows processes by pid, in a thread of its own. An instance that is only just starting is not followed yet."""

    def __init__(self) -> None:
        self._followed: dict[int, Demand] = {}
        self._stop = threading.Event()

    def start(self) -> None:
        """Look from now on, until ``close``."""
        threading.Thread(target=self._run, name="priorities", daemon=True).start()

    def close(self) -> None:
        """Look no more."""
        self._stop.set()

    def follow(self, pids: Iterable[int]) -> None:
        """These and no others, from the next look on; who was followed before keeps its history."""
        self._followed = {pid: self._followed.get(pid) or Demand() for pid in pids}

    def look(self) -> None:
        """One look at all of them."""
        for pid, demand in self._followed.items():
            before = demand.behind
            try:
                seen = wanted(pid)
            except OSError:  # it ended, and is not followed for much longer
                continue
            if demand.judge(seen) != before:
                set_niceness(pid, NICENESS if demand.behind else 0)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.look()


def wanted(pid: int) -> Wanted:
    """What the process took of the processor, with all its threads, and how long its first thread stood in line for it.

    Raises
    ------
    OSError
        there is no such process (any more).
    """
    used = time.clock_gettime(~pid << 3 | 2)  # the clock that clock_getcpuclockid(3) names
    try:
        waited_ns = int(Path(f"/proc/{pid}/schedstat").read_bytes().split()[1])
    except FileNotFoundError:  # a kernel without scheduler statistics: what it got has to do
        waited_ns = 0
    return time.monotonic(), used + waited_ns / 1e9


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
