"""What a process says about its own health: that its loops go round, and what still keeps it from being ready.

A loop beats (:meth:`Loop.beat`, an assignment); a check answers when it is asked (:meth:`Health.require`); that the work has
begun is said by :func:`skeet.process.announce_ready`. :mod:`skeet.probes` tells it to whoever asks over HTTP, from a thread
that no loop waits for. There is one :data:`HEALTH` to a process, as there is one log.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from skeet.process import READY

LIVE_LIMIT_S = 30.0
"""A loop that did not go round for this long hangs. Its longest honest round: a transaction that hangs ends the process after
15 s; reading the log at a start beats on the way."""

STORE_LIVE_LIMIT_S = 120.0
"""For a loop that waits for a store: an insert behind a heavy query takes a minute and is no hang."""
ASYNC_BEAT_S = 1.0

Check = Callable[[], str]
"""Why the process is not ready; empty when nothing speaks against it. Called in the thread of the HTTP server."""


class Loop:
    """One loop of the process, which must go round within ``limit_s``."""

    __slots__ = ("beat_s", "limit_s", "name")

    def __init__(self, name: str, limit_s: float) -> None:
        self.name = name
        self.limit_s = limit_s
        self.beat_s = time.monotonic()

    def beat(self) -> None:
        """It went round."""
        self.beat_s = time.monotonic()

    @property
    def age_s(self) -> float:
        """Since it last went round."""
        return time.monotonic() - self.beat_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What ``/livez`` and ``/readyz`` answer: 200 when ``ok``, else 503 with the reasons."""

    ok: bool
    reasons: dict[str, str]
    loops: dict[str, float]
    work: dict[str, float]


class Health:
    """What a process knows about its own health. Its loops write, the HTTP thread reads."""

    def __init__(self) -> None:
        self._loops: dict[str, Loop] = {}
        self._of_thread: dict[int, Loop] = {}
        self._checks: dict[str, Check] = {}
        self._work: dict[str, Callable[[], float]] = {}

    def loop(self, name: str, limit_s: float = LIVE_LIMIT_S) -> Loop:
        """Register a loop of the calling thread; it counts from now on, until :meth:`ended`."""
        made = self._loops[name] = Loop(name, limit_s)
        self._of_thread[threading.get_ident()] = made
        return made

    def ended(self, name: str) -> None:
        """The loop ended as it should."""
        self._loops.pop(name, None)

    def beat(self) -> None:
        """The loop of the calling thread is at work in a long round; nothing in a thread without one."""
        found = self._of_thread.get(threading.get_ident())
        if found is not None:
            found.beat()

    async def beat_regularly(self, name: str = "event loop", limit_s: float = LIVE_LIMIT_S) -> None:
        """For a process that lives in an event loop: whatever blocks the loop stops these beats. Never returns."""
        mine = self.loop(name, limit_s)
        while True:
            await asyncio.sleep(ASYNC_BEAT_S)
            mine.beat()

    def require(self, name: str, check: Check) -> None:
        """The process is ready only while ``check`` has nothing to say. The same name again replaces it."""
        self._checks[name] = check

    def release(self, name: str) -> None:
        """Require that no more; idempotent."""
        self._checks.pop(name, None)

    def work(self, name: str, count: Callable[[], float]) -> None:
        """A count of work done that ``/livez`` shows, for an outside watchdog to compare with the log."""
        self._work[name] = count

    def live(self) -> Word:
        """Whether every loop goes round."""
        late = {
            name: f"did not go round for {loop.age_s:.1f} s; the limit is {loop.limit_s:.0f} s"
            for name, loop in tuple(self._loops.items())
            if loop.age_s > loop.limit_s
        }
        return self._word(late)

    def ready(self) -> Word:
        """Whether it lives, said that it does its work, and nothing required is missing."""
        reasons = dict(self.live().reasons)
        if not READY.is_set():
            reasons["start"] = "it has not said yet that it does its work"
        for name, check in tuple(self._checks.items()):
            try:
                reason = check()
            except Exception as error:  # a client that is being closed
                reason = f"cannot be told: {type(error).__name__}: {error}"
            if reason:
                reasons[name] = reason
        return self._word(reasons)

    def _word(self, reasons: dict[str, str]) -> Word:
        loops = {name: round(loop.age_s, 3) for name, loop in tuple(self._loops.items())}
        work = {name: count() for name, count in tuple(self._work.items())}
        return Word(ok=not reasons, reasons=reasons, loops=loops, work=work)


HEALTH = Health()
"""Of this process."""
