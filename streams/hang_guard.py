"""Ends the process when a call into a C library does not come back.

librdkafka has been seen to deadlock inside after its broker was killed: a call with a timeout of five seconds then waits
for ever, in a thread that Python cannot interrupt. What such a process holds is in the log or is not; its successor finds
out. So ending at once is safe, and waiting is not.
"""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType

from skeet.process import logger

LOOK_S = 0.5
EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h: an internal software error."""


class HangGuard:
    """A context around calls that may hang. One at a time; entering costs two assignments.

    Parameters
    ----------
    what
        named in the log when the process ends.
    limit_s
        how long the body may take.
    """

    def __init__(self, what: str, limit_s: float) -> None:
        self._what = what
        self._limit_s = limit_s
        self._until: float | None = None
        threading.Thread(target=self._watch, name=f"hang-guard {what}", daemon=True).start()

    def __enter__(self) -> None:
        self._until = time.monotonic() + self._limit_s

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._until = None

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_S)
            until = self._until
            if until is not None and time.monotonic() > until:
                logger().critical("hangs: the process ends", what=self._what, limit_s=self._limit_s)
                os._exit(EXIT_CODE)
