"""Outside an instance's process: what it says, what it takes of the machine, and whether that halts it.

:class:`Conduct` judges samples and is pure; :class:`Overseer` takes them. What a process reports of itself can only ever
halt that same process, so nothing it writes needs to be trusted; it is read in bounded pieces.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import psutil

from skeet.config import StrategyLimits
from skeet.core.strategy.places import innermost

MAX_READ = 64 * 1024
"""Bytes taken from an instance's line at one look; a flood of them waits in the pipe and blocks nobody."""
MAX_LINE = 4 * 1024
MAX_FRAMES = 100
REASONS = ("error", "time", "memory", "flood")
"""What an instance may report of itself."""
START_UP_S = 120.0
"""An instance that says nothing of being ready counts as running after this time."""
SILENT_AFTER_LIMITS = 3
"""So many event limits of work without a pulse: even the watching thread inside is held up; at least :data:`SILENT_S`."""
SILENT_S = 2.0
"""Counted in the processor's time: a process that the machine starves, or that is just ending, is silent too."""
BLOCKED_S = 60.0
"""Without a pulse for so long it hangs, whether it uses the processor or not."""
MAX_STEP_S = 0.5
"""More than this between two looks was the role's own delay, and is not held against an instance."""
DUMP_WAIT_S = 0.5

