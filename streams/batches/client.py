"""A consumer of chunks for loops that block: a member of a group as confluent-kafka's consumer is one, without Faust.

aiokafka's consumer runs on an event loop in a thread of its own, so that heartbeats go on whatever the caller does. All methods
and the callbacks of rebalances belong to the caller's thread: a callback runs inside :meth:`ChunkClient.poll`, and the group
waits for it, so that a revoked partition is not another member's before the callback has returned.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from skeet.config import Settings
from skeet.connections.kafka import aiokafka_options, require_kafka
from skeet.core.errors import InfrastructureError
from skeet.process import logger
from skeet.streams.batches.chunk import Chunk
from skeet.streams.batches.contract import require_known_versions
from skeet.streams.batches.fetching import fetched_chunks, keep_bytes, wake_at_once
from skeet.streams.batches.ledger import Limits
from skeet.streams.batches.memory import give_back_regularly, hold_large_blocks
from skeet.streams.batches.sessions import remember_partitions
from skeet.streams.batches.walking import compiled
from skeet.streams.kafka import REBALANCE_MS, SESSION_TIMEOUT_MS
from skeet.streams.stages import Partition

R = TypeVar("R")

LIMITS = Limits(chunk_records=65_536, chunk_bytes=16 * 1024 * 1024)
"""A chunk is what was fetched of a partition, usually its whole part of an answer."""
ASK_S = 10.0
"""How long a question to the brokers about committed positions may take."""
COMMIT_S = 20.0
"""How long a commit may take: aiokafka would try for ever while the group's coordinator is away."""
CLOSE_S = 10.0
HEARTBEAT_MS = 3_000

# Twenty lines a second while a broker is away; what cannot be cured raises.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

TEXT_END = "\0"
"""Behind committed metadata: confluent-kafka writes it, and reads beyond the text's memory where it is missing."""

Places = Sequence[Partition]
Committed = Mapping[Partition, tuple[int, str]]
"""Next offset and metadata of partitions that somebody committed."""


@dataclass(slots=True)
class _Call:
    """A callback that the group waits for."""

    run: Callable[[Places], None]
    places: Places
    done: asyncio.Future[None]


