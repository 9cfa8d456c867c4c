"""A gateway killed or frozen with orders in flight, at a venue that would take every order twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from skeet.config import Settings
from skeet.core.reports import SubmitAcknowledged, SubmitAttempted, SubmitNotSent, SubmitOutcomeUnknown
from skeet.core.values import NS_PER_S
from skeet.streams.crash_points import (
    GATEWAY_AFTER_ATTEMPT_COMMIT,
    GATEWAY_BETWEEN_SENDS,
    Action,
    Arming,
    CrashPoint,
    chaos_directory,
)
from skeet.venues.sim.behaviour import Faults
from skeet.venues.sim.orders import UniqueAmong

pytestmark = pytest.mark.integration
START_DEADLINE_S = 90.0
ZOMBIE_ENDS_S = 30.0
SETTLED = ("SubmitAcknowledged", "SubmitRejected", "SubmitNotSent", "OrderFoundAbsent")


class GatewayProcess:
    """``skeet run gateway`` as a process."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        ready, self._log = folder / "ready", folder / "gateway.log"
        ready.unlink(missing_ok=True)
        environment = os.environ | {
            "SKEET_DATA": str(settings.data),
            "SKEET_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
            "SKEET_KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
            "SKEET_KAFKA__ACCOUNT_PARTITIONS": str(settings.kafka.account_partitions),
            "SKEET_KAFKA__MARKET_PARTITIONS": str(settings.kafka.market_partitions),
            "SKEET_REGISTRY__URL": settings.registry.url,
            "SKEET_SIM__URL": settings.sim.url,
            "SKEET_READY_FILE": str(ready),
            "SKEET_CHAOS__ENABLED": "1",  # does nothing until a point is armed
        }
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "skeet", "run", "gateway"]
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + START_DEADLINE_S
        while not ready.exists():
            assert self._process.poll() is None and time.monotonic() < deadline, self._log.read_text()[-4_000:]
            time.sleep(0.02)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    @property
    def pid(self) -> int:
        return self._process.pid

    def wake(self) -> int:
        """SIGCONT; the exit code, for a zombie must end."""
        self._process.send_signal(signal.SIGCONT)
        return self._process.wait(ZOMBIE_ENDS_S)

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(25)


def test_no_order_is_sent_twice_and_none_is_forgotten(sim: Any, desk: Any, tmp_path: Path) -> None:
    sim.behaviour.faults = Faults(duplicate_client_ids=UniqueAmong.NONE, drop_probability=0.1)
    bid, _ = sim.best()
    valid_until = time.time_ns() + 600 * NS_PER_S
    first = GatewayProcess(desk.settings, tmp_path)
    names = [f"n{number}" for number in range(120)]
    try:
        for number, name in enumerate(names[:80]):
            desk.authorise(name, bid - 1_000 - number, quantity=Decimal("0.001"), valid_until=valid_until)
            if number == 60:
                desk.wait(lambda: any(isinstance(r.event, SubmitAttempted) for r in desk.reports()), "attempt")
    finally:
        first.kill()
    for number, name in enumerate(names[80:]):
        desk.authorise(name, bid - 2_000 - number, quantity=Decimal("0.001"), valid_until=valid_until)
    second = GatewayProcess(desk.settings, tmp_path)
    try:
        desk.wait(lambda: _settled(desk) == {desk.order_id(name) for name in names}, "outcome of every order", 60)
    finally:
        code = second.stop()
    assert code == 0
    at_venue = Counter(order["clientOrderId"] for order in sim.orders("alpha"))
    assert max(at_venue.values()) == 1
    outcomes = {r.event.order_id: type(r.event) for r in desk.reports() if type(r.event).__name__ in SETTLED}
    assert {order_id for order_id, kind in outcomes.items() if kind is SubmitAcknowledged} == set(at_venue)
    assert SubmitNotSent not in outcomes.values()
    assert any(isinstance(r.event, SubmitOutcomeUnknown) for r in desk.reports())


@pytest.mark.parametrize("point", [GATEWAY_AFTER_ATTEMPT_COMMIT, GATEWAY_BETWEEN_SENDS], ids=lambda point: point.name)
def test_zombie_that_wakes_beside_its_successor_ends_and_doubles_nothing(
    sim: Any, desk: Any, tmp_path: Path, point: CrashPoint
) -> None:
    """It froze with attempts in the log and orders unsent; who sends what it had in its hands, if anybody, is all one."""
    sim.behaviour.faults = Faults(duplicate_client_ids=UniqueAmong.NONE)
    bid, _ = sim.best()
    valid_until = time.time_ns() + 600 * NS_PER_S
    names = [f"z{number}" for number in range(40)]
    chaos = chaos_directory(desk.settings)
    zombie = GatewayProcess(desk.settings, tmp_path)
    try:
        chaos.arm(point, Arming(action=Action.STOP))
        for number, name in enumerate(names[:20]):
            desk.authorise(name, bid - 1_000 - number, quantity=Decimal("0.001"), valid_until=valid_until)
        desk.wait(lambda: chaos.spent_by(point.name) == zombie.pid, "the gateway frozen")
        successor = GatewayProcess(desk.settings, tmp_path)
        try:
            ended = zombie.wake()
            for number, name in enumerate(names[20:]):
                desk.authorise(name, bid - 2_000 - number, quantity=Decimal("0.001"), valid_until=valid_until)
            desk.wait(lambda: _settled(desk) == {desk.order_id(name) for name in names}, "outcome of every order", 60)
        finally:
            code = successor.stop()
    finally:
        zombie.kill()
    assert (ended, code) == (1, 0)
    at_venue = Counter(order["clientOrderId"] for order in sim.orders("alpha"))
    assert max(at_venue.values()) == 1
    outcomes = {r.event.order_id: type(r.event) for r in desk.reports() if type(r.event).__name__ in SETTLED}
    assert {order_id for order_id, kind in outcomes.items() if kind is SubmitAcknowledged} == set(at_venue)


def _settled(desk: Any) -> set[str]:
    return {r.event.order_id for r in desk.reports() if type(r.event).__name__ in SETTLED}
