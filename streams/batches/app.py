"""A Faust application that reads chunks, and agents of it whose outputs are confirmed before anything is committed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import faust

from skeet.core.record import TopicPosition
from skeet.core.values import NS_PER_MS
from skeet.streams.batches.chunk import Chunk
from skeet.streams.batches.driver import ChunkTransport
from skeet.streams.batches.emission import Outputs
from skeet.streams.batches.ledger import Limits
from skeet.streams.batches.messages import ChunkTopic
from skeet.streams.door import RawRecord

Handler = Callable[[Chunk, Outputs], Awaitable[None] | None]
"""What an agent does with a chunk. What it adds to the outputs is sent when it returns."""

COMMIT_INTERVAL_S = 1.0
"""Faust's own commit, for a position that no record moves; what was finished is committed much sooner (``Limits``)."""
PRODUCER_BATCH_BYTES = 256 * 1024
FETCH_BYTES = 1024 * 1024
"""Of one partition in one fetch."""


def batch_app(group: str, bootstrap: str, *, limits: Limits | None = None, **options: Any) -> Any:
    """A ``faust.App`` whose events are chunks.

    ``options`` are Faust's own and win over ours. Topics must exist. Values and keys are the bytes as they are.

    Raises
    ------
    InfrastructureError
        Faust or aiokafka is not of a version that this was proven with.
    """
    address = ";".join(f"kafka://{each}" for each in bootstrap.split(","))
    ours = {
        "broker": address,
        "store": "memory://",
        "datadir": Path("/nonexistent"),
        "web_enabled": False,
        "topic_disable_leader": True,
        "topic_allow_declare": False,
        "stream_wait_empty": True,
        "broker_commit_interval": COMMIT_INTERVAL_S,
        "producer_max_batch_size": PRODUCER_BATCH_BYTES,
        "consumer_max_fetch_size": FETCH_BYTES,
        "Topic": ChunkTopic,
    }
    app = faust.App(group, **{**ours, **options})
    app.transport = ChunkTransport(app.conf.broker_consumer, app, limits=limits)
    return app


def each_chunk(app: Any, handle: Handler) -> Callable[[Any], Awaitable[None]]:
    """An agent's function: ``app.agent(topic)(each_chunk(app, handle))``.

    A chunk is acknowledged when ``handle`` has returned and all outputs are on their way; it may be committed when they are
    confirmed. An exception ends the process with nothing of that chunk committed (plain Faust would acknowledge it).

    ``handle`` runs on the loop that also keeps the membership: who does not return or await for longer than Faust's
    ``broker_session_timeout`` (60 s) is out of the group for that long, and what it had is delivered again to whoever took its
    partitions meanwhile. Slow work belongs into ``asyncio.to_thread``.
    """

    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            outputs = Outputs(app, event.message.delivery)
            try:
                waiting = handle(event.value, outputs)
                if waiting is not None:
                    await waiting
                await outputs.send()
            except Exception as error:
                await app.consumer.fail(error)
                # Returning before would let Faust start the agent anew, behind this chunk.
                await app._stopped.wait()
                return
            event.ack()

    agent.__name__ = getattr(handle, "__name__", "agent")
    return agent


def raw_record(chunk: Chunk, index: int, prefix: str) -> RawRecord:
    """One record of a chunk as the door takes it: to judge it alone, and for its dead letter, which names its own offset."""
    return RawRecord(
        at=TopicPosition(chunk.topic.removeprefix(prefix), chunk.partition, int(chunk.offsets[index])),
        key=chunk.key(index) or b"",
        value=chunk.value(index) or b"",
        log_ns=int(chunk.timestamps_ms[index]) * NS_PER_MS,
    )
