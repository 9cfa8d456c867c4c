"""Inside an instance's process: noticing that the user's code does not come back, and the line to the strategies role.

A thread looks many times within the limit. A handler that exceeds it is named with file and line as it stands, the role is
told, and the process ends: nothing in the user's code can catch that. The same thread sends a pulse; where even this thread
cannot run (an extension that holds the interpreter's lock) the pulse stops, and the role asks for a dump and kills.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from skeet.core.errors import InvalidInput
from skeet.core.strategy.places import innermost, place_of

HALTED = 3
"""Exit code of an instance that was halted: it is not started again by itself."""
HALTED_BY_ITSELF = "halted by its own event"
PULSE_S = 0.1
MAX_TEXT = 500
"""Characters of an error's text that are reported."""
STARVED_STEPS = 4
"""A look that came this many times too late was not late because of the handler: the process did not run."""


class Reporter:
    """The writing end of the line to the role: one JSON object a line. Writing never waits and never fails."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        if fd >= 0:
            os.set_blocking(fd, False)
            faulthandler.register(signal.SIGUSR1, file=fd, all_threads=False)

    def pulse(self) -> None:
        """Still alive."""
        self._write({"pulse": 1})

    def ready(self) -> None:
        """It reads its topics: its use of the processor counts from here."""
        self._write({"ready": 1})

    def ending(self, why: str) -> None:
        """It ends for a reason that is not the strategy's."""
        self._write({"ending": why[:MAX_TEXT]})

    def halted(self, reason: str, handler: str, place: tuple[str, int], error: str) -> None:
        """The strategy did what halts it."""
        file, line = place
        self._write({"halted": reason, "handler": handler, "file": file, "line": line, "error": error[:MAX_TEXT]})

    def _write(self, message: dict[str, str | int]) -> None:
        if self._fd >= 0:
            with suppress(OSError):
                os.write(self._fd, json.dumps(message).encode() + b"\n")


class Watch:
    """Knows which handler runs, since when, in which thread. ``begin`` and ``end`` are what the machine calls.

    ``parent`` is the process that this one does not outlive. It is told, not looked up: who looks after the parent died takes
    its foster parent for it, and lives for ever.
    """

    def __init__(self, reporter: Reporter, limit_ms: int, parent: int) -> None:
        self._reporter = reporter
        self._parent = parent
        self._limit_s = limit_ms / 1000
        self._step_s = min(0.05, self._limit_s / 10)
        self._calls = 0
        self._running = ""
        self._thread = 0

    def begin(self, handler: str) -> None:
        """The handler is about to be called."""
        self._calls += 1
        self._thread = threading.get_ident()
        self._running = handler

    def end(self) -> None:
        """It came back."""
        self._running = ""

    @contextmanager
    def running(self, what: str) -> Iterator[None]:
        """User's code outside handlers (its import, its initial state): an error there halts too."""
        self.begin(what)
        try:
            yield
        except BaseException as error:  # a file may also exit while it is imported
            self._end_process("memory" if isinstance(error, MemoryError) else "error", what, *_told(error))
        finally:
            self.end()

    def ready(self) -> None:
        """The instance reads its topics from here on."""
        self._reporter.ready()

    @property
    def orphaned(self) -> bool:
        """Whether the parent is gone."""
        return os.getppid() != self._parent

    def halted(self) -> None:
        """The machine halted the instance, and wrote its own event: however the process ends now, that is why."""
        self._reporter.ending(HALTED_BY_ITSELF)

    def start(self) -> None:
        """Look from now on."""
        threading.Thread(target=self._look, name="watch", daemon=True).start()

    def _look(self) -> None:
        call, ran_s, last, pulsed = 0, 0.0, time.monotonic(), 0.0
        while not self.orphaned:
            time.sleep(self._step_s)
            now = time.monotonic()
            handler = self._running
            # Time in which this thread did not run either is not the handler's: the machine was busy, or we were stopped.
            ran_s = ran_s + min(now - last, STARVED_STEPS * self._step_s) if handler and call == self._calls else 0.0
            call, last = self._calls, now
            if ran_s > self._limit_s:
                self._overrun(handler)
            if now - pulsed >= PULSE_S:
                pulsed = now
                self._reporter.pulse()
        # An orphan would trade beside its successor.
        os._exit(1)

    def _overrun(self, handler: str) -> None:
        frame = sys._current_frames().get(self._thread)
        if handler != self._running:
            return
        text = f"{handler} did not come back within {self._limit_s * 1000:.0f} ms (strategy.limits.event_ms)"
        self._end_process("time", handler, innermost(_places(frame)), text)

    def _end_process(self, reason: str, handler: str, place: tuple[str, int], error: str) -> NoReturn:
        self._reporter.halted(reason, handler, place, error)
        os._exit(HALTED)


def _told(error: BaseException) -> tuple[tuple[str, int], str]:
    """Place and text. Of an error that was translated, the place is the first one's and the text the clearer one."""
    first = error.__cause__ or error
    if isinstance(first, InvalidInput):  # our own refusal (a wrong parameter): nothing of the user's raised it
        return ("", 0), str(error)
    return place_of(first), str(error) if first is not error else f"{type(error).__name__}: {error}"


def _places(frame: FrameType | None) -> list[tuple[str, int]]:
    """File and line of the frame and its callers, outermost first."""
    found: list[tuple[str, int]] = []
    while frame is not None:
        found.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return found[::-1]
