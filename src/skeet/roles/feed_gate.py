"""The feed's ear for the word that market ingest must stand still: the log's :class:`IngestGate` as asyncio events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from skeet.config import Settings
from skeet.process import logger
from skeet.schemas.codec import Codec
from skeet.streams.ingest_gate import IngestGate

POLL_S = 0.5
"""A stop is heard within this time; a cancelled :meth:`FeedGate.run` ends within it."""


class FeedGate:
    """Exactly one of ``opened`` and ``closed`` is set once ``known`` is."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings, self._codec = settings, codec
        self.known, self.opened, self.closed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.reason = ""

    async def run(self) -> None:
        """Follow the log until cancelled.

        Raises
        ------
        InfrastructureError
            the log could not be read at the start.
        """
        gate = IngestGate(self._settings, self._codec)
        try:
            await _completed(gate.catch_up)
            self._heard(gate.reason)
            self.known.set()
            while True:
                await _completed(lambda: gate.poll(POLL_S))
                if gate.reason != self.reason:
                    logger().warning("market ingest", stopped=bool(gate.reason), reason=gate.reason or "space returned")
                    self._heard(gate.reason)
        finally:
            gate.close()

    def _heard(self, reason: str) -> None:
        self.reason = reason
        now, then = (self.closed, self.opened) if reason else (self.opened, self.closed)
        then.clear()
        now.set()


async def _completed(call: Callable[[], object]) -> None:
    """Run a call in a thread, and let it return before a cancellation goes on: it uses a client that is closed then."""
    running = asyncio.create_task(asyncio.to_thread(call))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.gather(running, return_exceptions=True)
        raise
