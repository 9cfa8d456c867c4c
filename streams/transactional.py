"""Consume, process, produce: the offsets of the inputs and the outputs they caused are one Kafka transaction.

:class:`Transactor` is the producing half: each :meth:`~Transactor.commit` is one whole transaction. :class:`Inputs` is the
consuming half: a group member that hands out batches and knows the stable positions it was given. A caller keeps no
transaction open while it thinks: it polls, decides, then commits everything at once; after :class:`TransactionAborted`
nothing of that commit is in the log, so it throws away what it derived, calls :meth:`Inputs.rewind`, and reads again.

Neither half is thread-safe; a caller may use them from one worker thread at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from skeet.config import Settings
from skeet.core.errors import InfrastructureError, InvalidInput
from skeet.core.record import Out
from skeet.metrics import counter
from skeet.process import logger
from skeet.schemas.codec import Codec
from skeet.streams.catching_up import ClientEnds, Progress
from skeet.streams.crash_points import CrashPoint, reach
from skeet.streams.hang_guard import HangGuard
from skeet.streams.kafka import close_member, consumer, producer
from skeet.streams.reading import Partition
from skeet.streams.topics import ANY_TENANT, Topic, broker_name, subscription, topic_name

TRANSACTION_DEADLINE_S = 5.0
"""One call of the transaction protocol is given this long before it is tried again."""
COMMIT_TRIES = 2
"""A commit without an answer is repeated (it is idempotent); after this many the outcome stays unknown and the process
ends: its successor's init_transactions settles it."""
HANGS_S = TRANSACTION_DEADLINE_S + 1
"""A call that takes longer than its deadline hangs in the client, and so would its process. After a broker's death that is
nothing rare: librdkafka 2.16 asks three times for the group's coordinator within milliseconds, and was seen to wait far past
the call's deadline once it had been told three times that there is none yet."""
STABLE_OFFSETS_DEADLINE_S = 30.0
"""Longer than TRANSACTION_TIMEOUT_MS, after which the broker aborts what a dead predecessor left open."""
FAILOVER_SESSION_MS = 6_000
"""How long the group waits for a silent desk or gateway before another takes its partitions over. The shortest that a broker
allows by default (``group.min.session.timeout.ms``): six seconds of silence, then rebalance and fold, make a failover of
under ten. A pause that long (a laptop asleep, a machine that swaps) costs one needless hand-over, which loses nothing."""
NEW_TOPICS_MS = 2_000
"""A new tenant's topics are found this late by a member that reads all tenants' (librdkafka's default: 5 minutes)."""
FETCH_WAIT_MS = 500
"""A broker answers a fetch as soon as there is a record; without one it holds the question this long. Only the
news that a partition has ended comes so late."""
MAX_WRITTEN_BYTES = 900_000
"""Brokers take 1 MiB with everything around it (``message.max.bytes``), and refuse the rest for ever."""
BATCH_LIMIT = 500
"""Records of one poll, and so of one transaction's inputs."""


class TransactionAborted(InfrastructureError):
    """Nothing of the transaction is in the log. Throw away what was derived, rewind the inputs, read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A record ready to be sent: topic without its prefix, and the partition where the key does not decide."""

    topic: str
    key: bytes
    value: bytes
    partition: int | None = None


def encode(codec: Codec, out: Out[Any]) -> Encoded:
    """The bytes of an out; encoding before changing any state keeps a record that cannot be written harmless.

    Raises
    ------
    InvalidInput
        see :meth:`Codec.encode`; or it is longer than the broker takes, which would end the transaction's process.
    """
    value = codec.encode(out.event, out.meta)
    if len(value) > MAX_WRITTEN_BYTES:
        kind = type(out.event).__name__
        raise InvalidInput(f"{kind} for {out.topic} has {len(value)} bytes; expected at most {MAX_WRITTEN_BYTES}")
    return Encoded(topic=out.topic, key=out.key.encode(), value=value, partition=out.partition)


