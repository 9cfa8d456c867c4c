"""Running an application of chunks as a role: ready when it has its partitions, ended by SIGTERM, ended when it fails."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from skeet.core.errors import InfrastructureError
from skeet.health import HEALTH
from skeet.process import DRAIN_DEADLINE_S, StopSignal, announce_ready, logger

JOIN_DEADLINE_S = 60.0
"""A member that gets no assignment for this long gives up and is started again."""
LOOK_S = 0.05


async def run_app(app: Any, stop: StopSignal) -> int:
    """Join the group, work until ``stop``, end what was begun, commit, leave. Returns the exit code.

    Raises
    ------
    Exception
        what an agent raised, or InfrastructureError when the group gave no partitions within a minute.
    """
    beating = asyncio.ensure_future(HEALTH.beat_regularly())
    joined = asyncio.ensure_future(_joined(app))
    crashed = asyncio.ensure_future(app._crashed.wait())
    stopping = asyncio.ensure_future(stop.wait_async())
    await asyncio.wait({joined, crashed, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if joined.done() and joined.exception() is None:
        announce_ready()
        await asyncio.wait({crashed, stopping}, return_when=asyncio.FIRST_COMPLETED)
    error = app._crash_reason if app._crashed.is_set() else joined.exception() if joined.done() else None
    for task in (beating, joined, crashed, stopping):
        task.cancel()
    _, unfinished = await asyncio.wait({asyncio.ensure_future(app.stop())}, timeout=DRAIN_DEADLINE_S / 2)
    if unfinished:
        # Faust's services swallow cancellation; what they still hold is not committed, and is read again.
        logger().warning("not in time", what="stop of Faust", deadline_s=DRAIN_DEADLINE_S / 2)
        os._exit(0 if error is None else 1)
    if error is not None:
        raise error
    return 0


async def _joined(app: Any) -> None:
    """Start; Faust's start ends when the group has given partitions, or never while the brokers are away."""
    try:
        async with asyncio.timeout(JOIN_DEADLINE_S):
            await app.start()
            # Faust has no event for it.
            while not app.consumer.assignment():  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
    except TimeoutError as error:
        raise InfrastructureError(f"no partitions were assigned for {JOIN_DEADLINE_S:.0f} s") from error
