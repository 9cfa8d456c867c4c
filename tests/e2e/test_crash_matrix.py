"""Every crash point, every kill, every freeze on one running demo, with orders in flight: nothing lost, nothing doubled.

The exchange takes a client order id any number of times here, so a second sending would stand in its journal.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import Installation, eventually

from skeet.cli import demo
from skeet.cli.chaos_faults import Faults
from skeet.cli.chaos_platform import ChaosPlatform
from skeet.cli.chaos_report import doubled_orders
from skeet.cli.chaos_run import recovered
from skeet.cli.chaos_schedule import MACHINE, MISBEHAVIOURS, ON_THE_WAY, OUTLIVING, ROLES, Fault, FaultKind
from skeet.cli.chaos_trades import TradeWatch
from skeet.config import Settings, load_settings
from skeet.core.values import NS_PER_S
from skeet.local.identity import Identity
from skeet.streams.crash_points import (
    DESK_BEFORE_COMMIT,
    GATEWAY_AFTER_ATTEMPT_COMMIT,
    STRATEGY_BEFORE_COMMANDS,
    Action,
    Arming,
    CrashPoint,
    chaos_directory,
)

pytestmark = [pytest.mark.e2e, pytest.mark.acceptance, pytest.mark.timeout(600)]

ENVIRONMENT = {
    "SKEET_CHAOS__ENABLED": "1",
    "SKEET_DESK__SNAPSHOT_EVERY": "100",
    "SKEET_SIM__DUPLICATE_CLIENT_IDS": "none",
    # A short past: the start is not what is tested here, and every restarted worker would fold it again.
    "SKEET_SIM__HISTORY_DAYS": "1",
    "SKEET_SIM__HISTORY_TRADES_MINUTES": "5",
    "SKEET_FEED__HISTORY_DAYS": "1",
    "SKEET_FEED__HISTORY_TRADES_HOURS": "0.05",
}
ORDERS_BETWEEN_VERIFIES = 500
FREEZE_S = 14.0
"""Longer than the session timeout (10 s): a frozen member's partitions are taken from it."""
ZOMBIE_S = 60.0
COMMANDS_VALID_NS = 11 * NS_PER_S
"""A strategy's command is valid for ten seconds from its cause."""


class Platform:
    """The running demo, what trades on it, and how it is harmed."""

    def __init__(self, installation: Installation, settings: Settings, watch: TradeWatch) -> None:
        self.installation = installation
        self.settings = settings
        self.processes = ChaosPlatform(settings)
        self.faults = Faults(settings, self.processes)
        self.points = chaos_directory(settings)
        self._watch = watch
        self._verified_at = 0

    def harm(self, fault: Fault) -> None:
        """Do it, require that it happened and that new orders trade; now and then that all stores agree."""
        done = self.faults.do(fault)
        assert done.fired, f"{fault.text}: {done.note}"
        self.trades_on(done.over_ns, fault.text)
        if done.mend is not None:
            done.mend()
            self.trades_on(time.time_ns(), f"what was put right after {fault.text}")
        if self._watch.traded - self._verified_at > ORDERS_BETWEEN_VERIFIES:
            self._verified_at = self._watch.traded
            self.agrees()

    def trades_on(self, over_ns: int, after: str) -> None:
        """An order authorised after the moment is filled, and every process is ready."""
        recovery_s, whole_s = recovered(self.settings, self.processes, self._watch, over_ns)
        assert recovery_s is not None, f"no new order filled after {after}"
        assert whole_s is not None, f"not ready after {after}: {self.processes.missing}"

    def frozen_at(self, point: CrashPoint) -> Identity:
        """A process that froze at the point."""
        self.points.arm(point, Arming(action=Action.STOP))
        pid = self.faults.fired(point, ZOMBIE_S)
        assert pid is not None, f"{point.name} was not passed"
        return Identity.of(pid)

    def trades_meanwhile(self, since_ns: int) -> None:
        """An order authorised after the moment is filled, whoever may be missing."""
        eventually(lambda: self._watch.first_after(since_ns), 60, "orders while one process is frozen")

    def agrees(self) -> None:
        """`verify` finds no difference while trading goes on, and the exchange accepted no order twice."""
        self.installation.skeet("verify")
        assert doubled_orders(self.settings.data) == []


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    data = Path(tempfile.mkdtemp(prefix="skeet-crash-"))
    data.chmod(0o755)
    installed = Installation(data)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("SKEET_DATA", str(data))
        installed.environment = dict(os.environ)
        try:
            installed.skeet("demo", "--no-watch")
            settings = load_settings()
            with TradeWatch(settings) as watch:
                made = Platform(installed, settings, watch)
                made.trades_on(time.time_ns(), "the start")
                yield made
        finally:
            installed.skeet("down", expect=None)
            shutil.rmtree(data, ignore_errors=True)


