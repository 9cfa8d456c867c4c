"""Stock Faust's Kafka driver with the promises that it does not make by itself.

Changed are six things. The consumer reads committed records only (stock does so in exactly-once mode only and would show
aborted fills). The offsets to commit come from the host's own account of finished records, not from Faust's list of acks
with its gaps (which counts the first record after a control marker as done before it is). Where reading starts after an
assignment is asked of the host, which restores its machines at that moment, before anything is delivered. Partition *p* of
every topic goes to the same member. Fetches wait 100 ms instead of 1,500, so that a stop is quick. A message knows whether
another one of the same poll follows it: Faust hands over one at a time, so no queue tells.

Private names of faust-streaming 0.15.3 and aiokafka 0.14.0 are used; the versions are pinned, and the adapter's tests
(aborted transaction, kill, redelivery) run against a real broker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Protocol

import aiokafka
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport

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

    def committable(self) -> Mapping[Partition, int]:
        """Next offsets: everything before them is finished, outputs acknowledged."""
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


class CommittedReader(AIOKafkaConsumerThread):  # type: ignore[misc]  # untyped library
    """The consumer's thread, with our consumer in it."""

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


class HostedConsumer(Consumer):  # type: ignore[misc]  # untyped library
    """Faust's consumer; the host says what is finished and where to start."""

    @property
    def _host(self) -> Host:
        host: Host = self.transport.host
        return host

    def _new_consumer_thread(self) -> Any:
        return CommittedReader(self, loop=self.loop, beacon=self.beacon)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[Any]:
        assigned = self.assignment()
        return (tp for tp in assigned if (tp.topic, tp.partition) in self._host.committable())

    def _new_offset(self, tp: Any) -> int | None:
        return self._host.committable().get((tp.topic, tp.partition))

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """Gaps mean nothing here: the host names the offset."""

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[Any, Any]]:  # noqa: ASYNC109  # Faust's signature
        """What a poll brought, one by one, ``followed`` or not."""
        last: tuple[Any, Any] | None = None
        async for each in super().getmany(timeout):
            if last is not None:
                last[1].followed = True
                yield last
            last = each
        # Faust looks at these two before each message; the end of its loop may be their doing.
        if last is not None and self.flow_active and last[1].generation_id == self.app.consumer_generation_id:
            last[1].followed = False
            yield last

    async def seek_to_committed(self) -> Mapping[Any, int]:
        """Ask the host where to start, and go there."""
        committed = dict(await super().seek_to_committed())
        missing = [tp for tp, offset in committed.items() if offset is None]
        if missing:
            committed.update(await self.earliest_offsets(*missing))
        plain = {(tp.topic, tp.partition): offset for tp, offset in committed.items()}
        wanted = await self._host.starting(plain)
        moved = {tp: wanted[tp.topic, tp.partition] for tp in committed}
        await self.seek_wait({tp: offset for tp, offset in moved.items() if offset != committed[tp] or tp in missing})
        return moved

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        """Let the host finish, commit, then give the partitions up."""
        if revoked:
            await self._host.revoking()
            await self.commit()
        await super().on_partitions_revoked(revoked)
        self._host.revoked()


class HeldPositions:
    """What the consumer holds of its partitions, without asking the broker. Readable from any thread; 0 where unknown."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def position(self, partition: Partition) -> int:
        """Next offset to be handed to Faust; it moves over markers and aborted records, too."""
        state = self._state(partition)
        return int(state.position) if state is not None and state.has_valid_position else 0

    def answered(self, partition: Partition) -> bool:
        """Whether a broker has said where the partition ends since it was assigned."""
        state = self._state(partition)
        return state is not None and state.lso is not None

    def end(self, partition: Partition) -> int:
        """Last stable offset of the newest answer of the broker."""
        state = self._state(partition)
        return max(0, int(state.lso)) if state is not None and state.lso is not None else 0

    def _state(self, partition: Partition) -> Any:
        consumer = self._app.consumer._thread._consumer
        subscription = consumer._subscription.subscription if consumer is not None else None
        assignment = subscription.assignment if subscription is not None else None
        place = aiokafka.TopicPartition(*partition)
        return assignment.state_value(place) if assignment is not None and place in assignment.tps else None


class HostedTransport(Transport):  # type: ignore[misc]  # untyped library
    """Faust's transport with our consumer; ``host`` is set before the application starts."""

    Consumer = HostedConsumer
    host: Host
