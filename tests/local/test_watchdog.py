"""Which groups are stuck: samples in, partitions out. And the positions of a real group on a real broker."""

from __future__ import annotations

import io
import json
import queue
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from skeet.config import KafkaSettings
from skeet.core.errors import InfrastructureError
from skeet.core.platform import ProcessRestarted
from skeet.local import sampler, watchdog
from skeet.local.incidents import Incidents, read_report
from skeet.local.pulse import Pulse, Silence, Written, mute
from skeet.local.sampler import Sample, Sampler, sample_group
from skeet.local.watchdog import (
    FORGOTTEN_S,
    SAMPLE_INTERVAL_S,
    STILL_S,
    Followed,
    LagAlarm,
    Patience,
    Watchdog,
    forgotten,
    owned,
    stuck,
)

PLACE = ("orders", 0)


def samples(committed: Callable[[float], int], end: Callable[[float], int], seconds: float = 21) -> Sequence[Sample]:
    times = [n * SAMPLE_INTERVAL_S for n in range(int(seconds / SAMPLE_INTERVAL_S) + 1)]
    return [Sample(at_s=t, committed={PLACE: committed(t)}, end={PLACE: end(t)}) for t in times]


def test_position_that_stands_still_behind_a_moving_end_is_stuck() -> None:
    assert stuck(samples(lambda _: 100, lambda t: 100 + int(t * 10))) == [PLACE]


def test_group_that_keeps_up_is_not_stuck() -> None:
    assert stuck(samples(lambda t: 100 + int(t * 10), lambda t: 110 + int(t * 10))) == []


def test_slow_group_with_growing_lag_is_not_stuck() -> None:
    assert stuck(samples(lambda t: 100 + int(t / 10), lambda t: 100 + int(t * 1000))) == []


def test_group_with_nothing_to_do_is_not_stuck() -> None:
    assert stuck(samples(lambda _: 100, lambda _: 100)) == []


def test_standing_end_is_not_stuck_even_with_lag() -> None:
    # A transaction's marker at the end of an idle partition is a lag of one for ever.
    assert stuck(samples(lambda _: 100, lambda _: 101)) == []


def test_offsets_that_nobody_reads_for_long_are_forgotten_even_when_the_end_stands() -> None:
    long = FORGOTTEN_S + 2 * SAMPLE_INTERVAL_S
    assert forgotten(samples(lambda _: 100, lambda _: 101, seconds=long)) == [PLACE]
    assert forgotten(samples(lambda _: 100, lambda _: 101, seconds=FORGOTTEN_S - SAMPLE_INTERVAL_S)) == []
    assert forgotten(samples(lambda t: 100 + int(t / 20), lambda _: 200, seconds=long)) == []
    assert forgotten(samples(lambda _: 100, lambda _: 100, seconds=long)) == []
    assert forgotten([]) == []


def test_samples_that_a_busy_machine_took_far_apart_are_judged_all_the_same() -> None:
    sparse = [
        Sample(at_s=20.0 * number, committed={PLACE: 5}, end={PLACE: 5 + 10 * (number + 1)}) for number in range(4)
    ]
    assert forgotten(sparse[:3]) == []
    assert forgotten(sparse) == [PLACE]


def test_record_that_came_just_now_proves_nothing() -> None:
    assert stuck(samples(lambda _: 100, lambda t: 101 if t > 18 else 100)) == []


def test_too_few_samples_say_nothing() -> None:
    assert stuck([]) == []
    assert stuck(samples(lambda _: 100, lambda t: 100 + int(t * 10), seconds=STILL_S - 1)) == []


def beside(other: Callable[[float], int], other_end: Callable[[float], int], seconds: float) -> Sequence[Sample]:
    """PLACE stands at 5 while records come, in a group that also reads another partition."""
    place = ("orders", 1)
    return [
        Sample(
            at_s=each.at_s,
            committed={**each.committed, place: other(each.at_s)},
            end={**each.end, place: other_end(each.at_s)},
        )
        for each in samples(lambda _: 5, lambda t: 10 + int(t), seconds)
    ]


def test_one_standing_partition_among_moving_ones_is_found_after_the_longer_time() -> None:
    long = FORGOTTEN_S + 2 * SAMPLE_INTERVAL_S
    assert stuck(beside(int, int, long)) == []
    assert forgotten(beside(int, int, long)) == [PLACE]
    assert forgotten(beside(int, int, FORGOTTEN_S - SAMPLE_INTERVAL_S)) == []


