"""Two gateway processes at a venue that would take every order twice: the account's session follows its partition."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from skeet.config import Settings
from skeet.core.reports import OrderFoundAbsent, SubmitAcknowledged, SubmitAttempted
from skeet.core.values import NS_PER_S
from skeet.streams.kafka import group_name
from skeet.streams.partitioner import partition_of
from skeet.streams.topics import ACCOUNT_EVENTS, topic_name
from skeet.venues.sim.behaviour import Faults
from skeet.venues.sim.orders import UniqueAmong

pytestmark = pytest.mark.integration

FAILOVER_S = 10.0
START_DEADLINE_S = 90.0


class Pair:
    """``skeet run gateway`` twice, without a supervisor."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self.gateways = {f"gateway-{slot}": self._start(slot, folder) for slot in (0, 1)}
        deadline = time.monotonic() + START_DEADLINE_S
        while not all((folder / f"gateway-{slot}.ready").exists() for slot in (0, 1)):
            assert time.monotonic() < deadline, "the gateways are not ready"
            time.sleep(0.05)

    def _start(self, slot: int, folder: Path) -> subprocess.Popen[bytes]:
        kafka = self._settings.kafka
        environment = os.environ | {
            "SKEET_DATA": str(self._settings.data),
            "SKEET_KAFKA__BOOTSTRAP": kafka.bootstrap,
            "SKEET_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
            "SKEET_KAFKA__ACCOUNT_PARTITIONS": str(kafka.account_partitions),
            "SKEET_KAFKA__MARKET_PARTITIONS": str(kafka.market_partitions),
            "SKEET_REGISTRY__URL": self._settings.registry.url,
            "SKEET_SIM__URL": self._settings.sim.url,
            "SKEET_READY_FILE": str(folder / f"gateway-{slot}.ready"),
            "SKEET_SLOT": str(slot),
        }
        with (folder / f"gateway-{slot}.log").open("ab") as log:
            command = [sys.executable, "-m", "skeet", "run", "gateway"]
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def owner(self, account: str) -> str:
        """The gateway that holds the account's partition; empty in the middle of a rebalance."""
        kafka = self._settings.kafka
        wanted = (topic_name(ACCOUNT_EVENTS, kafka), partition_of(account.encode(), kafka.account_partitions))
        group = group_name(self._settings, "gateway")
        client: Any = AdminClient({"bootstrap.servers": kafka.bootstrap})
        described = client.describe_consumer_groups([group], request_timeout=10)[group].result()
        found = {
            (place.topic, place.partition): str(member.group_instance_id)
            for member in described.members
            for place in member.assignment.topic_partitions
        }
        return found.get(wanted, "") if len(described.members) == 2 else ""

    def end(self) -> None:
        for gateway in self.gateways.values():
            gateway.kill()
            gateway.wait()


@pytest.fixture
def pair(sim: Any, desk: Any, tmp_path: Path) -> Iterator[Pair]:
    sim.behaviour.faults = Faults(duplicate_client_ids=UniqueAmong.NONE)
    made = Pair(desk.settings, tmp_path)
    yield made
    made.end()


def test_frozen_gateways_account_is_traded_by_the_other_and_no_order_is_sent_twice(
    sim: Any, desk: Any, pair: Pair, record_property: Callable[[str, object], None]
) -> None:
    bid, _ = sim.best()
    valid_until = time.time_ns() + 600 * NS_PER_S
    desk.open_account()
    owner = pair.gateways[desk.wait(lambda: pair.owner(desk.account), "owner")]
    names = [f"n{number}" for number in range(60)]
    for number, name in enumerate(names[:40]):
        desk.authorise(name, bid - 1_000 - number, valid_until=valid_until)
        if number == 25:
            desk.wait(lambda: any(isinstance(r.event, SubmitAttempted) for r in desk.reports()), "attempt")
    owner.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    for number, name in enumerate(names[40:]):
        desk.authorise(name, bid - 2_000 - number, valid_until=valid_until)
    desk.wait_for(names[-1], SubmitAcknowledged, FAILOVER_S)
    record_property("failover_s", round(time.monotonic() - began, 1))
    owner.send_signal(signal.SIGCONT)
    wanted = {desk.order_id(name) for name in names}
    desk.wait(lambda: _ended(desk) == wanted, "outcome of every order", 60)
    at_venue = Counter(order["clientOrderId"] for order in sim.orders(desk.account))
    # An attempt that the frozen gateway never sent is absent once its request has expired; the venue has all others.
    assert set(at_venue) == _acknowledged(desk) == wanted - _absent(desk)
    assert max(at_venue.values()) == 1
    attempts = Counter(r.event.order_id for r in desk.reports() if isinstance(r.event, SubmitAttempted))
    assert max(attempts.values()) == 1


def _ended(desk: Any) -> set[str]:
    return _acknowledged(desk) | _absent(desk)


def _absent(desk: Any) -> set[str]:
    return {r.event.order_id for r in desk.reports() if isinstance(r.event, OrderFoundAbsent)}


def _acknowledged(desk: Any) -> set[str]:
    return {r.event.order_id for r in desk.reports() if isinstance(r.event, SubmitAcknowledged)}