class ChunkClient:
    """One member of a consumer group. Use it from one thread, and :meth:`close` it.

    Parameters
    ----------
    fetch_min_bytes, fetch_wait_ms
        the broker answers when so much is there, or so long has passed.

    Raises
    ------
    InfrastructureError
        the installed aiokafka is not of a version that this was proven with.
    """

    def __init__(
        self, settings: Settings, client_id: str, group_id: str, *, fetch_min_bytes: int = 1, fetch_wait_ms: int = 100
    ) -> None:
        require_known_versions("aiokafka")
        require_kafka(settings.kafka)
        keep_bytes()
        hold_large_blocks()
        self._walk = compiled()
        self._options = {
            "bootstrap_servers": settings.kafka.bootstrap,
            "client_id": client_id,
            "group_id": group_id,
            "isolation_level": "read_committed",
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "session_timeout_ms": SESSION_TIMEOUT_MS,
            "heartbeat_interval_ms": HEARTBEAT_MS,
            "rebalance_timeout_ms": REBALANCE_MS,
            "fetch_min_bytes": fetch_min_bytes,
            "fetch_max_wait_ms": fetch_wait_ms,
            **aiokafka_options(settings.kafka),
        }
        self._calls: deque[_Call] = deque()
        self._called = asyncio.Event()
        self._expected: dict[Partition, int | None] = {}
        self._leaving = False
        self._consumer: Any = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=client_id, daemon=True)
        self._thread.start()
        self._giving_back = asyncio.run_coroutine_threadsafe(give_back_regularly(), self._loop)

    def subscribe(
        self, topics: Sequence[str], on_assign: Callable[[Places], None], on_revoke: Callable[[Places], None]
    ) -> None:
        """Join the group. ``on_assign`` must :meth:`start` every partition it is given.

        Raises
        ------
        InfrastructureError
            no broker answers.
        """
        self._ask(self._join(topics, _Listener(self, on_assign, on_revoke)))

    def poll(self, timeout_s: float) -> list[Chunk]:
        """What was fetched, at most a chunk of each partition, each where the one before it ended; waits for the first.

        Raises
        ------
        InfrastructureError
            an error that the client does not heal by itself: no authorisation, corrupt records.
        """
        chunks = self._ask(self._fetched(timeout_s))
        return [] if self._serve() else chunks

    def start(self, starts: Mapping[Partition, int | None]) -> None:
        """Read these assigned partitions from there; None: from their beginnings."""
        self._ask(self._seek(starts))

    def committed(self, places: Places) -> Committed:
        """What the group has committed of these.

        Raises
        ------
        InfrastructureError
            nobody answers.
        """
        return self._ask(self._committed(places), ASK_S)

    def commit(self, offsets: Committed) -> None:
        """Commit next offsets, each with its metadata, and wait for the answer.

        Raises
        ------
        InfrastructureError
            the group moved on, the broker refuses, or nobody answers: whether it was committed is not known then.
        """
        wanted = {TopicPartition(*place): (offset, text + TEXT_END) for place, (offset, text) in offsets.items()}
        if wanted:
            self._ask(self._consumer.commit(wanted), COMMIT_S)

    def position(self, partition: Partition) -> int:
        """Next offset to be delivered; 0 before the first record."""
        state = self._state(partition)
        return state.position if state is not None and state.has_valid_position else 0

    def end(self, partition: Partition) -> int:
        """The last stable end seen; 0 before the first answer of a broker."""
        return self._end(partition) or 0

    def ended(self, places: Iterable[Partition]) -> list[tuple[Partition, int]]:
        """Those of the partitions that are delivered to the last end seen, with it."""
        ends = ((place, self._end(place)) for place in places)
        return [(place, end) for place, end in ends if end is not None and self.position(place) >= end]

    def close(self) -> None:
        """Leave the group. Idempotent."""
        if self._loop.is_closed():
            return
        self._giving_back.cancel()
        stopping = asyncio.run_coroutine_threadsafe(self._leave(), self._loop)
        try:
            stopping.result(CLOSE_S)
        except (KafkaError, OSError, TimeoutError) as error:
            logger().warning("leaving the group failed", error=repr(error))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _ask(self, question: Coroutine[Any, Any, R], timeout_s: float | None = None) -> R:
        future = asyncio.run_coroutine_threadsafe(question, self._loop)
        try:
            return future.result(timeout_s)
        except (KafkaError, OSError, TimeoutError) as error:
            future.cancel()
            raise InfrastructureError(f"Kafka: {error!r}") from error

    def _serve(self) -> bool:
        """Run the callbacks that the group waits for; whether there were any."""
        served = False
        while self._calls:
            call = self._calls.popleft()
            served = True
            try:
                call.run(call.places)
            finally:
                self._loop.call_soon_threadsafe(_finish, call.done)
        return served

    # On the loop.

    async def _join(self, topics: Sequence[str], listener: ConsumerRebalanceListener) -> None:
        self._consumer = AIOKafkaConsumer(**self._options)
        remember_partitions(self._consumer)
        # In the other order, starting would wait until the group has settled, and other members with it.
        await self._consumer.start()
        wake_at_once(self._consumer._fetcher)
        self._consumer.subscribe(list(topics), listener=listener)

    async def _leave(self) -> None:
        self._leaving = True
        for call in self._calls:
            _finish(call.done)
        self._calls.clear()
        if self._consumer is not None:
            await self._consumer.stop()

    async def called(self, run: Callable[[Places], None], places: Iterable[Any]) -> None:
        """Have the caller's thread run a callback, and wait for it; who is leaving runs none."""
        if self._leaving:
            return
        call = _Call(run, sorted((place[0], place[1]) for place in places), self._loop.create_future())
        self._calls.append(call)
        self._called.set()
        await call.done

    async def _fetched(self, timeout_s: float) -> list[Chunk]:
        consumer, fetcher = self._consumer, self._consumer._fetcher
        consumer._coordinator.check_errors()
        self._called.clear()
        if self._calls:
            return []
        with fetcher._subscriptions.fetch_context():
            places = set(consumer.assignment())
            fetching = asyncio.ensure_future(fetched_chunks(fetcher, places, timeout_s, LIMITS, self._walk))
            called = asyncio.ensure_future(self._called.wait())
            await asyncio.wait((fetching, called), return_when=asyncio.FIRST_COMPLETED)
            called.cancel()
            if not fetching.done():
                fetching.cancel()
                await asyncio.wait((fetching,))
                return []
            return [chunk for chunk in fetching.result().values() if await self._in_order(chunk)]

    async def _in_order(self, chunk: Chunk) -> bool:
        """Whether the chunk begins where its partition was to be read next; else that place is sought."""
        place = (chunk.topic, chunk.partition)
        expected = self._expected.get(place)
        if expected is not None and chunk.first != expected:
            at = TopicPartition(*place)
            first = (await self._consumer.beginning_offsets([at]))[at]
            if first <= expected <= (self._end(place) or 0):
                self._consumer.seek(at, expected)
                return False
            logger().warning("records are gone", at=f"{place[0]}-{place[1]}", first=expected, next=chunk.first)
        self._expected[place] = chunk.next_offset
        return len(chunk) > 0

    async def _seek(self, starts: Mapping[Partition, int | None]) -> None:
        for place, offset in starts.items():
            self._expected[place] = offset
            # What begins later answers that 0 is out of range, and is reset to where it begins.
            self._consumer.seek(TopicPartition(*place), offset or 0)

    async def _committed(self, places: Places) -> Committed:
        wanted = [TopicPartition(*place) for place in places]
        found = await self._consumer._coordinator.fetch_committed_offsets(wanted)
        return {
            (at.topic, at.partition): (entry.offset, (entry.metadata or "").removesuffix(TEXT_END))
            for at, entry in found.items()
        }

    def _end(self, partition: Partition) -> int | None:
        state = self._state(partition)
        return None if state is None else state.lso

    def _state(self, partition: Partition) -> Any:
        subscription = self._consumer._subscription.subscription if self._consumer is not None else None
        assignment = subscription.assignment if subscription is not None else None
        place = TopicPartition(*partition)
        return assignment.state_value(place) if assignment is not None and place in assignment.tps else None


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # untyped library
    def __init__(
        self, client: ChunkClient, on_assign: Callable[[Places], None], on_revoke: Callable[[Places], None]
    ) -> None:
        self._client, self._on_assign, self._on_revoke = client, on_assign, on_revoke

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        if places := list(revoked):  # aiokafka also says so before the first join
            await self._client.called(self._on_revoke, places)

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        await self._client.called(self._on_assign, assigned)


def _finish(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