def test_group_that_works_off_another_partition_is_slow_not_stuck() -> None:
    long = FORGOTTEN_S + 2 * SAMPLE_INTERVAL_S
    assert stuck(beside(int, lambda _: 10_000, long)) == []
    assert forgotten(beside(int, lambda _: 10_000, long)) == []


class Bench:
    """Stands in for the supervisor: every process has been ready for ever, and restarts are noted."""

    def __init__(self, health: str = "") -> None:
        self.restarted: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.reasons: dict[str, str] = {}
        self._health = health

    def ready_since(self, name: str) -> float | None:
        return 0.0

    def health_of(self, name: str) -> str:
        return self._health

    def restart(self, name: str, reason: str) -> None:
        self.reasons[name] = reason
        self.restarted.put(name)


class Told:
    """A log for incidents."""

    def __init__(self, *, away: bool = False) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.away = away

    def publish(self, events: Sequence[Mapping[str, Any]]) -> None:
        if self.away:
            raise InfrastructureError("no broker")
        self.events += events


class Scripted(Sampler):
    """A group that stands at 100; from ``record_at_s`` on a record stands there, taken ``taken_after_s`` later."""

    def __init__(self, record_at_s: float, taken_after_s: float) -> None:
        self.now_s = 0.0
        self._record_at_s = record_at_s
        self._taken_at_s = record_at_s + taken_after_s

    def sample(self, group: str) -> Sample:
        self.now_s += SAMPLE_INTERVAL_S
        position = 102 if self.now_s >= self._taken_at_s else 100
        return Sample(
            at_s=self.now_s, committed={PLACE: position}, end={PLACE: 101 + (self.now_s >= self._record_at_s)}
        )

    def delivers_from(self, place: tuple[str, int], position: int) -> bool:
        return position == 100 and self.now_s >= self._record_at_s


@pytest.mark.parametrize(
    ("taken_after_s", "restarts"), [(SAMPLE_INTERVAL_S, []), (10 * SAMPLE_INTERVAL_S, ["projection"])]
)
def test_first_record_behind_an_old_marker_is_given_time_before_anybody_is_restarted(
    taken_after_s: float, restarts: list[str], tmp_path: Path
) -> None:
    bench, told = Bench(), Told()
    script = Scripted(record_at_s=FORGOTTEN_S + 5 * SAMPLE_INTERVAL_S, taken_after_s=taken_after_s)
    incidents = Incidents(told, tmp_path / "watchdog.json")
    dog = Watchdog(bench, {"projection": Followed(group="g")}, script, incidents)
    while script.now_s < FORGOTTEN_S + 20 * SAMPLE_INTERVAL_S:
        dog.look()
    assert bench.restarted.qsize() == len(restarts)
    assert [(e["type"], e["key"]) for e in told.events] == [("GroupStalled", name) for name in restarts]


def test_a_process_that_stands_still_after_its_restart_is_given_twice_the_time() -> None:
    patience, now_s, rests = Patience(), 0.0, []
    for position in (5, 5, 5, 5, 5, 5, 5, 6):
        patience.restarted(now_s, {PLACE: position})
        began_s = now_s
        while patience.lasts(now_s):
            now_s += 1.0
        rests.append(now_s - began_s)
    assert rests == [60, 120, 240, 480, 960, 960, 960, 60]


def test_a_process_without_a_group_is_given_no_longer() -> None:
    patience = Patience()
    for at_s in (0.0, 100.0, 200.0):
        patience.restarted(at_s, {})
    assert (patience.lasts(259.0), patience.lasts(260.0)) == (True, False)
    assert not Patience().lasts(0.0)


class Uncoordinated(Sampler):
    """A broker that does not answer for groups, and for topics only when it is not away; ``answers`` heals it."""

    def __init__(self, *, away: bool) -> None:
        self.away = away
        self.answers = False

    def sample(self, group: str) -> Sample:
        if self.answers:
            return Sample(at_s=time.monotonic(), committed={}, end={})
        raise InfrastructureError("NOT_COORDINATOR")

    def written(self, topics: Sequence[str]) -> int:
        if self.away:
            raise InfrastructureError("no broker")
        return 0


def looked_at(script: Uncoordinated, followed: Mapping[str, Followed], tmp_path: Path) -> tuple[Bench, Watchdog]:
    bench = Bench()
    dog = Watchdog(bench, followed, script, Incidents(Told(), tmp_path / "watchdog.json"))
    dog.look()
    return bench, dog


