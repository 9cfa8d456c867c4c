"""Faust's consumer without its thread: aiokafka's client on the loop that its records are handled on.

Faust gives the client a thread, so that a handler that blocks does not hold up heartbeats. What an agent of ours does between
two awaits is bounded (chunks, and a strategy's time limit, both far below a member's session), and to wake the other thread and hand
it the interpreter's lock was a quarter to a third of a worker's processor time in a calm market.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread


class _NoThread:
    """What Faust starts and stops in place of its thread."""

    def __init__(self, service: Any) -> None:
        self._service = service
        self._serving: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Serve on the loop that runs."""
        self._serving = asyncio.ensure_future(self._service._serve())

    def stop(self) -> None:
        """Nothing is left to wait for: Faust has awaited the end of the service."""


class SameLoopReader(AIOKafkaConsumerThread):  # type: ignore[misc]  # untyped library
    """The consumer's thread in name: everything it is asked is done by whoever asks, on the loop of both."""

    Worker = _NoThread

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, thread_loop=asyncio.get_running_loop(), **options)

    async def call_thread(self, fun: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        """Call ``fun`` here and now; what it returns, awaited if it must be."""
        found = fun(*args, **kwargs)
        return await found if asyncio.iscoroutine(found) or asyncio.isfuture(found) else found

    async def _gather_remaining_tasks(self) -> None:
        """The loop is everybody's; its other tasks are none of this service's."""

    def close(self) -> None:
        """Nothing. Faust calls it when a rebalance meets a stop, to end the rebalance by closing the connections: under a commit
        that aiokafka then tries again for ever, and before the group is left, so that the others wait out a session for the
        partitions. The stop leaves the group, then closes.
        """
