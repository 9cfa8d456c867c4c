"""Who keeps the processor goes behind whoever waits for it, long before a limit halts anybody.

What counts is what a process took of the processor against the time in which it could have slept: four instances that loop
on two cores get half a core each and look moderate, but none of them ever sleeps; one that the machine starves waits, and
takes little. :class:`Demand` judges and is pure; :class:`Priorities` looks at all instances fifty times a second and sets
their niceness. Being behind costs nothing on an idle machine. Who takes little is on an order's way and goes before whoever
is not, where the system allows it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from skeet.niceness import set_niceness

NICENESS = 19
"""Of an instance that is behind: a sixtieth of the weight of everybody else."""
RANK = -3
"""Of an instance that takes little: twice the weight of whoever is on no order's way, and less than desk and gateway, for whom
all accounts wait."""
SHARE = 0.3
"""Processor seconds that an instance may take in a second in which it does not stand in line for the processor."""
LEAST = 0.1
"""What each of many may take in any second: so little is nobody's burden, however long it stands in line."""
FEW = 0.25
"""What each of a few may: all together a quarter of the machine. A machine that is full anyhow makes everybody stand in line,
and who is put behind for that stands in line for longer, and hardly gets out of it."""
BURST_S = 0.03
"""What it may take on top of that, at once."""
CALM_S = 3.0
"""So long after it last took too much, it is nobody's burden any more."""
LOOK_S = 0.02
"""Between two looks. One look at one process costs 15 µs."""
MAX_STEP_S = 0.5
"""More between two looks was this role's own delay."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look: monotonic time, and since the process began the seconds that it ran and that it stood in line."""

    now_s: float
    ran_s: float
    waited_s: float = 0.0


@dataclass(slots=True)
class Demand:
    """What one process takes of the processor, as a leaking bucket. ``behind`` is the judgement, ``least`` what it may take
    in any second."""

    behind: bool = False
    least: float = LEAST
    _excess_s: float = 0.0
    _calm_s: float = 0.0
    _last: Seen | None = None

    def judge(self, seen: Seen) -> bool:
        """Whether it has to stand behind the others after one more look."""
        before, self._last = self._last, seen
        if before is None:
            return self.behind
        step = min(seen.now_s - before.now_s, MAX_STEP_S)
        ran = min(seen.ran_s - before.ran_s, MAX_STEP_S)
        free = max(0.0, step - (seen.waited_s - before.waited_s))
        self._excess_s = min(max(0.0, self._excess_s + ran - max(SHARE * free, self.least * step)), BURST_S)
        if self._excess_s >= BURST_S:
            self.behind, self._calm_s = True, 0.0
        else:
            self._calm_s += step
            self.behind = self.behind and self._calm_s < CALM_S
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
        before = self._followed
        self._followed = {pid: before.get(pid) or Demand() for pid in pids}
        for pid in self._followed.keys() - before.keys():
            set_niceness(pid, RANK)
        for demand in self._followed.values():
            demand.least = least_of(len(self._followed), os.cpu_count() or 1)

    def followed(self) -> list[Demand]:
        """The judgements about those who are followed."""
        return list(self._followed.values())

    def look(self) -> None:
        """One look at all of them."""
        for pid, demand in self._followed.items():
            before = demand.behind
            try:
                seen = sight(pid)
            except OSError:  # it ended, and is not followed for much longer
                continue
            if demand.judge(seen) != before:
                set_niceness(pid, NICENESS if demand.behind else RANK)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.look()


def least_of(instances: int, cores: int) -> float:
    """What each of so many may take in any second."""
    return min(max(LEAST, FEW * cores / instances), FEW)


def sight(pid: int) -> Seen:
    """A look at the process: the running of all its threads, the waiting of its first, which calls the handlers.

    Raises
    ------
    OSError
        there is no such process (any more).
    """
    ran = time.clock_gettime(~pid << 3 | 2)  # the clock that clock_getcpuclockid(3) names
    try:
        waited_ns = int(Path(f"/proc/{pid}/schedstat").read_bytes().split()[1])
    except FileNotFoundError:  # a kernel without scheduler statistics: nobody seems to wait
        waited_ns = 0
    return Seen(time.monotonic(), ran, waited_ns / 1e9)