GROUP_AND_BROKER = {"desk": Followed(group="g"), "kafka": Followed()}


def test_broker_that_answers_for_topics_and_not_for_groups_is_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "UNANSWERED_S", 0.0)
    bench, _ = looked_at(Uncoordinated(away=False), GROUP_AND_BROKER, tmp_path)
    assert bench.restarted.get_nowait() == "kafka"
    assert "positions of g" in bench.reasons["kafka"]


@pytest.mark.parametrize(
    ("away", "followed"), [(True, GROUP_AND_BROKER), (False, {"desk": Followed(group="g")})], ids=["away", "not ours"]
)
def test_broker_that_is_away_or_not_ours_is_left_alone(
    away: bool, followed: Mapping[str, Followed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "UNANSWERED_S", 0.0)
    bench, _ = looked_at(Uncoordinated(away=away), followed, tmp_path)
    assert bench.restarted.empty()


def test_broker_is_given_time_to_load_its_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Uncoordinated(away=False)
    bench, dog = looked_at(script, GROUP_AND_BROKER, tmp_path)
    script.answers = True
    dog.look()
    monkeypatch.setattr(watchdog, "UNANSWERED_S", 0.0)
    dog.look()
    assert bench.restarted.empty()


def test_lag_is_told_once_when_it_exceeds_its_limit_and_once_below_half_of_it() -> None:
    alarm = LagAlarm(100)
    assert [lag for lag in (0, 100, 101, 500, 90, 51, 50, 10, 101) if alarm.see(lag)] == [101, 50, 101]


def test_each_of_several_members_answers_for_its_own_partitions_and_for_those_of_nobody() -> None:
    places = [("orders", number) for number in range(3)]
    sample = Sample(
        at_s=0.0,
        committed=dict.fromkeys(places, 1),
        end=dict.fromkeys(places, 2),
        owner={places[0]: "desk-0", places[1]: "desk-1"},
    )
    assert set(owned(sample, "desk-0").committed) == {places[0], places[2]}
    assert set(owned(sample, "desk-1").committed) == {places[1], places[2]}
    assert owned(sample, "") is sample


@pytest.mark.parametrize(("said", "ends", "found"), [(10, 0, True), (0, 0, False), (10, 1, False)])
def test_writer_whose_records_do_not_reach_the_log_is_mute(said: int, ends: int, found: bool) -> None:
    samples = [Written(at_s=t, said=said * t, ends=ends * t) for t in range(0, 30, 3)]
    assert mute(samples) is found


def test_writer_is_not_mute_before_its_records_waited_long_enough() -> None:
    assert not mute([Written(at_s=t, said=float(t >= 18), ends=0) for t in range(0, 25, 3)])
    assert not mute([Written(at_s=t, said=t, ends=0) for t in range(0, 15, 3)])
    assert not mute([])


def test_silence_needs_its_time_and_several_probes_and_one_answer_ends_it() -> None:
    silence = Silence(20.0)
    assert not silence.hear(Pulse(at_s=0.0, trouble="x"))
    assert not silence.hear(Pulse(at_s=100.0, trouble="x"))  # the machine slept
    assert not silence.hear(Pulse(at_s=101.0))
    assert not any(silence.hear(Pulse(at_s=t, trouble="x")) for t in (102.0, 110.0, 121.0))
    assert "x" in silence.hear(Pulse(at_s=122.0, trouble="x"))


def test_incidents_wait_while_kafka_is_away_and_the_newest_is_reported(tmp_path: Path) -> None:
    told = Told(away=True)
    incidents = Incidents(told, tmp_path / "watchdog.json")
    for count in (1, 2):
        incidents.add("desk", ProcessRestarted(process="desk", how="SIGKILL", restarts=count))
        incidents.flush()
    assert told.events == []
    told.away = False
    incidents.flush()
    incidents.flush()
    assert [event["fields"]["restarts"] for event in told.events] == [1, 2]
    report = read_report(tmp_path / "watchdog.json")
    assert report["incident"]["text"] == "desk was restarted (SIGKILL), 2 times by now"


@pytest.mark.integration
def test_an_aborted_transaction_delivers_nothing(kafka: str) -> None:
    topic = f"aborted-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": topic})
    producer.init_transactions(20)
    for ends in (producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        producer.produce(topic, b"x")
        producer.flush(10)
        assert not sampler.delivers_from({"bootstrap.servers": kafka}, (topic, 0), 0)
        ends(20)
    assert sampler.delivers_from({"bootstrap.servers": kafka}, (topic, 0), 0)


@pytest.mark.integration
def test_sample_holds_committed_positions_and_ends(kafka: str) -> None:
    topic, group = f"t{uuid.uuid4().hex}", f"g{uuid.uuid4().hex}"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)
    producer = Producer({"bootstrap.servers": kafka})
    for _ in range(5):
        producer.produce(topic, b"x")
    assert producer.flush(10) == 0
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, 2)], asynchronous=False)
    consumer.close()
    sample = sample_group(admin, group)
    assert (sample.committed, sample.end) == ({(topic, 0): 2}, {(topic, 0): 5})