@pytest.mark.parametrize("point", ON_THE_WAY, ids=lambda point: point.name)
def test_crash_with_orders_in_flight_loses_and_doubles_nothing(platform: Platform, point: CrashPoint) -> None:
    platform.harm(Fault(at_s=0, kind=FaultKind.POINT, target=point.name, amount=1))


@pytest.mark.parametrize("name", ["kafka", "postgres", "clickhouse", "registry", "sim"])
def test_server_killed_under_load_comes_back_and_nothing_is_missing(platform: Platform, name: str) -> None:
    platform.harm(Fault(at_s=0, kind=FaultKind.KILL, target=name))


@pytest.mark.parametrize("target", [ROLES, MACHINE])
def test_everything_killed_at_once_trades_again(platform: Platform, target: str) -> None:
    platform.harm(Fault(at_s=0, kind=FaultKind.EVERYTHING, target=target))


@pytest.mark.parametrize("target", MISBEHAVIOURS)
def test_exchange_that_misbehaves_doubles_nothing(platform: Platform, target: str) -> None:
    platform.harm(Fault(at_s=0, kind=FaultKind.EXCHANGE, target=target, amount=5))


@pytest.mark.parametrize("name", OUTLIVING)
def test_process_frozen_beyond_its_session_changes_nothing_when_it_wakes(platform: Platform, name: str) -> None:
    platform.harm(Fault(at_s=0, kind=FaultKind.PAUSE, target=name, amount=FREEZE_S))


@pytest.mark.parametrize("point", [DESK_BEFORE_COMMIT, GATEWAY_AFTER_ATTEMPT_COMMIT], ids=lambda point: point.role)
def test_zombie_that_wakes_beside_its_successor_is_fenced(platform: Platform, point: CrashPoint) -> None:
    """It froze with a decision or an attempt in its hands; its successor works under the same name."""
    zombie = platform.frozen_at(point)
    successor = subprocess.Popen([sys.executable, "-m", "skeet", "run", point.role])
    try:
        platform.trades_meanwhile(time.time_ns())
        zombie.send(signal.SIGCONT)
        eventually(lambda: not zombie.alive, ZOMBIE_S, "the end of the zombie")
        # The supervisor starts a third, which fences the second as the second fenced the first.
        platform.trades_on(time.time_ns(), f"a zombie {point.role}")
        eventually(lambda: successor.poll() is not None, ZOMBIE_S, "the end of the second")
    finally:
        successor.kill()
        successor.wait()
        zombie.send(signal.SIGCONT)
    platform.agrees()


def test_strategy_that_wakes_as_an_orphan_ends_and_its_commands_came_too_late(platform: Platform) -> None:
    """It froze with commands in its hands; those who start instances died meanwhile and their successors started another."""
    zombie = platform.frozen_at(STRATEGY_BEFORE_COMMANDS)
    frozen_ns = time.time_ns()
    platform.processes.kill("strategies")
    try:
        platform.trades_meanwhile(frozen_ns + COMMANDS_VALID_NS)
        zombie.send(signal.SIGCONT)
        eventually(lambda: not zombie.alive, ZOMBIE_S, "the end of the orphan")
        platform.trades_on(time.time_ns(), "a zombie strategy")
    finally:
        zombie.send(signal.SIGCONT)
    platform.agrees()


def test_after_all_that_the_books_agree_and_no_order_was_doubled(platform: Platform) -> None:
    demo.quiesce(platform.settings)
    platform.installation.skeet("verify", "--strict")
    assert doubled_orders(platform.settings.data) == []
