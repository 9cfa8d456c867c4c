"""Looks at consumer groups from a process of its own: a broker that dies has been seen to bring down the admin client by an
assertion of the C library, and the supervisor must outlive everything.

``Sampler`` is the supervisor's side: a question a line to the child, an answer a line back, in JSON. A child that ended
is started again by the next question.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from skeet.config import KafkaSettings, load_settings
from skeet.connections.kafka import kafka_options
from skeet.core.errors import InfrastructureError, SkeetError
from skeet.core.ids import derive_id
from skeet.core.record import Meta
from skeet.core.values import AccountId, EventId, PrincipalId, TenantId
from skeet.streams.kafka import producer
from skeet.streams.registry import registered_codec
from skeet.streams.topics import PLATFORM_EVENTS, topic_name

REQUEST_TIMEOUT_S = 5.0
ANSWER_DEADLINE_S = 4 * REQUEST_TIMEOUT_S
"""A child that takes longer than its requests may hangs in the admin client (seen after a kill of the broker)."""

Partition = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Of one group at one moment (seconds, monotonic): committed position and log end of each partition.

    ``owner`` names the member that a partition is assigned to: its static id, else its client id.
    """

    at_s: float
    committed: Mapping[Partition, int]
    end: Mapping[Partition, int]
    owner: Mapping[Partition, str] = field(default_factory=dict)

    @property
    def lag(self) -> int:
        """Offsets not committed, markers and aborted records included."""
        return sum(max(0, self.end.get(place, 0) - position) for place, position in self.committed.items())


