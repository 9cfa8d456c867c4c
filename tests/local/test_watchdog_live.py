"""The watchdog over a real supervisor, a real broker and real group members: one is stopped, one is slow, one is mute."""

from __future__ import annotations

import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from skeet.agents.feed import PUBLISHED, FeedPublisher
from skeet.config import KafkaSettings, Settings, WatchdogSettings
from skeet.core.market import MarketDataStale
from skeet.core.platform import GroupLagged, GroupStalled, ProcessRestarted
from skeet.health import Health
from skeet.local import pulse, watchdog
from skeet.local.incidents import Incidents
from skeet.local.installation import Installation
from skeet.local.plan import ProcessSpec
from skeet.local.sampler import Sampler
from skeet.local.status import platform_status
from skeet.local.supervisor import Supervisor, followed_of
from skeet.local.watchdog import Followed, Watchdog
from skeet.metrics import REGISTRY
from skeet.probes import serve
from skeet.process import StopSignal
from skeet.streams.reading import records_until_end
from skeet.streams.registry import registered_codec
from skeet.streams.topics import PLATFORM_EVENTS

pytestmark = pytest.mark.integration

MEMBER = Path(__file__).with_name("group_member.py")
DEADLINE_S = 60.0


def eventually(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(0.1)
    return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watchdog that needs seconds, not half a minute."""
    for name, seconds in (("STILL_S", 3.0), ("WAITED_S", 1.5), ("SAMPLE_INTERVAL_S", 0.5)):
        monkeypatch.setattr(watchdog, name, seconds)
    monkeypatch.setattr(pulse, "MUTE_S", 3.0)
    monkeypatch.setattr(pulse, "MUTE_WAITED_S", 1.5)


class House:
    """A supervisor with two members of groups of their own, and whoever writes to their topics."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.installation = Installation(settings.data)
        self.installation.create()
        self.topics = {name: f"w{uuid.uuid4().hex}" for name in ("steady", "slow")}
        groups = {name: f"g{uuid.uuid4().hex}" for name in self.topics}
        admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap})
        for made in admin.create_topics([NewTopic(topic, 1, 1) for topic in self.topics.values()]).values():
            made.result(10)
        specs = [
            ProcessSpec(name=name, command=self._command(topic, groups[name], seconds), group=groups[name])
            for (name, topic), seconds in zip(self.topics.items(), ("0", "0.25"), strict=True)
        ]
        environment = {
            "SKEET_DATA": str(settings.data),
            "SKEET_KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
            "SKEET_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
            "SKEET_REGISTRY__URL": settings.registry.url,
        }
        self.sampler = Sampler(settings.kafka, environment)
        incidents = Incidents(self.sampler, self.installation.watch_report)
        self.supervisor = Supervisor(self.installation, specs, incidents=incidents)
        followed = {spec.name: Followed(group=spec.group) for spec in specs}
        self.dog = Watchdog(self.supervisor, followed, self.sampler, incidents, WatchdogSettings(lag_limit=40))
        self._stop = StopSignal()
        self._producer = Producer({"bootstrap.servers": settings.kafka.bootstrap})
        self._threads = [
            threading.Thread(target=work)
            for work in (lambda: self.supervisor.run(self._stop), self.dog.run, self._write)
        ]
        for thread in self._threads:
            thread.start()

    def _command(self, topic: str, group: str, seconds: str) -> tuple[str, ...]:
        return (sys.executable, str(MEMBER), self.settings.kafka.bootstrap, topic, group, seconds)

    def _write(self) -> None:
        """Ten records a second to each topic: more than the slow one can do."""
        while not self._stop.wait(0.1):
            for topic in self.topics.values():
                self._producer.produce(topic, b"x")
            self._producer.flush(5)

    def events(self, kind: type[Any]) -> list[Any]:
        codec = registered_codec(self.settings)
        return [
            record.event
            for record in records_until_end(self.settings, codec, [PLATFORM_EVENTS])
            if isinstance(record.event, kind)
        ]

    def rows(self) -> dict[str, Any]:
        return {row.name: row for row in platform_status(self.installation).processes}

    def lag(self, name: str) -> int | None:
        """None before the watchdog has looked, or the supervisor has started it."""
        row = self.rows().get(name)
        return row.lag if row is not None else None

    def end(self) -> None:
        self._stop.stop()
        self.dog.stop()
        for thread in self._threads:
            thread.join(30)


