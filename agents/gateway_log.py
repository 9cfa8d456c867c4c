"""The gateway's two threads on Kafka: one reads authorised orders, one writes reports; asyncio does the rest.

The reader hands one batch at a time to a coroutine and reads on when that returns. The writer makes one transaction of
whatever waits: attempts with their input positions, outcomes, fills. Blocking calls of the client never stop the sending.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Message

from skeet.config import Settings
from skeet.core.errors import InfrastructureError, InvalidInput, UnknownEvent
from skeet.core.record import Out, Record
from skeet.health import HEALTH
from skeet.process import logger
from skeet.schemas.codec import Codec
from skeet.streams.crash_points import GATEWAY_AFTER_REPORT, GATEWAY_BEFORE_REPORT, GATEWAY_IN_TRANSACTION, reach
from skeet.streams.door import Door, dead_letter, raw_record
from skeet.streams.kafka import group_name
from skeet.streams.reading import messages_until_end, written_offsets
from skeet.streams.topics import ACCOUNT_EVENTS, REPORTS, topic_name
from skeet.streams.transactional import Inputs, TransactionAborted, Transactor

GROUP = "gateway"
POLL_S = 0.2
TRANSACTION_RECORDS = 1_000
"""Reports of one transaction; more wait for the next."""
WAITING_RECORDS = 100_000
"""Reports waiting for Kafka; past this the process ends, and asks the venue again when it is back."""
POSITION_INTERVAL_S = 0.5
"""Positions past records that ask nothing of a gateway are committed this late: most are the desk's echo of our reports,
and a transaction for each would stand in the way of the next order."""
SETTLE_DEADLINE_S = 10.0
"""Two transactions that take their longest; then the group has gone on without this gateway."""
ABORT_TRIES = 3
"""An aborted transaction left nothing and nothing was sent, so it is written again this often."""

Batch = Sequence[Record[Any]]
OnBatch = Callable[[Batch, Sequence[Message]], Coroutine[Any, Any, None]]
OnPartitions = Callable[[list[int]], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class _Work:
    outs: Sequence[Out[Any]]
    consumed: Sequence[Message]
    done: asyncio.Future[None]


class GatewayLog:
    """Reads ``accounts.events.v1``, writes ``venue.reports.v1``. Made and used in the event loop.

    ``failed`` is done as soon as a thread cannot go on: the process must end then, its successor recovers.
    """

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self._member = f"{GROUP}-{settings.slot}"
        self._loop = asyncio.get_running_loop()
        self._transactor = Transactor(settings, codec, self._member, GATEWAY_IN_TRANSACTION)
        self._inputs: Inputs | None = None
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._passed: list[Message] = []
        self._door = Door(settings.kafka, codec)
        self._letters: list[Out[Any]] = []
        """Dead letters of the poll that is being handled: written with the positions past what they are about."""
        self._flush: asyncio.TimerHandle | None = None
        self._waiting = 0
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self.failed: asyncio.Future[None] = self._loop.create_future()

    async def open(self) -> None:
        """Fence every older gateway of this slot; from here on nobody else adds reports."""
        await asyncio.to_thread(self._transactor.open, [REPORTS])
        self._start(self._write, "gateway-writer")

    def consume(self, on_assigned: OnPartitions, on_revoked: OnPartitions, on_batch: OnBatch) -> None:
        """Join the group. ``on_assigned`` is awaited before the first record of its partitions is delivered.

        ``on_revoked`` is awaited, and everything published until it returns is committed, before another gateway is told
        that the partitions are its own.
        """
        self._start(lambda: self._read(on_assigned, on_revoked, on_batch), "gateway-reader")

    def own_reports(self, partitions: list[int]) -> Iterator[Record[Any]]:
        """Every report of these partitions up to the end at this moment, in order. Blocks.

        The end is that of everything written: an attempt in a transaction that an earlier owner committed and that the
        broker is still finishing must be seen, or its order would be sent twice.
        """
        wanted = [(topic_name(REPORTS, self._settings.kafka), partition) for partition in partitions]
        ends = written_offsets(self._settings, wanted)
        for message in messages_until_end(self._settings, wanted, ends=ends):
            try:
                yield self._door.message(message)
            except InvalidInput as error:
                # The desk wrote its dead letter and halted its account; no report of ours is like that.
                at = f"{message.topic()}/{message.partition()}/{message.offset()}"
                logger().warning("no report of a gateway: left out", at=at, cause=str(error))

    def publish(self, outs: Sequence[Out[Any]], consumed: Sequence[Message] = ()) -> asyncio.Future[None]:
        """Queue reports in order, with the input positions they settle; done when committed."""
        done: asyncio.Future[None] = self._loop.create_future()
        if consumed and self._letters:
            outs, self._letters = [*self._letters, *outs], []
        if not outs:
            self._pass_over(consumed)
            done.set_result(None)
            return done
        if consumed:
            consumed = [*self._passed, *consumed]
            self._passed = []
        self._waiting += len(outs)
        if self._waiting > WAITING_RECORDS:
            self._fail(InfrastructureError(f"{self._waiting} reports wait for Kafka; the limit is {WAITING_RECORDS}"))
        self._work.put(_Work(outs, consumed, done))
        return done

    def _pass_over(self, consumed: Sequence[Message]) -> None:
        """Keep the newest record of each partition until the next transaction with inputs, or for a moment."""
        newest = {(m.topic(), m.partition()): m for m in (*self._passed, *consumed)}
        self._passed = list(newest.values())
        if self._passed and self._flush is None:
            self._flush = self._loop.call_later(POSITION_INTERVAL_S, self._flush_passed)

    def _flush_passed(self) -> None:
        self._flush = None
        if self._passed:
            self._work.put(_Work((), self._passed, self._loop.create_future()))
            self._passed = []

    async def close(self) -> None:
        """Stop reading, write what waits, leave."""
        self._stopping.set()
        readers = [thread for thread in self._threads if thread.name == "gateway-reader"]
        for thread in readers:
            await asyncio.to_thread(thread.join)
        self._flush_passed()
        self._work.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        if self._inputs is not None:  # last: the writer still names this membership in its transactions
            await asyncio.to_thread(self._inputs.close)

    # --- threads ------------------------------------------------------------------------------------------------------

    def _start(self, target: Callable[[], None], name: str) -> None:
        def run() -> None:
            try:
                target()
            except BaseException as error:
                self._loop.call_soon_threadsafe(self._fail, error)

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    def _read(self, on_assigned: OnPartitions, on_revoked: OnPartitions, on_batch: OnBatch) -> None:
        owned: set[int] = set()

        def assigned(partitions: list[int]) -> None:
            self._patiently(on_assigned(partitions))
            owned.update(partitions)

        def revoked(partitions: list[int]) -> None:
            owned.difference_update(partitions)
            if not self._stopping.is_set() and partitions:
                self._patiently(on_revoked(partitions))
                self._patiently(self._settled())

        inputs = Inputs(
            self._settings,
            [ACCOUNT_EVENTS],
            group_name(self._settings, GROUP),
            self._member,
            on_assigned=assigned,
            on_revoked=revoked,
        )
        self._inputs = inputs
        HEALTH.loop("reader")
        while not self._stopping.is_set():
            HEALTH.beat()
            # A rebalance may end inside a poll: what it read before belongs to somebody else.
            messages = [m for m in inputs.poll(POLL_S) if m.partition() in owned]
            if messages:
                batch = self._let_in(messages)
                asyncio.run_coroutine_threadsafe(on_batch(batch, messages), self._loop).result()

    async def _settled(self) -> None:
        """Return once everything published is committed: nothing of this membership is written under the next one.

        Raises
        ------
        InfrastructureError
            the writer did not get there: the process must end, its successor recovers.
        """
        self._flush_passed()
        last = _Work((), (), self._loop.create_future())
        self._work.put(last)
        await asyncio.wait({last.done, self.failed}, timeout=SETTLE_DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)
        if not last.done.done():
            raise InfrastructureError("what was published before the hand-over could not be committed")

    def _patiently(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for a recovery, however long its log is: the event loop has beats of its own."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while not future.done():
            HEALTH.beat()
            wait({future}, POLL_S)
        future.result()

    def _let_in(self, messages: Sequence[Message]) -> Batch:
        """What the desk wrote of a poll. Anything else in its topic becomes a dead letter, and nothing is sent for it.

        Raises
        ------
        InfrastructureError
            a newer desk wrote it: acting on the rest without it could send what it forbids.
        """
        batch: list[Record[Any]] = []
        for message in messages:
            raw = raw_record(message, self._settings.kafka.topic_prefix)
            try:
                batch.append(self._door.record(raw))
            except UnknownEvent as error:
                raise InfrastructureError(f"{raw.at}: {error}; run the version that wrote it") from error
            except InvalidInput as error:
                logger().error("dead letter", at=str(raw.at), cause=str(error))
                self._letters.append(dead_letter(GROUP, raw, error))
        return batch

    def _write(self) -> None:
        while (work := self._next_work()) is not None:
            outs = [out for item in work for out in item.outs]
            consumed = [message for item in work for message in item.consumed]
            only_reports = bool(outs) and not consumed
            if only_reports:
                reach(GATEWAY_BEFORE_REPORT)
            if outs or consumed:
                self._commit(outs, consumed)
            if only_reports:
                reach(GATEWAY_AFTER_REPORT)
            self._loop.call_soon_threadsafe(self._committed, work)

    def _next_work(self) -> list[_Work] | None:
        first = self._work.get()
        if first is None:
            return None
        work, count = [first], len(first.outs)
        while count < TRANSACTION_RECORDS:
            try:
                item = self._work.get_nowait()
            except queue.Empty:
                break
            if item is None:
                self._work.put(None)
                break
            work.append(item)
            count += len(item.outs)
        return work

    def _commit(self, outs: Sequence[Out[Any]], consumed: Sequence[Message]) -> None:
        for tries in range(1, ABORT_TRIES + 1):
            try:
                self._transactor.commit(outs, self._inputs, consumed)
                return
            except TransactionAborted:
                if tries == ABORT_TRIES:
                    raise

    def _committed(self, work: list[_Work]) -> None:
        for item in work:
            self._waiting -= len(item.outs)
            if not item.done.done():
                item.done.set_result(None)
