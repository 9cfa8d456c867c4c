"""The batch transport on a real broker: what it shows, what it commits, and what it does when told to go elsewhere."""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from faust.types import TP
from live_batches import commit, committed, fill, group, has, new_topic, numbered, read_committed, running, until

from skeet.streams.batches.app import raw_record
from skeet.streams.batches.chunk import Chunk
from skeet.streams.batches.emission import Outputs
from skeet.streams.batches.ledger import Limits

pytestmark = pytest.mark.integration

SMALL = Limits(chunk_records=100, flight_records=300, commit_records=100)
LAST = b"last"


def interleaved_transactions(kafka: str, topic: str) -> None:
    """Three transactional producers at a time, two of five transactions aborted, and plain records between."""
    rng = random.Random(3)
    producers = [
        Producer({"bootstrap.servers": kafka, "transactional.id": f"{topic}-{n}", "linger.ms": 0}) for n in range(3)
    ]
    for client in producers:
        client.init_transactions(30)
        client.begin_transaction()
    for step in range(120):
        client = producers[rng.randrange(3)]
        for n in range(rng.randrange(1, 20)):
            client.produce(topic, b"%d-%d" % (step, n), partition=0)
        client.flush(30)
        if rng.random() < 0.3:
            client.abort_transaction(30) if rng.random() < 0.4 else client.commit_transaction(30)
            client.begin_transaction()
        if rng.random() < 0.2:
            fill(kafka, topic, [b"plain-%d" % step])
    for client in producers:
        client.abort_transaction(30)
    fill(kafka, topic, [LAST])


async def test_only_committed_records_are_delivered(kafka: str) -> None:
    topic = new_topic(kafka)
    await asyncio.to_thread(interleaved_transactions, kafka, topic)
    for first in (0, 137, 401, 702):
        name = group()
        commit(kafka, name, topic, first)
        async with running(kafka, name, topic, limits=SMALL) as (_, seen):
            await until(lambda: seen.records and seen.records[-1][2] == LAST)
        expected = await asyncio.to_thread(read_committed, kafka, topic, first)
        assert seen.records == expected
        # Behind the last record only markers may stand; they are committed, too, once they were read.
        position = committed(kafka, name, topic)
        assert position > expected[-1][1]
        assert await asyncio.to_thread(read_committed, kafka, topic, position) == []


