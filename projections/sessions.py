"""The life of a projection process: one session after another, with growing pauses while a store or the broker is away."""

from __future__ import annotations

import time
from collections.abc import Callable

from skeet.core.errors import InfrastructureError
from skeet.process import StopSignal, announce_ready, logger

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


def run_sessions(stop: StopSignal, session: Callable[[], None]) -> int:
    """Run sessions until asked to stop. Returns the exit code.

    What is away is retried for ever, since nothing is lost by waiting: the log keeps what was not stored. Errors that a
    pause cannot heal (a changed migration, an unreadable account event) leave.
    """
    pause_s = FIRST_PAUSE_S
    while not stop.stopping:
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
