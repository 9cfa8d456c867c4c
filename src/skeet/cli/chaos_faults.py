"""Doing one fault: to a process, at a crash point, at the exchange, to everything; each returns when the fault is over."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from urllib.request import Request, urlopen

import psutil

from skeet.cli import demo
from skeet.cli.chaos_platform import GONE_DEADLINE_S, ChaosPlatform
from skeet.cli.chaos_schedule import MACHINE, MISBEHAVIOURS, STRATEGY, Fault, FaultKind
from skeet.cli.exchange_admin import ExchangeAdmin
from skeet.config import Settings
from skeet.core.errors import SkeetError
from skeet.local.identity import Identity
from skeet.streams import crash_points
from skeet.streams.crash_points import Arming, CrashPoint, chaos_directory, point_named

POINT_DEADLINE_S = 30.0
"""A point that is not passed within this time is not on the way of what happens now."""
LOOK_S = 0.1
REGISTRY_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was done. ``over_ns``: when it was over (wall clock); ``fired``: whether it happened at all."""

    over_ns: int
    fired: bool = True
    note: str = ""
    mend: Callable[[], None] | None = None
    """What must be done by hand afterwards, because the fault took it away by intention."""


class Faults:
    """Does faults on one running platform."""

    def __init__(self, settings: Settings, platform: ChaosPlatform) -> None:
        self._settings = settings
        self._platform = platform
        self._points = chaos_directory(settings)

    def do(self, fault: Fault) -> Done:
        """Do it, and return once it is over: killed, continued, told.

        Raises
        ------
        InfrastructureError
            what should be harmed does not run.
        """
        match fault.kind:
            case FaultKind.KILL:
                self._platform.kill(fault.target)
                return self._again_if_supervisor(fault.target, Done(over_ns=time.time_ns()))
            case FaultKind.PAUSE:
                return self._pause(fault)
            case FaultKind.POINT:
                return self._crash_at(point_named(fault.target), Arming(nth=int(fault.amount)))
            case FaultKind.EXCHANGE:
                ExchangeAdmin(self._settings).behave({MISBEHAVIOURS[fault.target]: int(fault.amount)})
                return Done(over_ns=time.time_ns())
            case FaultKind.EVERYTHING:
                self._platform.kill_all(supervisor=fault.target == MACHINE)
                return self._again_if_supervisor(
                    "supervisor" if fault.target == MACHINE else "", Done(over_ns=time.time_ns())
                )

    def _again_if_supervisor(self, killed: str, done: Done) -> Done:
        if killed == "supervisor":
            self._platform.up()
        return done

    def _pause(self, fault: Fault) -> Done:
        frozen = self._platform.freeze(fault.target)
        try:
            time.sleep(fault.amount)
        finally:
            self._platform.resume(frozen)
        return Done(over_ns=time.time_ns())

    # --- crash points -------------------------------------------------------------------------------------------------

    def _crash_at(self, point: CrashPoint, arming: Arming) -> Done:
        self._points.arm(point, arming)
        mend = self._provoke(point)
        pid = self.fired(point, POINT_DEADLINE_S)
        if pid is None:
            self._points.disarm(point)
            return Done(over_ns=time.time_ns(), fired=False, note="not reached", mend=mend)
        await_gone(pid)
        done = Done(over_ns=time.time_ns(), mend=mend)
        return self._again_if_supervisor(point.role, done)

    def fired(self, point: CrashPoint, deadline_s: float) -> int | None:
        """Pid of the process that fired the armed point; None when none did in time."""
        until = time.monotonic() + deadline_s
        while time.monotonic() < until:
            if (pid := self._points.spent_by(point.name)) is not None:
                return pid
            time.sleep(LOOK_S)
        return None

    def _provoke(self, point: CrashPoint) -> Callable[[], None] | None:
        """Points off the daily way are made to be passed; what to do afterwards."""
        match point:
            case crash_points.FEED_IN_GAP_FILL:
                self._platform.kill("feed")  # what the market does meanwhile is the gap that its successor fills
            case crash_points.STRATEGIES_BEFORE_START | crash_points.STRATEGIES_AFTER_START:
                self._platform.kill(STRATEGY)
            case crash_points.STRATEGIES_BEFORE_WITHDRAW:
                demo.stop_strategy(demo.ACCOUNTS[0])
                return lambda: demo.start_strategy(demo.ACCOUNTS[0])
            case crash_points.SUPERVISOR_AFTER_START:
                self._platform.kill("projection-postgres")
            case crash_points.REGISTRY_AFTER_APPEND:
                register_a_schema(self._settings)
                return lambda: register_a_schema(self._settings)
            case _:
                pass
        return None


def register_a_schema(settings: Settings) -> None:
    """Register a new version under a subject of the run's own; an answer is not waited for longer than a moment."""
    name = f"ChaosAt{time.time_ns()}"
    schema = json.dumps({"type": "record", "name": name, "namespace": "skeet.chaos", "fields": []})
    body = json.dumps({"schema": schema}).encode()
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    request = Request(f"{settings.registry.url}/subjects/chaos-{name}/versions", body, headers)
    try:
        urlopen(request, timeout=REGISTRY_TIMEOUT_S).close()
    except (OSError, HTTPException):
        return


def lenient_about_ids(settings: Settings) -> bool:
    """Let the exchange take one client order id any number of times, so that a second sending would show; whether it
    heard."""
    try:
        ExchangeAdmin(settings).behave({"duplicate_client_ids": "none"})
    except SkeetError:
        return False
    return True


def await_gone(pid: int) -> None:
    """Return once the process is no more, a moment after it sent itself SIGKILL."""
    until = time.monotonic() + GONE_DEADLINE_S
    while time.monotonic() < until:
        try:
            if not Identity.of(pid).alive:
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(LOOK_S / 10)
