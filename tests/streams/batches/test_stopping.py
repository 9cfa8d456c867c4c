"""Stops at the worst moments: while a commit does not end, and while the group is rebalancing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from live_batches import Seen, fill, group, has, new_topic, numbered, running, until

pytestmark = pytest.mark.integration

STOP_S = 20.0
"""Twice a drain, and what Faust takes; a stop that waits for a commit would never end."""


def members(kafka: str, name: str) -> int:
    """How many members the broker counts in a group."""
    client = AdminClient({"bootstrap.servers": kafka})
    return len(client.describe_consumer_groups([name])[name].result(30).members)


async def test_a_stop_ends_though_a_commit_never_does(kafka: str) -> None:
    """As when the group's coordinator is gone: aiokafka asks for ever."""
    topic, asked = new_topic(kafka), 0

    async def commit(_: Any) -> bool:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()
        return True

    async with running(kafka, group(), topic, broker_commit_interval=0.05) as (app, seen):
        app.consumer._thread.commit = commit
        fill(kafka, topic, numbered(10))
        await until(lambda: has(seen, 10) and asked)
        under_way = app.consumer._commit_fut
        # Faust's own commit, every 50 ms, waits for the one under way.
        await until(lambda: under_way._callbacks)
        await asyncio.wait_for(app.stop(), STOP_S)
    assert not under_way.cancelled()


async def test_who_is_stopped_in_a_rebalance_leaves_the_group(kafka: str) -> None:
    """Else the others would get its partitions only when its session has run out."""
    topic, name, stopping = new_topic(kafka), group(), None

    def stop_under_commit(app: Any, seen: Seen) -> bool:
        nonlocal stopping
        fill(kafka, topic, numbered(1))
        if has(seen, 1) and app.consumer._commit_fut is not None:
            stopping = asyncio.ensure_future(app.stop())
        return stopping is not None

    async with running(kafka, name, topic) as (app, seen):
        await until(lambda: stop_under_commit(app, seen))
        await asyncio.sleep(0)
        assert members(kafka, name) == 1
        app._on_rebalance_when_stopped()  # what Faust does with partitions given or taken by now
        assert stopping is not None
        await asyncio.wait_for(stopping, STOP_S)
    assert members(kafka, name) == 0