class Transactor:
    """A transactional producer. Opening it fences every older producer of the same id.

    Parameters
    ----------
    transactional_id
        equal across restarts, different between processes that live side by side (``desk-0``, ``desk-1``).
    before_commit
        the crash point of its owner where a transaction is whole and its commit not asked for.
    """

    def __init__(
        self, settings: Settings, codec: Codec, transactional_id: str, before_commit: CrashPoint | None = None
    ) -> None:
        self._codec = codec
        self._before_commit = before_commit
        self._client = producer(
            settings, transactional_id, transactional_id=settings.kafka.topic_prefix + transactional_id
        )
        self._kafka = settings.kafka
        self._ends: dict[Partition, int] = {}
        self._guard = HangGuard(f"transaction of {transactional_id}", HANGS_S)
        self._committed = counter("skeet_transactions_total", "committed")
        self._aborted = counter("skeet_transactions_total", "aborted")

    def open(self, warm: Iterable[Topic] = ()) -> None:
        """Settle what a predecessor left, fence it, and load the coordinator and the topics' metadata.

        An aborted transaction touches the first partition of each ``warm`` topic, so that the first real one is fast.
        """
        _call(nullcontext(), self._client.init_transactions, TRANSACTION_DEADLINE_S * 3)
        names = [topic_name(topic, self._kafka) for topic in warm]
        if names:
            self._client.begin_transaction()
            for name in names:
                self._client.produce(name, b"", partition=0)
            self._client.flush(TRANSACTION_DEADLINE_S)
            _call(self._guard, self._client.abort_transaction, TRANSACTION_DEADLINE_S)

    def commit(
        self, outs: Iterable[Out[Any] | Encoded], inputs: Inputs | None = None, consumed: Sequence[Message] = ()
    ) -> dict[Partition, int]:
        """Write the outs and the positions after ``consumed`` as one transaction; returns when it is committed.

        With ``inputs`` every transaction is fenced by the group, also one that consumed nothing: a member that lost its
        partitions without noticing writes nothing any more.

        Returns the offset after the last out, by the broker's topic name and partition.

        Raises
        ------
        TransactionAborted
            nothing was written; see the module.
        InfrastructureError
            this producer is fenced or the outcome is unknown: the process must end.
        """
        self._ends = {}
        self._client.begin_transaction()
        try:
            for out in outs:
                self._produce(out if isinstance(out, Encoded) else encode(self._codec, out))
            positions = inputs.positions_after(consumed) if inputs is not None else []
            if inputs is not None and positions:
                arguments = (positions, inputs.group_metadata(), TRANSACTION_DEADLINE_S)
                _call(self._guard, self._client.send_offsets_to_transaction, *arguments)
            if self._before_commit is not None:
                reach(self._before_commit)
            _call(self._guard, self._client.commit_transaction, TRANSACTION_DEADLINE_S)
        except KafkaException as error:
            self._aborted.inc()
            self._abort(error)
        except BaseException:
            self._aborted.inc()
            _call(self._guard, self._client.abort_transaction, TRANSACTION_DEADLINE_S)
            raise
        if inputs is not None:
            inputs.committed(positions)
        self._committed.inc()
        return self._ends

    def _produce(self, out: Encoded) -> None:
        extra: dict[str, Any] = {} if out.partition is None else {"partition": out.partition}
        while True:
            try:
                self._client.produce(
                    broker_name(out.topic, self._kafka),
                    out.value,
                    key=out.key,
                    on_delivery=self._delivered,
                    **extra,
                )
                return
            except BufferError:
                self._client.poll(0.05)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._ends[message.topic(), message.partition()] = message.offset() + 1

    def _abort(self, cause: KafkaException) -> None:
        error: KafkaError = cause.args[0]
        if error.fatal() or not error.txn_requires_abort():
            raise InfrastructureError(f"transaction: {error.str()} ({error.name()}); this process must end") from cause
        _call(self._guard, self._client.abort_transaction, TRANSACTION_DEADLINE_S)
        raise TransactionAborted(f"transaction aborted: {error.str()} ({error.name()})") from cause


def _call(guard: AbstractContextManager[None], function: Callable[..., Any], *arguments: Any) -> None:
    """A call of the transaction protocol; what the client says may be repeated is repeated, with a limit. ``guard`` is
    entered for each try."""
    for attempt in range(1, COMMIT_TRIES + 1):
        try:
            with guard:
                function(*arguments)
            return
        except KafkaException as error:
            kafka_error: KafkaError = error.args[0]
            if attempt == COMMIT_TRIES or not kafka_error.retriable():
                raise
            logger().warning("transaction call repeated", call=function.__name__, error=kafka_error.str())


def next_positions(messages: Iterable[Message]) -> list[TopicPartition]:
    """The position after the last message of each partition."""
    ends: dict[Partition, int] = {}
    for message in messages:
        partition = (message.topic(), message.partition())
        ends[partition] = max(ends.get(partition, 0), message.offset() + 1)
    return [TopicPartition(topic, number, offset) for (topic, number), offset in ends.items()]


PartitionsChanged = Callable[[list[int]], None]
"""Called inside :meth:`Inputs.poll` with partition numbers. When told of an assignment, no record of those partitions has
been delivered yet, and everything that earlier owners committed is stable."""


