"""The life of a projection process: one session after another, with growing pauses while a store or the broker is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from skeet.core.errors import InfrastructureError
from skeet.core.values import NS_PER_S
from skeet.health import HEALTH, STORE_LIVE_LIMIT_S
from skeet.metrics import Source
from skeet.process import StopSignal, announce_ready, logger
from skeet.streams.catching_up import Progress

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
HEALTHY_AFTER_S = 30.0
"""A session that lived this long was healthy: the next pause begins small again."""


class ReadyOnce:
    """Announces readiness the first time it is called."""

    def __init__(self) -> None:
        self._done = False

    def __call__(self) -> None:
        if not self._done:
            self._done = True
            announce_ready()


class ProjectionAge:
    """How old what the store holds is: since the last stored record was written, while newer ones wait; else 0."""

    def __init__(self, name: str, progress: Progress) -> None:
        self._name = name
        self._progress = progress
        self._stored_ns = time.time_ns()
        self._source = Source("skeet_projection_age_seconds", self._age).register()

    def stored(self, log_ns: int) -> None:
        """Records up to this time of the log are in the store."""
        self._stored_ns = log_ns

    def close(self) -> None:
        """Expose it no more."""
        self._source.unregister()

    def _age(self) -> Mapping[tuple[str, ...], float]:
        waits = any(self._progress.lag().values())
        return {(self._name,): max(0, time.time_ns() - self._stored_ns) / NS_PER_S if waits else 0.0}


def run_sessions(stop: StopSignal, session: Callable[[], None]) -> int:
    """Run sessions until asked to stop. Returns the exit code.

    What is away is retried for ever, since nothing is lost by waiting: the log keeps what was not stored. Errors that a
    pause cannot heal (a changed migration, an unreadable account event) leave.
    """
    pause_s = FIRST_PAUSE_S
    HEALTH.loop("sessions", STORE_LIVE_LIMIT_S)
    while not stop.stopping:
        HEALTH.beat()
        began_s = time.monotonic()
        try:
            session()
        except InfrastructureError as error:
            if time.monotonic() - began_s > HEALTHY_AFTER_S:
                pause_s = FIRST_PAUSE_S
            logger().warning("session ended; starting another", error=str(error), pause_s=pause_s)
            stop.wait(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
    return 0
