"""aiokafka's fetcher, asked for chunks: the fetched bytes stay bytes until a chunk is made of them.

What its fetchers keep of a partition's part of an answer is replaced for the process. Ours keeps the bytes beside aiokafka's
own reader and passes everything on, so that other consumers of this process read as before.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import conn as aiokafka_conn
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.record.memory_records import MemoryRecords

from skeet.streams.batches.chunk import Chunk
from skeet.streams.batches.fetched import FetchedChunks
from skeet.streams.batches.framing import Walk
from skeet.streams.batches.ledger import Limits
from skeet.streams.stages import Partition

READ_AHEAD_BYTES = 1024 * 1024
"""What a connection reads before somebody takes it. With aiokafka's 64 KiB, an answer of megabytes stops and starts the
socket at every few packets: a tenth of the processor time of reading."""


class RawRecords:
    """aiokafka's reader of fetched bytes, with the bytes at hand."""

    __slots__ = ("_reader", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._reader = MemoryRecords(raw)

    def has_next(self) -> bool:
        """As the reader's."""
        return bool(self._reader.has_next())

    def size_in_bytes(self) -> int:
        """As the reader's."""
        return int(self._reader.size_in_bytes())

    def next_batch(self) -> Any:
        """As the reader's."""
        return self._reader.next_batch()


def keep_bytes() -> None:
    """Let aiokafka's fetchers keep the bytes they fetch, and read large answers at once, in this process from now on."""
    aiokafka_fetcher.MemoryRecords = RawRecords
    aiokafka_conn.READER_LIMIT = READ_AHEAD_BYTES


def wake_at_once(fetcher: Any) -> None:
    """Let who waits for chunks of this fetcher hear of an answer as soon as it is taken apart.

    aiokafka's own word comes from the task that also sends the next fetch: two rounds of the loop later, and the next
    fetch is that much later too, because it waits until what was fetched is taken.
    """
    take_apart = fetcher._proc_fetch_request

    async def take_apart_and_tell(*arguments: Any) -> bool:
        found: bool = await take_apart(*arguments)
        if found:
            for waiter in list(fetcher._fetch_waiters):
                fetcher._notify(waiter)
        return found

    fetcher._proc_fetch_request = take_apart_and_tell


async def fetched_chunks(
    fetcher: Any, active: set[Partition], timeout_s: float, limits: Limits, walk: Walk
) -> dict[Any, Chunk]:
    """What the fetcher holds of the ``active`` partitions, one chunk for each; waits up to ``timeout_s`` for the first.

    Moves the consumer's positions past what it returns, as aiokafka's own ``fetched_records`` does.

    Raises
    ------
    aiokafka.errors.KafkaError
        what a fetch brought instead of records (no authorisation, an offset that is gone), or corrupt records.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    subscriptions = fetcher._subscriptions
    while not fetcher._closed:
        # What was fetched before a rebalance may be another member's by now.
        rebalancing = subscriptions.reassignment_in_progress
        found = {} if rebalancing else _ready(fetcher, active, limits, walk)
        left = deadline - loop.time()
        if found or left <= 0:
            return found
        waiter = subscriptions.wait_for_assignment() if rebalancing else fetcher._create_fetch_waiter()
        # Awaited itself, because ``asyncio.wait`` would add a round of the loop to every record's latency.
        late = loop.call_later(left, fetcher._notify, waiter)
        try:
            await waiter
        finally:
            late.cancel()
    return {}


def _ready(fetcher: Any, active: set[Partition], limits: Limits, walk: Walk) -> dict[Any, Chunk]:
    found: dict[Any, Chunk] = {}
    records = 0
    for place, result in list(fetcher._records.items()):
        if place not in active:
            if not fetcher._subscriptions.is_assigned(place):
                del fetcher._records[place]
        elif isinstance(result, aiokafka_fetcher.FetchError):
            if not found:
                _drop(fetcher, place)
                result.check_raise()
        else:
            chunk = _chunk(result, place, limits, walk)
            if not result.has_more():
                _drop(fetcher, place)
            if chunk is not None:
                found[place] = chunk
                records += len(chunk)
        if records >= limits.flight_records:
            break
    return found


def _drop(fetcher: Any, place: Partition) -> None:
    """Let the partition be fetched again."""
    del fetcher._records[place]
    fetcher._notify(fetcher._wait_consume_future)


def _chunk(result: Any, place: Partition, limits: Limits, walk: Walk) -> Chunk | None:
    if not result.check_assignment(place) or not result.has_more():
        return None
    held = result._partition_records
    if not isinstance(held, FetchedChunks):
        held = FetchedChunks(
            (place[0], place[1]), held._records.raw, held._aborted_transactions, held.next_fetch_offset, walk
        )
        result._partition_records = held
    chunk = held.next_chunk(limits.chunk_records, limits.chunk_bytes)
    result._update_position()
    if held.exhausted:
        result._partition_records = None
    return chunk
