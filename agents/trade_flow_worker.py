"""The role ``trade-flow``: windows over trades in a Faust worker of chunks.

Run as many as wanted: each partition's windows are its reader's, and go with it. Optional; ``skeet up`` runs none unless
``SKEET_SCALE__TRADE_FLOW`` says how many.
"""

from __future__ import annotations

import asyncio
from typing import Any

from skeet.agents.trade_flow import NAME, ROLE, TradeFlow
from skeet.config import Settings
from skeet.connections.kafka import aiokafka_options
from skeet.core.control import DeadLetter
from skeet.core.market import LateRecord
from skeet.core.values import LateReason
from skeet.metrics import counter
from skeet.process import StopSignal
from skeet.streams.batches.app import batch_app, each_chunk
from skeet.streams.batches.chunk import Chunk
from skeet.streams.batches.emission import Outputs
from skeet.streams.batches.running import run_app
from skeet.streams.faust_app import faust_credentials
from skeet.streams.kafka import group_name
from skeet.streams.registry import registered_codec
from skeet.streams.topics import MARKET_TRADES, topic_name
from skeet.streams.windows.restoring import PartitionWindows

SESSION_S = 10.0
HEARTBEAT_S = 2.0
"""A member that says nothing for a session is gone, and its partitions go to the others. Faust's own session is a minute."""


def main(settings: Settings) -> int:
    """Run until SIGTERM; returns the exit code."""
    return asyncio.run(_run(settings, StopSignal().install()))


async def _run(settings: Settings, stop: StopSignal) -> int:
    codec, prefix = registered_codec(settings), settings.kafka.topic_prefix
    app = batch_app(
        group_name(settings, ROLE),
        settings.kafka.bootstrap,
        broker_credentials=faust_credentials(aiokafka_options(settings.kafka)),
        # A process that is started again takes its predecessor's place at once.
        consumer_group_instance_id=f"{ROLE}-{settings.slot}",
        broker_session_timeout=SESSION_S,
        broker_heartbeat_interval=HEARTBEAT_S,
    )
    flow = TradeFlow(codec, settings.signals, prefix)
    reasons = (LateReason.WINDOW_CLOSED, LateReason.SOME_WINDOWS_CLOSED)
    late = {reason: counter("skeet_late_records_total", f"{NAME}/{flow.interval}", reason) for reason in reasons}
    dead = counter("skeet_dead_letters_total", ROLE)
    kept = PartitionWindows(
        settings=settings,
        codec=codec,
        agent_id=ROLE,
        windows=flow,
        committable=lambda place: app.consumer.ledger.committable.get(place, -1),
    )

    async def trade_flow(chunk: Chunk, outputs: Outputs) -> None:
        for out in await kept.take(chunk):
            event: Any = out.event
            outputs.add(prefix + out.topic, out.key.encode(), codec.encode(event, out.meta))
            if isinstance(event, LateRecord):
                late[event.reason].inc()
            elif isinstance(event, DeadLetter):
                dead.inc()

    trades = app.topic(topic_name(MARKET_TRADES, settings.kafka), value_type=bytes)
    app.agent(trades, concurrency=1, name=ROLE)(each_chunk(app, trade_flow))
    return await run_app(app, stop)