@pytest.mark.integration
def test_assigned_but_idle_group_is_restarted_and_a_working_one_is_not(
    kafka: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, seconds in (("STILL_S", 2.0), ("WAITED_S", 1.0), ("SAMPLE_INTERVAL_S", 0.25)):
        monkeypatch.setattr(watchdog, name, seconds)
    topics = {name: f"t{uuid.uuid4().hex}" for name in ("idle", "working")}
    groups = {name: f"g{uuid.uuid4().hex}" for name in topics}
    admin = AdminClient({"bootstrap.servers": kafka})
    for made in admin.create_topics([NewTopic(topic, 1, 1) for topic in topics.values()]).values():
        made.result(10)
    consumers = {
        name: Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": groups[name],
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        for name in topics
    }
    producer = Producer({"bootstrap.servers": kafka})
    bench, asking = Bench(), Sampler(KafkaSettings(bootstrap=kafka))
    restarted = bench.restarted
    followed = {name: Followed(group=group) for name, group in groups.items()}
    dog = Watchdog(bench, followed, asking, Incidents(Told(), tmp_path / "watchdog.json"))
    thread = threading.Thread(target=dog.run)
    thread.start()
    try:
        for name, consumer in consumers.items():
            consumer.subscribe([topics[name]])
        deadline = time.monotonic() + 20
        while restarted.empty() and time.monotonic() < deadline:
            for topic in topics.values():
                producer.produce(topic, b"x")
            producer.flush(10)
            consumers["idle"].poll(0)  # alive for the broker, but it never commits
            message = consumers["working"].poll(0.05)
            if message is not None and message.error() is None:
                consumers["working"].commit(message, asynchronous=False)
        assert restarted.get(timeout=1) == "idle"
        assert restarted.empty()
    finally:
        dog.stop()
        thread.join(10)
        for consumer in consumers.values():
            consumer.close()


@pytest.mark.integration
def test_a_sampler_that_died_is_started_again_by_the_next_question(kafka: str) -> None:
    asking = Sampler(KafkaSettings(bootstrap=kafka))
    try:
        asking.sample("nobody")
        assert asking._child is not None
        asking._child.kill()
        asking._child.wait()
        assert asking.sample("nobody").committed == {}
    finally:
        asking.close()


@pytest.mark.integration
def test_a_sampler_that_hangs_is_replaced_after_its_deadline(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Sampler(KafkaSettings(bootstrap=kafka))
    try:
        asking.sample("nobody")
        assert asking._child is not None
        asking._child.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(sampler, "ANSWER_DEADLINE_S", 0.5)
        with pytest.raises(InfrastructureError, match="hangs"):
            asking.sample("nobody")
        monkeypatch.undo()
        assert asking.sample("nobody").committed == {}
    finally:
        asking.close()


def test_a_client_that_got_no_answer_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[object] = []

    def client(options: object) -> object:
        made.append(options)
        return len(made)

    def sampled(asked: object, group: str) -> Sample:
        if asked == 1:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return Sample(at_s=0, committed={("t", 0): 1}, end={("t", 0): 2})

    monkeypatch.setattr(sampler, "AdminClient", client)
    monkeypatch.setattr(sampler, "sample_group", sampled)
    questions = [{}, ["sample", "g"], ["sample", "g"], ["sample", "g"]]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(json.dumps(each) + "\n" for each in questions)))
    sampler.main()
    first, *others = map(json.loads, capsys.readouterr().out.splitlines())
    assert "error" in first
    assert [each["committed"] for each in others] == [[["t", 0, 1]]] * 2
    assert len(made) == 2