class Sampler:
    """Asks the child. Every question raises InfrastructureError when Kafka, or the child, has no answer.

    ``environment`` is added to this process's for the child, which reads settings only to publish.
    """

    def __init__(self, kafka: KafkaSettings, environment: Mapping[str, str] | None = None) -> None:
        self._options = kafka_options(kafka)
        self._environment = {**os.environ, **(environment or {})}
        self._child: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def sample(self, group: str) -> Sample:
        """See :func:`sample_group`."""
        answer = self._ask(["sample", group])
        committed, end, owner = (
            {(t, p): value for t, p, value in answer[side]} for side in ("committed", "end", "owner")
        )
        return Sample(at_s=time.monotonic(), committed=committed, end=end, owner=owner)

    def delivers_from(self, place: Partition, position: int) -> bool:
        """See :func:`delivers_from`."""
        return bool(self._ask(["delivers", *place, position])["delivers"])

    def written(self, topics: Sequence[str]) -> int:
        """The sum of the ends of all partitions of these topics (the broker's names)."""
        return int(self._ask(["written", *topics])["written"])

    def publish(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Write platform events; see :func:`publish`."""
        self._ask(["publish", *events])

    def close(self) -> None:
        """End the child."""
        self._closed = True
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def _ask(self, question: list[Any]) -> dict[str, Any]:
        with self._lock:
            child = self._running()
            try:
                assert child.stdin is not None and child.stdout is not None
                child.stdin.write(json.dumps(question) + "\n")
                child.stdin.flush()
                answered, _, _ = select.select([child.stdout], [], [], ANSWER_DEADLINE_S)
                line = child.stdout.readline() if answered else ""
            except OSError:
                line = ""
            if not line:
                child.kill()
                child.wait()
        if not line:
            raise InfrastructureError("the sampler of consumer groups ended or hangs; it is started again")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise InfrastructureError(answer["error"])
        return answer

    def _running(self) -> subprocess.Popen[str]:
        if self._closed:
            raise InfrastructureError("the sampler is closed")
        if self._child is None or self._child.poll() is not None:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "skeet.local.sampler"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=self._environment,
            )
            # Its first line, not an argument: a command line is everybody's to read, and options may hold a password.
            assert self._child.stdin is not None
            self._child.stdin.write(json.dumps(self._options) + "\n")
        return self._child


def sample_group(client: AdminClient, group: str) -> Sample:
    """Committed positions and log ends of a group's partitions: those it committed, and those it is assigned.

    A partition that it never committed counts from 0. KafkaException when the broker does not answer.
    """
    described = client.describe_consumer_groups([group], request_timeout=REQUEST_TIMEOUT_S)[group].result()
    owner = {
        (partition.topic, partition.partition): str(member.group_instance_id or member.client_id)
        for member in described.members
        if member.assignment
        for partition in member.assignment.topic_partitions
    }
    asked = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=REQUEST_TIMEOUT_S)
    committed = {(p.topic, p.partition): p.offset for p in asked[group].result().topic_partitions}
    positions = {place: max(0, committed.get(place, 0)) for place in owner.keys() | committed.keys()}
    specs = {TopicPartition(*place): OffsetSpec.latest() for place in positions}
    answers = client.list_offsets(specs, request_timeout=REQUEST_TIMEOUT_S) if specs else {}
    ends = {(place.topic, place.partition): answer.result().offset for place, answer in answers.items()}
    return Sample(at_s=time.monotonic(), committed=positions, end=ends, owner=owner)


def written(client: AdminClient, topics: Sequence[str]) -> int:
    """The sum of the ends of all partitions. KafkaException when the broker does not answer."""
    known = client.list_topics(timeout=REQUEST_TIMEOUT_S).topics
    places = [TopicPartition(t, number) for t in topics if t in known for number in known[t].partitions]
    answers = client.list_offsets({place: OffsetSpec.latest() for place in places}, request_timeout=REQUEST_TIMEOUT_S)
    return sum(answer.result().offset for answer in answers.values())


def publish(events: Sequence[Mapping[str, Any]]) -> None:
    """Write platform events, given as ``type``, ``key``, ``fields`` and ``at_ns``; acknowledged on return.

    Their ids follow from what they say and when: one that is written again after a lost answer has the same id.

    Raises
    ------
    SkeetError
        the settings name no broker or registry, or it does not answer.
    """
    settings = load_settings()
    codec = registered_codec(settings)
    client = producer(settings, "skeet-watchdog", delivery_timeout_ms=int(REQUEST_TIMEOUT_S * 1000))
    kinds = {kind.__name__: kind for kind in PLATFORM_EVENTS.events}
    for event in events:
        value = codec.encode(kinds[event["type"]](**event["fields"]), _meta(event))
        client.produce(topic_name(PLATFORM_EVENTS, settings.kafka), value, str(event["key"]).encode())
    if client.flush(REQUEST_TIMEOUT_S + 1):
        raise InfrastructureError("Kafka did not acknowledge an event of the platform")


def _meta(event: Mapping[str, Any]) -> Meta:
    identity = EventId(derive_id("platform", event["type"], event["key"], event["at_ns"]))
    return Meta(
        event_id=identity,
        tenant_id=TenantId(""),
        account_id=AccountId(""),
        principal_id=PrincipalId("supervisor"),
        correlation_id=identity,
        causation_id=EventId(""),
        cause_at="",
        ts_event=event["at_ns"],
        ts_init=event["at_ns"],
    )


def delivers_from(options: Mapping[str, Any], place: Partition, position: int) -> bool:
    """Whether a read_committed reader is delivered anything from ``position`` on.

    Markers and aborted records (each transactional producer warms up with one) move a partition's end for nobody.
    KafkaException when the broker does not answer.
    """
    client = Consumer(
        {
            **options,
            "group.id": "skeet-watchdog",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    try:
        client.assign([TopicPartition(*place, position)])
        message = client.poll(REQUEST_TIMEOUT_S)
        error = KafkaError(KafkaError._TIMED_OUT) if message is None else message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        return error is None
    finally:
        client.close()


def main() -> None:
    """The child: takes the client's options from the first line, and answers until its questions end."""
    options: dict[str, Any] = json.loads(sys.stdin.readline() or "{}")
    client: AdminClient | None = None
    for line in sys.stdin:
        client = client or AdminClient({**options, "log_level": 0})
        answer = _answer(client, options, json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
        if "error" in answer:
            client = None  # One that lived through a broker's death has been seen to find no group again, for minutes.


def _answer(client: AdminClient, options: Mapping[str, Any], question: list[Any]) -> dict[str, Any]:
    try:
        if question[0] == "delivers":
            _, topic, number, position = question
            return {"delivers": delivers_from(options, (topic, number), position)}
        if question[0] == "written":
            return {"written": written(client, question[1:])}
        if question[0] == "publish":
            publish(question[1:])
            return {}
        sample = sample_group(client, question[1])
    except (KafkaException, SkeetError) as error:
        return {"error": str(error)}
    return {name: [[*place, value] for place, value in values.items()] for name, values in _sides(sample)}


def _sides(sample: Sample) -> tuple[tuple[str, Mapping[Partition, Any]], ...]:
    return ("committed", sample.committed), ("end", sample.end), ("owner", sample.owner)


if __name__ == "__main__":
    main()
