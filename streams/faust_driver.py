"""Faust's Kafka consumer as our hosts need it, and what they are asked.

It runs on the loop of its host, without a thread of its own. It reads committed records only (stock does so in exactly-once
mode only and would show aborted fills). Partition *p* of every topic goes to the same member. Fetches wait 100 ms instead of 1,500, so that a stop is quick.

Private names of faust-streaming and aiokafka are used: :mod:`skeet.streams.batches.contract` names them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import aiokafka
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from skeet.streams.same_loop import SameLoopReader

FETCH_WAIT_MS = 100
SESSION_TIMEOUT_MS = 10_000
HEARTBEAT_MS = 2_000
MAX_POLL_INTERVAL_MS = 300_000
"""A member that takes nothing for five minutes loses its partitions; the watchdog acts long before."""
REQUEST_TIMEOUT_MS = 30_000

Partition = tuple[str, int]
"""The broker's topic name, and the partition."""


class Host(Protocol):
    """What the driver asks of whoever runs the machines."""

    bootstrap: str
    security: Mapping[str, Any]
    static_member: str
    pinned: dict[str, int]

    def committing(self) -> None:
        """What is finished is about to be committed."""
        ...

    async def starting(self, committed: Mapping[Partition, int]) -> Mapping[Partition, int]:
        """Where to start, given the committed (or earliest) offsets; called before anything is delivered."""
        ...

    async def revoking(self) -> None:
        """Finish what is in flight: the partitions are about to go."""
        ...

    def revoked(self) -> None:
        """Forget all state: the partitions are gone."""
        ...


class CopartitionedAssignor(AbstractPartitionAssignor):  # type: ignore[misc]  # untyped library
    """Partition *p* of every topic to the same member, so that one instrument's records meet in one process.

    ``pinned`` topics are read in one partition only (a strategy needs its instrument's and its account's).
    """

    name = "skeet-copartitioned"
    version = 0
    pinned: Mapping[str, int] = {}

    @classmethod
    def assign(
        cls, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """The assignment of the group, made by its leader."""
        found: dict[str, dict[str, list[int]]] = {member: defaultdict(list) for member in members}
        for topic in sorted({topic for metadata in members.values() for topic in metadata.subscription}):
            subscribed = sorted(member for member, metadata in members.items() if topic in metadata.subscription)
            wanted = cls.pinned.get(topic)
            for partition in sorted(cluster.partitions_for_topic(topic) or ()):
                if wanted is None or partition == wanted:
                    found[subscribed[partition % len(subscribed)]][topic].append(partition)
        return {
            member: ConsumerProtocolMemberAssignment(cls.version, sorted(topics.items()), b"")
            for member, topics in found.items()
        }

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What a member says of itself."""
        return ConsumerProtocolMemberMetadata(cls.version, list(topics), b"")

    @classmethod
    def on_assignment(cls, assignment: Any) -> None:
        """Nothing is remembered between assignments."""


class CommittedReader(SameLoopReader):
    """The consumer's place on the loop, with our consumer in it."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        host: Host = transport.host
        assignor = type("Assignor", (CopartitionedAssignor,), {"pinned": host.pinned})
        self._assignor = assignor
        return aiokafka.AIOKafkaConsumer(
            bootstrap_servers=host.bootstrap,
            client_id=self.app.conf.id,
            group_id=self.app.conf.id,
            group_instance_id=host.static_member or None,
            partition_assignment_strategy=[assignor],
            **host.security,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            rebalance_timeout_ms=SESSION_TIMEOUT_MS * 3,
            heartbeat_interval_ms=HEARTBEAT_MS,
            max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
        )


class SeenEnds:
    """Where the consumer saw its partitions end, without asking the broker. Readable from any thread."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def answered(self, partition: Partition) -> bool:
        """Whether a broker has said where the partition ends since it was assigned."""
        state = self._state(partition)
        return state is not None and state.lso is not None

    def end(self, partition: Partition) -> int:
        """Last stable offset of the newest answer of the broker; 0 before the first."""
        state = self._state(partition)
        return max(0, int(state.lso)) if state is not None and state.lso is not None else 0

    def _state(self, partition: Partition) -> Any:
        consumer = self._app.consumer._thread._consumer
        subscription = consumer._subscription.subscription if consumer is not None else None
        assignment = subscription.assignment if subscription is not None else None
        place = aiokafka.TopicPartition(*partition)
        return assignment.state_value(place) if assignment is not None and place in assignment.tps else None