class Inputs:
    """A member of a consumer group whose positions are committed by a :class:`Transactor`.

    The topics must have equal partition counts: one member gets the same partition numbers of each (range assignment). A
    topic of :data:`TENANT_TOPICS` stands for those of all tenants, the ones that come later included.
    ``member`` makes the membership static: a restarted process takes its partitions back at once, without waiting for
    its predecessor's session to end.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Sequence[Topic],
        group: str,
        member: str,
        *,
        on_assigned: PartitionsChanged = lambda _: None,
        on_revoked: PartitionsChanged = lambda _: None,
    ) -> None:
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._metadata: Any = None
        self._positions: dict[Partition, int] = {}
        self._closing = False
        many = any(ANY_TENANT in topic.name for topic in topics)
        extra = {"topic_metadata_refresh_interval_ms": NEW_TOPICS_MS} if many else {}
        self._client = consumer(
            settings,
            member,
            group_id=group,
            group_instance_id=member,
            partition_assignment_strategy="range",
            enable_partition_eof=True,
            session_timeout_ms=FAILOVER_SESSION_MS,
            heartbeat_interval_ms=FAILOVER_SESSION_MS // 6,
            fetch_wait_max_ms=FETCH_WAIT_MS,
            **extra,
        )
        self.progress = Progress(group, ClientEnds(self._client))
        self._client.subscribe(
            [subscription(topic, settings.kafka) for topic in topics],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._revoked,
        )

    def poll(self, timeout_s: float, limit: int = BATCH_LIMIT) -> list[Message]:
        """What is there, at most ``limit``; waits up to ``timeout_s`` for the first message only."""
        self.progress.look()
        first = self._client.poll(timeout_s)
        if first is None:
            return []
        rest = self._client.consume(limit - 1, 0) if limit > 1 else []
        # Taken here, by the thread that polls: the client serves one thread at a time, and a poll that waits for a record
        # keeps another thread's call waiting for ever. It is also the generation in which these records were read.
        self._metadata = self._client.consumer_group_metadata()
        return [message for message in (first, *rest) if not self._is_error(message)]

    def group_metadata(self) -> Any:
        """What fences a member that lost its partitions without noticing: its membership when it was assigned them, or at
        the last poll that read."""
        return self._metadata

    def positions_after(self, consumed: Sequence[Message]) -> list[TopicPartition]:
        """What a transaction commits: the positions after the consumed; with none, one that stands already.

        The broker checks the membership of whoever sends offsets, and of nobody else. So a transaction that consumed nothing
        repeats the position of one partition; with no partition there is nothing to write for, and nothing is sent.
        """
        if consumed:
            return next_positions(consumed)
        for (topic, number), offset in tuple(self._positions.items()):
            return [TopicPartition(topic, number, offset)]
        return []

    def committed(self, positions: Sequence[TopicPartition]) -> None:
        """A transaction with these positions is in the log."""
        for position in positions:
            place = (position.topic, position.partition)
            if place in self._positions:
                self._positions[place] = max(self._positions[place], position.offset)

    def assignment(self) -> list[TopicPartition]:
        """The partitions this member holds now."""
        return list(self._client.assignment())

    def rewind(self) -> None:
        """Go back to the stable committed positions of everything assigned."""
        for position in stable_positions(self._client, self._client.assignment()):
            self._client.seek(position)

    def close(self) -> None:
        """Stop reading. A static member's partitions stay its own until its session ends."""
        self._closing = True
        self.progress.close()
        close_member(self._client)

    def _assigned(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        if self._closing:
            return  # it came while nobody polled; a client that closes tells of it and answers no more questions
        positions = stable_positions(client, partitions)
        # Before anybody is told: what they write at once must name this generation, not the one before.
        self._metadata = client.consumer_group_metadata()
        self._positions = {(p.topic, p.partition): max(0, p.offset) for p in positions}
        self._on_assigned(sorted({position.partition for position in positions}))
        self.progress.assigned((position.topic, position.partition) for position in positions)
        client.assign(positions)

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._on_revoked(sorted({position.partition for position in partitions}))
        gone = [(position.topic, position.partition) for position in partitions]
        self.progress.revoked(gone)
        for place in gone:
            self._positions.pop(place, None)

    def _is_error(self, message: Message) -> bool:
        error: KafkaError | None = message.error()
        if error is None:
            return False
        if error.code() == KafkaError._PARTITION_EOF:
            self.progress.ended((message.topic(), message.partition()), message.offset())
            return True
        if error.fatal():
            raise InfrastructureError(f"consumer: {error.str()} ({error.name()}); this process must end")
        logger().warning("consumer", error=error.str())
        return True


def stable_positions(client: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
    """The group's committed positions once no transaction is open on them; the beginning where there is none.

    Raises
    ------
    InfrastructureError
        an open transaction did not end within its time.
    """
    deadline = time.monotonic() + STABLE_OFFSETS_DEADLINE_S
    while partitions:
        try:
            found = client.committed(partitions, timeout=TRANSACTION_DEADLINE_S)
            if all(position.error is None for position in found):
                return [
                    TopicPartition(p.topic, p.partition, p.offset if p.offset >= 0 else OFFSET_BEGINNING) for p in found
                ]
        except KafkaException as error:
            if not error.args[0].retriable():
                raise InfrastructureError(f"committed positions: {error}") from error
        if time.monotonic() > deadline:
            raise InfrastructureError(f"committed positions are not stable after {STABLE_OFFSETS_DEADLINE_S:.0f} s")
        time.sleep(0.02)  # the broker answers at once that an offset is not stable yet
    return []