_FRAME = re.compile(r'^\s+File "(?P<file>[^"]*)", line (?P<line>\d+) in (?P<function>\S+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look: monotonic time, processor seconds so far, resident bytes, whether it lives, whether it is stopped."""

    now_s: float
    cpu_s: float
    rss: int
    pulsed: bool
    ready: bool
    stopped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why an instance is halted; ``handler``, ``file`` and ``line`` where they are known."""

    reason: str
    error: str
    handler: str = ""
    file: str = ""
    line: int = 0


@dataclass(slots=True)
class Conduct:
    """Judges one process by samples in order of time."""

    limits: StrategyLimits
    _used: deque[tuple[float, float]] = field(default_factory=deque)
    _began: float | None = None
    _last: float = 0.0
    _silent_s: float = 0.0
    _silent_cpu_s: float = 0.0
    _cpu_s: float = 0.0
    _alive: bool = False

    def judge(self, sample: Sample) -> Verdict | None:
        """The verdict after one more sample; None: it behaves."""
        began = self._began if self._began is not None else sample.now_s
        step = min(sample.now_s - self._last, MAX_STEP_S) if self._began is not None else 0.0
        self._began, self._last = began, sample.now_s
        return (
            self._memory(sample)
            or self._silence(sample, step)
            or (self._processor(sample) if sample.ready or sample.now_s - began > START_UP_S else None)
        )

    def _memory(self, sample: Sample) -> Verdict | None:
        used = sample.rss // (1024 * 1024)
        if used <= self.limits.memory_mb:
            return None
        text = f"{used} MiB of memory, the limit is {self.limits.memory_mb} (strategy.limits.memory_mb)"
        return Verdict(reason="memory", error=text)

    def _silence(self, sample: Sample, step: float) -> Verdict | None:
        """No pulse although it ran: a call of an extension does not come back, and holds the interpreter's lock."""
        self._alive = self._alive or sample.pulsed
        quiet = not sample.pulsed and not sample.stopped and self._alive
        self._silent_s = self._silent_s + step if quiet else 0.0
        self._silent_cpu_s = self._silent_cpu_s + sample.cpu_s - self._cpu_s if quiet else 0.0
        self._cpu_s = sample.cpu_s
        limit = max(SILENT_S, SILENT_AFTER_LIMITS * self.limits.event_ms / 1000)
        if self._silent_cpu_s <= limit and self._silent_s <= BLOCKED_S:
            return None
        text = f"an extension's call did not come back within {limit:.1f} s of processor (strategy.limits.event_ms)"
        return Verdict(reason="time", error=text)

    def _processor(self, sample: Sample) -> Verdict | None:
        used, window = self._used, self.limits.cpu_window_s
        used.append((sample.now_s, sample.cpu_s))
        while len(used) > 2 and sample.now_s - used[1][0] >= window:
            used.popleft()
        if sample.now_s - used[0][0] < window or _percent(used[0], used[-1]) <= self.limits.cpu_percent:
            return None
        text = (
            f"{_percent(used[0], used[-1]):.0f} % of a core for {window} s, "
            f"the limit is {self.limits.cpu_percent} (strategy.limits.cpu_percent)"
        )
        return Verdict(reason="cpu", error=text)


def _percent(first: tuple[float, float], last: tuple[float, float]) -> float:
    return 100 * (last[1] - first[1]) / max(last[0] - first[0], 1e-9)


class Overseer:
    """The reading end of one process's line, and its samples. ``close`` it with the process."""

    def __init__(self, pid: int, fd: int, limits: StrategyLimits) -> None:
        os.set_blocking(fd, False)
        self.explained = ""
        """Why it said it would end; empty: it did not say."""
        self._fd = fd
        self._conduct = Conduct(limits)
        self._rest = b""
        self._pulsed = self._ready = False
        self._frames: list[tuple[str, int]] = []
        self._functions: list[str] = []
        self._told: Verdict | None = None
        try:
            self._process: psutil.Process | None = psutil.Process(pid)
        except psutil.NoSuchProcess:
            self._process = None

    def look(self) -> Verdict | None:
        """What it reported or did since the last look that halts it."""
        self._read()
        if self._told is not None:
            return self._told
        sample = self._sample()
        return self._conduct.judge(sample) if sample is not None else None

    @property
    def ready(self) -> bool:
        """Whether it said that it reads its topics."""
        return self._ready

    def placed(self, verdict: Verdict) -> Verdict:
        """The verdict with the place where the process stands, as far as it can still say (for ``time`` only)."""
        if verdict.file or verdict.reason != "time" or self._process is None:
            return verdict
        with contextlib.suppress(psutil.Error):
            self._process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + DUMP_WAIT_S
        while not self._frames and time.monotonic() < deadline:
            time.sleep(0.01)
            self._read()
        file, line = innermost(self._frames[::-1])
        handler = next((name for name in self._functions if name.startswith("on_")), "")
        return Verdict(reason=verdict.reason, error=verdict.error, handler=handler, file=file, line=line)

    def close(self) -> None:
        """Let go of the line."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _sample(self) -> Sample | None:
        if self._process is None:
            return None
        try:
            with self._process.oneshot():
                times, status = self._process.cpu_times(), self._process.status()
                rss = self._process.memory_info().rss
        except psutil.Error:
            return None
        pulsed, self._pulsed = self._pulsed, False
        return Sample(
            now_s=time.monotonic(),
            cpu_s=times.user + times.system,
            rss=rss,
            pulsed=pulsed,
            ready=self._ready,
            stopped=status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP),
        )

    def _read(self) -> None:
        try:
            received = os.read(self._fd, MAX_READ) if self._fd >= 0 else b""
        except BlockingIOError:
            return
        *lines, self._rest = (self._rest + received).split(b"\n")
        self._rest = self._rest[-MAX_LINE:]
        for line in lines:
            self._take(line[:MAX_LINE].decode(errors="replace"))

    def _take(self, line: str) -> None:
        frame = _FRAME.match(line)
        if frame is not None and len(self._frames) < MAX_FRAMES:
            self._frames.append((frame["file"], int(frame["line"])))
            self._functions.append(frame["function"])
            return
        try:
            message = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            return
        if isinstance(message, dict):
            self._obey(message)

    def _obey(self, message: dict[str, Any]) -> None:
        self._pulsed = self._pulsed or "pulse" in message
        self._ready = self._ready or "ready" in message
        self.explained = self.explained or str(message.get("ending", ""))
        if "halted" in message:
            line = message.get("line")
            self._told = Verdict(
                reason=message["halted"] if message["halted"] in REASONS else "error",
                error=str(message.get("error", "")),
                handler=str(message.get("handler", "")),
                file=str(message.get("file", "")),
                line=line if isinstance(line, int) and 0 <= line < 2**31 else 0,
            )
