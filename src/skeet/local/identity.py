"""Processes known by pid and start time, so that a pid which the system gave to somebody else is never touched."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

import psutil

START_TOLERANCE_S = 2.0
"""A start time is derived from the wall clock, which may have been set meanwhile; pids are not reused this fast."""

POLL_INTERVAL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One process for ever: its pid, and when it started (seconds since the epoch)."""

    pid: int
    started: float

    @staticmethod
    def of(pid: int) -> Identity:
        """The identity of a running process; psutil.NoSuchProcess when there is none."""
        return Identity(pid=pid, started=psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The running process, or None when it ended (a zombie has ended)."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started) > START_TOLERANCE_S:
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.NoSuchProcess:
            return None

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return self.process() is not None

    def send(self, number: signal.Signals) -> None:
        """Send a signal if it still runs."""
        process = self.process()
        if process is not None:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                return

    def wait_gone(self, deadline_s: float) -> bool:
        """Whether it ended within the time."""
        deadline = time.monotonic() + deadline_s
        while self.alive:
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_INTERVAL_S)
        return True


def sweep_session(leader: Identity) -> list[int]:
    """Kill what a dead session leader left behind (every supervised process leads a session). Returns the pids."""
    if leader.alive:
        return []
    try:
        if abs(psutil.Process(leader.pid).create_time() - leader.started) > START_TOLERANCE_S:
            return []  # the pid, and so perhaps the session id, belongs to somebody else now
    except psutil.NoSuchProcess:
        pass
    killed = []
    for pid in psutil.pids():
        try:
            if pid != leader.pid and os.getsid(pid) == leader.pid:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        except (ProcessLookupError, PermissionError):
            continue
    return killed


def stop(identity: Identity, number: signal.Signals, deadline_s: float) -> None:
    """Ask, wait, kill, and sweep what it left. Returns once it is gone."""
    identity.send(number)
    if not identity.wait_gone(deadline_s):
        identity.send(signal.SIGKILL)
        identity.wait_gone(deadline_s)
    sweep_session(identity)
