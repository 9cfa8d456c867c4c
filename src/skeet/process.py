"""What every SKEET process shares: JSON logs, a stop signal, and the word that it is ready.

The supervisor knows a process by three things only: its pid, its exit code, and the file named by ``SKEET_READY_FILE``,
which the process writes once it does its work. SIGTERM asks it to drain (within 20 s), SIGKILL is a normal way to stop.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from pathlib import Path

import structlog

DRAIN_DEADLINE_S = 20.0
"""A role that was asked to stop finishes what it holds within this time; then it is killed."""


class _Stderr:
    """Whatever ``sys.stderr`` is when something is written; a logger that keeps the file itself outlives a closed one."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure_logging(role: str, level: str = "INFO") -> None:
    """One JSON object a line on stderr, with role, level, time (UTC) and event. Secrets are never logged."""
    numeric = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(default=str)],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.PrintLoggerFactory(_Stderr()),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard module; the same lines come out.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=str),
            ],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(handlers=[handler], level=max(numeric, logging.WARNING), force=True)
    structlog.contextvars.bind_contextvars(role=role)


def logger(name: str = "skeet") -> structlog.typing.FilteringBoundLogger:
    """A structured logger: ``log.info("what happened", key=value)``."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return bound


class StopSignal:
    """Set by SIGTERM or SIGINT; loops look at ``stopping`` or wait. Usable from threads and from asyncio."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    @property
    def stopping(self) -> bool:
        """Whether the process was asked to stop."""
        return self._event.is_set()

    def install(self) -> StopSignal:
        """Take SIGTERM and SIGINT (main thread only). Returns itself."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        return self

    def stop(self) -> None:
        """Ask to stop; idempotent."""
        self._event.set()
        for loop, event in self._waiters:
            loop.call_soon_threadsafe(event.set)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block this thread until asked to stop; False when the time ran out first."""
        return self._event.wait(timeout_s)

    async def wait_async(self) -> None:
        """Return once asked to stop."""
        event = asyncio.Event()
        self._waiters.append((asyncio.get_running_loop(), event))
        if self.stopping:
            return
        await event.wait()


READY = threading.Event()
"""Set once this process said that it does its work."""


def announce_ready() -> None:
    """Tell the supervisor that this process does its work. Without a supervisor only ``/readyz`` hears of it."""
    # A full collection of garbage looks at every object, 50,000 to 150,000 of them imported: 60 to 180 ms in which nothing else
    # runs, a second where others want the processor, too. From here on it passes over libraries and the state at the start.
    gc.freeze()
    READY.set()
    target = os.environ.get("SKEET_READY_FILE")
    if target:
        Path(target).write_text(str(os.getpid()))
    logger().info("ready", pid=os.getpid())
