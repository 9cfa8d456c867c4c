"""Two desk processes; the one that owns the account dies or freezes, and the other decides within ten seconds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from floor import Floor, assert_gapless, made_floor

from skeet.streams.crash_points import (
    DESK_BEFORE_COMMIT,
    DESK_IN_TRANSACTION,
    Action,
    Arming,
    CrashPoint,
    chaos_directory,
)
from skeet.streams.kafka import group_name
from skeet.streams.partitioner import partition_of
from skeet.streams.topics import COMMANDS, topic_name

pytestmark = pytest.mark.integration

FAILOVER_S = 10.0
DEADLINE_S = 40.0


class Pair:
    """Two desk processes of one installation, without a supervisor: nobody starts a dead one again."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self.desks = {f"desk-{slot}": self._start(slot) for slot in (0, 1)}
        for slot in (0, 1):
            _eventually(self._ready(slot).exists, f"desk-{slot} ready")

    def _ready(self, slot: int) -> Path:
        return self._floor.settings.data / f"desk-{slot}.ready"

    def _start(self, slot: int) -> subprocess.Popen[bytes]:
        kafka = self._floor.settings.kafka
        environment = os.environ | {
            "SKEET_KAFKA__BOOTSTRAP": kafka.bootstrap,
            "SKEET_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
            "SKEET_KAFKA__ACCOUNT_PARTITIONS": str(kafka.account_partitions),
            "SKEET_KAFKA__MARKET_PARTITIONS": str(kafka.market_partitions),
            "SKEET_REGISTRY__URL": self._floor.settings.registry.url,
            "SKEET_DATA": str(self._floor.settings.data),
            "SKEET_RISK__REFERENCE_MAX_AGE_MS": "600000",
            "SKEET_READY_FILE": str(self._ready(slot)),
            "SKEET_SLOT": str(slot),
            "SKEET_CHAOS__ENABLED": "1",  # does nothing until a point is armed
        }
        with (self._floor.settings.data / f"desk-{slot}.log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", "skeet", "run", "desk"], env=environment, stderr=log)

    def owner(self, account: str) -> str:
        """The desk that holds the account's partition."""
        settings = self._floor.settings
        wanted = (
            topic_name(COMMANDS, settings.kafka),
            partition_of(account.encode(), settings.kafka.account_partitions),
        )
        group = group_name(settings, "desk")
        client: Any = AdminClient({"bootstrap.servers": settings.kafka.bootstrap})
        described = client.describe_consumer_groups([group], request_timeout=10)[group].result()
        owners = [
            member.group_instance_id
            for member in described.members
            for place in member.assignment.topic_partitions
            if (place.topic, place.partition) == wanted
        ]
        return owners[0] if owners else ""

    def end(self) -> None:
        for desk in self.desks.values():
            desk.kill()
            desk.wait()


@pytest.fixture
def floor(kafka: str, registry_url: str, tmp_path: Path) -> Floor:
    return made_floor(kafka, registry_url, tmp_path, partitions=4)


@pytest.fixture
def pair(floor: Floor) -> Iterator[Pair]:
    made = Pair(floor)
    yield made
    made.end()


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_other_desk_decides_within_ten_seconds_and_the_first_changes_nothing_more(
    floor: Floor, pair: Pair, fault: signal.Signals, record_property: Callable[[str, object], None]
) -> None:
    account = f"a{uuid.uuid4().hex[:6]}"
    floor.opened(account, usdt="1000000")
    _eventually(lambda: len(floor.events(account)) == 2, "the account")
    _eventually(lambda: pair.owner(account), "an owner")
    owner = pair.desks[pair.owner(account)]
    began = time.monotonic()
    owner.send_signal(fault)
    orders = [floor.order(account) for _ in range(3)]
    _eventually(lambda: floor.events(account)[2:] == ["OrderAuthorized"] * 3, "three decisions")
    took_s = time.monotonic() - began
    record_property("failover_s", round(took_s, 1))
    assert took_s < FAILOVER_S
    if fault is signal.SIGSTOP:
        owner.send_signal(signal.SIGCONT)
    orders += [floor.order(account) for _ in range(3)]
    _eventually(lambda: len(floor.events(account)) >= 8, "three more decisions")
    records = floor.records(account)
    assert [record.event.order_id for record in records[2:]] == orders
    assert_gapless(floor.records())


@pytest.mark.parametrize("point", [DESK_BEFORE_COMMIT, DESK_IN_TRANSACTION], ids=lambda point: point.name)
def test_desk_that_froze_with_a_decision_in_its_hands_is_fenced_when_it_wakes(
    floor: Floor, pair: Pair, point: CrashPoint
) -> None:
    account = f"a{uuid.uuid4().hex[:6]}"
    floor.opened(account, usdt="1000000")
    _eventually(lambda: len(floor.events(account)) == 2, "the account")
    chaos = chaos_directory(floor.settings)
    chaos.arm(point, Arming(action=Action.STOP))
    orders = [floor.order(account)]
    _eventually(lambda: chaos.spent_by(point.name), "a frozen desk")
    frozen = next(desk for desk in pair.desks.values() if desk.pid == chaos.spent_by(point.name))
    # It was read and decided, and nothing of it is in the log: the other desk decides it, and what comes after it.
    orders += [floor.order(account) for _ in range(3)]
    _eventually(lambda: floor.events(account)[2:] == ["OrderAuthorized"] * 4, "decisions of the other desk")
    frozen.send_signal(signal.SIGCONT)
    orders += [floor.order(account) for _ in range(3)]
    _eventually(lambda: len(floor.events(account)) >= 9, "three more decisions")
    assert [record.event.order_id for record in floor.records(account)[2:]] == orders
    assert_gapless(floor.records())


def _eventually(condition: Any, what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(0.05)