@pytest.fixture
def house(quick: None, applied_settings: Settings) -> Iterator[House]:
    made = House(applied_settings)
    yield made
    made.end()


def test_stopped_member_is_found_told_of_restarted_and_catches_up_while_the_slow_one_is_left_alone(
    house: House,
) -> None:
    eventually(lambda: house.lag("steady") == 0 and house.lag("slow"), "both at work")
    identity = house.rows()["steady"]
    house.supervisor._children["steady"].send(signal.SIGSTOP)
    stalled = eventually(lambda: house.events(GroupStalled), "GroupStalled")
    assert {event.process for event in stalled} == {"steady"}
    assert stalled[0].end > stalled[0].position and stalled[0].topic == house.topics["steady"]
    restarted = eventually(lambda: house.events(ProcessRestarted), "ProcessRestarted")
    assert [(event.process, event.restarts) for event in restarted] == [("steady", 1)]
    assert "stood still" in restarted[0].how
    eventually(lambda: house.lag("steady") == 0, "no lag any more")
    assert house.rows()["steady"].pid != identity.pid
    lagged = eventually(lambda: [e for e in house.events(GroupLagged) if e.lag > e.limit], "the slow one's lag")
    assert lagged[0].limit == 40
    assert house.rows()["slow"].restarts == 0
    incident = platform_status(house.installation).incident
    assert incident and incident["text"]
    assert REGISTRY.get_sample_value("skeet_stalls_total", {"process": "steady"}) == 1


class Mute:
    """Stands in for the supervisor of a process that answers, and hands records to a client that writes none."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.reasons: list[str] = []

    def ready_since(self, _: str) -> float | None:
        return 0.0

    def health_of(self, _: str) -> str:
        return self.url

    def restart(self, _: str, reason: str) -> None:
        self.reasons.append(reason)


@pytest.mark.parametrize("writes", [False, True])
def test_writer_whose_client_hangs_inside_is_restarted_and_one_that_writes_is_not(
    quick: None, kafka: str, tmp_path: Path, writes: bool
) -> None:
    topic = f"w{uuid.uuid4().hex}"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)
    producer, handed, health = Producer({"bootstrap.servers": kafka}), [0], Health()
    health.work("records_published", lambda: float(handed[0]))
    mute = Mute(serve(Settings(data=tmp_path), "feed", health))
    asking = Sampler(KafkaSettings(bootstrap=kafka))
    incidents = Incidents(Nowhere(), tmp_path / "watchdog.json")
    dog = Watchdog(mute, {"feed": Followed(writes=(topic,))}, asking, incidents)
    try:
        until = time.monotonic() + 8
        while time.monotonic() < until and not mute.reasons:
            handed[0] += 1
            if writes:
                producer.produce(topic, b"x")
                producer.flush(5)
            dog.look()
            time.sleep(0.25)  # the watchdog's own pace
        assert bool(mute.reasons) is not writes
    finally:
        dog.stop()


class Nowhere:
    def publish(self, events: Any) -> None:
        """Nobody reads these."""


def test_feed_that_has_nothing_to_tell_but_its_venues_silence_is_left_alone(
    quick: None, applied_settings: Settings, tmp_path: Path
) -> None:
    settings = applied_settings
    publisher, health = FeedPublisher(settings, registered_codec(settings)), Health()
    health.work(PUBLISHED, publisher.handed)
    mute = Mute(serve(Settings(data=tmp_path), "feed", health))
    sampler = Sampler(settings.kafka)
    followed = followed_of([ProcessSpec(name="feed", command=(), role="feed")], settings)
    dog = Watchdog(mute, followed, sampler, Incidents(Nowhere(), tmp_path / "watchdog.json"))
    try:
        until = time.monotonic() + 8
        while time.monotonic() < until and not mute.reasons:
            publisher.events(
                [MarketDataStale(instrument_id="SIM:BTC/USDT", ts_event=0, ts_init=time.time_ns(), last_seen=0)]
            )
            publisher.poll()
            dog.look()
            time.sleep(0.25)  # the watchdog's own pace
        assert not mute.reasons
        assert publisher.handed()
    finally:
        dog.stop()
        publisher.close()
