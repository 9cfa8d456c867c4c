"""One WebSocket client: a bounded queue and the task that empties it.

Nothing is dropped for a slow reader: past the limit it is disconnected, and knows that it must start over.
"""

from __future__ import annotations

import asyncio
from collections import deque

from aiohttp import WSMsgType, web

MAX_BACKLOG = 20_000
"""Messages waiting for one client; a reader that is further behind is cut off."""
HEARTBEAT_S = 20.0
"""A client that answers no ping for this long is gone."""


def accept() -> web.WebSocketResponse:
    """A socket without compression (costs 316 KiB a socket and latency) that pings."""
    return web.WebSocketResponse(compress=False, heartbeat=HEARTBEAT_S, max_msg_size=1 << 20)


class Client:
    """Sends messages in order, from any code on the event loop, without waiting."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.socket = socket
        self._transport = request.transport
        self._waiting: deque[str] = deque()
        self._wake = asyncio.Event()
        self._sender = asyncio.create_task(self._send_all())

    def send(self, text: str) -> None:
        """Queue one message; cuts the client off if its backlog is over the limit."""
        self._waiting.append(text)
        if len(self._waiting) > MAX_BACKLOG:
            self.cut()
        self._wake.set()

    def cut(self) -> None:
        """Close the connection without a good-bye."""
        self._waiting.clear()
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """Stop sending."""
        self._sender.cancel()
        await asyncio.gather(self._sender, return_exceptions=True)

    async def _send_all(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                try:
                    await self.socket.send_str(self._waiting.popleft())
                except (ConnectionError, RuntimeError):
                    return


async def texts(socket: web.WebSocketResponse):  # type: ignore[no-untyped-def]
    """The text messages of a client until it leaves."""
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            yield message.data