async def test_a_compacted_topic_is_read_and_committed_across_its_holes(kafka: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    quick = ConfigResource(
        ResourceType.BROKER,
        "1",
        incremental_configs=[ConfigEntry("log.cleaner.backoff.ms", "200", incremental_operation=AlterConfigOpType.SET)],
    )
    next(iter(admin.incremental_alter_configs([quick]).values())).result(20)
    topic = new_topic(
        kafka, cleanup_policy="compact", segment_ms="200", min_cleanable_dirty_ratio="0.01", max_compaction_lag_ms="500"
    )
    client = Producer(
        {"bootstrap.servers": kafka, "batch.num.messages": 50, "linger.ms": 5, "enable.idempotence": True}
    )
    for n in range(1000):
        client.produce(topic, b"%d" % n, b"key-%d" % (n % 7), 0)
    client.flush(20)

    def compacted() -> bool:
        fill(kafka, topic, [b"rolls the segment"], key=b"roll")
        return len(read_committed(kafka, topic, 0)) < 500

    for _ in range(200):
        if await asyncio.to_thread(compacted):
            break
        await asyncio.sleep(0.2)
    fill(kafka, topic, [LAST], key=b"last")
    name = group()
    async with running(kafka, name, topic) as (_, seen):
        await until(lambda: seen.records and seen.records[-1][2] == LAST)
    expected = await asyncio.to_thread(read_committed, kafka, topic, 0)
    assert len(expected) < 500
    assert seen.records[-len(expected) :] == expected
    assert committed(kafka, name, topic) == expected[-1][1] + 1


async def test_a_restart_reads_exactly_from_the_committed_offset(kafka: str) -> None:
    topic, name = new_topic(kafka), group()
    await asyncio.to_thread(fill, kafka, topic, numbered(1000))
    async with running(kafka, name, topic, limits=SMALL) as (_, seen):
        await until(lambda: seen.count == 1000)
    assert committed(kafka, name, topic) == 1000
    await asyncio.to_thread(fill, kafka, topic, numbered(500, 1000))
    async with running(kafka, name, topic, limits=SMALL) as (_, seen):
        await until(lambda: seen.count == 500)
    assert [value for _, _, value in seen.records] == numbered(500, 1000)


async def test_nothing_is_committed_past_a_chunk_that_is_not_finished(kafka: str) -> None:
    topic, name = new_topic(kafka), group()
    await asyncio.to_thread(fill, kafka, topic, numbered(1000))
    held = asyncio.Event()
    reached: list[int] = []

    async def hold(chunk: Chunk, _: Outputs) -> None:
        reached.append(chunk.first)
        if len(reached) == 3:
            await held.wait()

    async with running(kafka, name, topic, hold, SMALL) as (app, _):
        await until(lambda: len(reached) == 3)
        await app.consumer.commit()
        assert await asyncio.to_thread(committed, kafka, name, topic) == reached[-1]
        held.set()
        await until(lambda: app.consumer.ledger.committable.get((topic, 0)) == 1000)
    assert committed(kafka, name, topic) == 1000


async def test_a_chunk_without_confirmed_outputs_is_not_committed(kafka: str) -> None:
    topic, name, refusing = new_topic(kafka), group(), new_topic(kafka, max_message_bytes="200")
    await asyncio.to_thread(fill, kafka, topic, numbered(1000))

    def emit(chunk: Chunk, outputs: Outputs) -> None:
        if chunk.first:
            outputs.add(refusing, b"k", b"x" * 1000)

    async with running(kafka, name, topic, emit, SMALL) as (app, seen):
        await until(app._crashed.is_set)
    assert len(seen.chunks) > 1
    assert committed(kafka, name, topic) in (-1001, seen.chunks[0].next_offset)


async def test_an_agent_that_raises_ends_the_application_without_committing_its_chunk(kafka: str) -> None:
    topic, name = new_topic(kafka), group()
    await asyncio.to_thread(fill, kafka, topic, numbered(1000))

    def fail(chunk: Chunk, _: Outputs) -> None:
        if chunk.first:
            raise ValueError("unknown")

    async with running(kafka, name, topic, fail, SMALL) as (app, seen):
        await until(app._crashed.is_set)
    assert committed(kafka, name, topic) in (-1001, seen.chunks[0].next_offset)


async def test_outputs_keep_the_order_of_each_key_and_stand_where_the_key_belongs(kafka: str) -> None:
    topic, name, out = new_topic(kafka), group(), new_topic(kafka, 3)
    await asyncio.to_thread(fill, kafka, topic, numbered(2000))

    def emit(chunk: Chunk, outputs: Outputs) -> None:
        for value in chunk.values():
            assert value is not None
            outputs.add(out, b"key-%d" % (int(value) % 10), value)

    async with running(kafka, name, topic, emit, SMALL) as (app, _):
        await until(lambda: app.consumer.ledger.committable.get((topic, 0)) == 2000)
    plain = new_topic(kafka, 3)
    client = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random", "enable.idempotence": True})
    for n in range(2000):
        client.produce(plain, b"%d" % n, b"key-%d" % (n % 10))
    client.flush(20)
    for partition in range(3):
        assert read_committed(kafka, out, 0, partition) == read_committed(kafka, plain, 0, partition)


async def test_a_bad_record_is_named_by_its_own_offset_and_the_rest_goes_on(kafka: str) -> None:
    topic, name, letters = new_topic(kafka), group(), new_topic(kafka)
    await asyncio.to_thread(fill, kafka, topic, [b"7", b"8", b"bad", b"9"])
    total: list[int] = []

    def add(chunk: Chunk, outputs: Outputs) -> None:
        for index, value in enumerate(chunk.values()):
            try:
                total.append(int(value or b""))
            except ValueError:
                raw = raw_record(chunk, index, "batches.")
                outputs.add(letters, raw.at.topic.encode(), b"%d:%b" % (raw.at.offset, raw.value))

    async with running(kafka, name, topic, add) as (app, _):
        await until(lambda: app.consumer.ledger.committable.get((topic, 0)) == 4)
    assert total == [7, 8, 9]
    assert [value for _, _, value in read_committed(kafka, letters, 0)] == [b"2:bad"]


async def test_a_seek_goes_there_at_once_and_commits_from_there(kafka: str) -> None:
    topic, name = new_topic(kafka), group()
    await asyncio.to_thread(fill, kafka, topic, numbered(3000))
    asked: list[int] = []

    async def slowly(chunk: Chunk, _: Outputs) -> None:
        await asyncio.sleep(0.002)

    async with running(kafka, name, topic, slowly, SMALL) as (app, seen):
        await until(lambda: seen.count >= 1000)
        await app.consumer.seek(TP(topic, 0), 450)
        asked.append(len(seen.chunks))
        await until(lambda: seen.records[-1][1] == 2999)
    offsets = [offset for chunk in seen.chunks[asked[0] :] for offset in chunk.offsets.tolist()]
    assert offsets == list(range(450, 3000))
    assert committed(kafka, name, topic) == 3000


async def test_suspended_flow_loses_and_repeats_nothing(kafka: str) -> None:
    topic, name = new_topic(kafka), group()
    await asyncio.to_thread(fill, kafka, topic, numbered(5000))

    async def briefly(chunk: Chunk, _: Outputs) -> None:
        await asyncio.sleep(0.001)

    async with running(kafka, name, topic, briefly, SMALL) as (app, seen):
        for stop in (500, 1500, 2500, 3500):
            await until(partial(has, seen, stop))
            app.consumer.stop_flow()
            app.flow_control.suspend()
            await asyncio.sleep(0)
            app.flow_control.resume()
            app.consumer.resume_flow()
        await until(lambda: seen.count >= 5000)
    assert [offset for _, offset, _ in seen.records] == list(range(5000))


async def test_paused_partitions_wait_and_go_on(kafka: str) -> None:
    topic, name = new_topic(kafka, 2), group()
    for partition in (0, 1):
        await asyncio.to_thread(fill, kafka, topic, numbered(1000), partition)
    async with running(kafka, name, topic, limits=SMALL) as (app, seen):
        await until(lambda: seen.count == 2000)
        app.consumer.pause_partitions([TP(topic, 0)])
        for partition in (0, 1):
            await asyncio.to_thread(fill, kafka, topic, numbered(1000, 1000), partition)
        await until(lambda: app.consumer.ledger.committable.get((topic, 1)) == 2000)
        paused_at = app.consumer.ledger.committable[topic, 0]
        app.consumer.resume_partitions([TP(topic, 0)])
        await until(lambda: seen.count == 4000)
    assert paused_at < 2000
    assert sorted(seen.records) == [(p, n, b"%d" % n) for p in (0, 1) for n in range(2000)]


async def test_a_slow_agent_holds_the_reading(kafka: str) -> None:
    topic, name = new_topic(kafka), group()
    await asyncio.to_thread(fill, kafka, topic, numbered(5000))
    go_on, most = asyncio.Event(), [0]

    async def wait(chunk: Chunk, _: Outputs) -> None:
        await go_on.wait()

    async with running(kafka, name, topic, wait, SMALL) as (app, seen):
        ledger = app.consumer.ledger
        await until(lambda: not ledger.has_room)
        fetched = await position(app, topic)
        most[0] = ledger.records
        await asyncio.sleep(0.5)  # time in which a reader that is not held would go on
        assert await position(app, topic) == fetched
        go_on.set()
        await until(lambda: seen.count == 5000)
    assert SMALL.flight_records <= most[0] <= SMALL.flight_records + SMALL.chunk_records + 200


async def position(app: Any, topic: str) -> int:
    """What the fetcher has handed out."""
    thread = app.consumer._thread
    return int(await thread.call_thread(thread._consumer.position, TP(topic, 0)))


async def test_a_reader_cancelled_between_fetch_and_delivery_leaves_no_hole(kafka: str) -> None:
    topic, name = new_topic(kafka), group()
    await asyncio.to_thread(fill, kafka, topic, numbered(5000))

    async def briefly(chunk: Chunk, _: Outputs) -> None:
        await asyncio.sleep(0.001)

    async with running(kafka, name, topic, briefly, SMALL) as (app, seen):
        await until(lambda: seen.count >= 1000)
        # Taken from the fetcher, and lost.
        await app.consumer._getmany({TP(topic, 0)}, 1.0)
        await until(lambda: seen.records[-1][1] == 4999)
    assert {offset for _, offset, _ in seen.records} == set(range(5000))
    assert committed(kafka, name, topic) == 5000


async def test_an_agent_that_blocks_beyond_its_session_goes_on_in_its_group(kafka: str) -> None:
    topic, name, session_s = new_topic(kafka), group(), 6
    fill(kafka, topic, numbered(50))

    def block_once(_: Chunk, __: Outputs) -> None:
        if len(seen.chunks) == 1:
            time.sleep(session_s + 3)

    member = running(kafka, name, topic, block_once, broker_session_timeout=session_s, broker_heartbeat_interval=1)
    async with member as (app, seen):
        generation = app.consumer_generation_id
        await until(lambda: seen.chunks)
        await asyncio.to_thread(fill, kafka, topic, numbered(50, first=50))
        await until(lambda: seen.records[-1][2] == b"99")
        await until(lambda: app.consumer_generation_id > generation)  # it had been put out, and has joined again
    # Whether the first fifty come twice depends on who had them meanwhile; none may be missing.
    assert [int(value or 0) for value in dict.fromkeys(value for _, _, value in seen.records)] == [*range(100)]
    assert committed(kafka, name, topic) == 100
