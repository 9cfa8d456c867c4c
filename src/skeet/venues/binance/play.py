"""A venue made of a recording: what benchmarks and tests of bursts connect to.

``python -m skeet.venues.binance.play FILE… --port P`` serves Binance's stream on loopback and sends every recorded frame as
fast as the reader takes it, once it subscribed. ``GET /api/v3/depth`` gives the recorded REST book of its symbol.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from skeet.process import StopSignal, announce_ready
from skeet.venues.binance.capture import read_capture, symbols_of

YIELD_EVERY = 64
"""Frames between two looks at other work (the request for a book)."""


class Player:
    """The recorded frames of some files, in memory, and a server of them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._frames: list[str] = []
        self._books: dict[str, bytes] = {}
        for path in paths:
            frames = list(read_capture(path))
            symbol = next(iter(symbols_of(frames)), "")
            book = next((frame.payload for frame in frames if not frame.stream), None)
            if book is not None:
                self._books[symbol] = book
            # What a subscription to /ws sends has no envelope.
            self._frames += [_unwrapped(frame.payload) for frame in frames if frame.stream]

    async def serve(self, port: int, stop: StopSignal) -> None:
        """Until asked to stop."""
        app = web.Application()
        app.add_routes([web.get("/api/v3/depth", self._depth), web.get("/{path:.*}", self._stream)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        announce_ready()
        try:
            await stop.wait_async()
        finally:
            await runner.cleanup()

    async def _depth(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self._books.get(request.query.get("symbol", ""), b"{}"), content_type="application/json"
        )

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await socket.receive_str()
        await socket.send_str('{"result":null,"id":1}')
        for number, frame in enumerate(self._frames):
            await socket.send_str(frame)
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        await socket.receive()  # Until the reader leaves.
        return socket


def _unwrapped(payload: bytes) -> str:
    return payload[payload.index(b'"data":') + len(b'"data":') : -1].decode()


def main() -> None:
    """Entry of ``python -m``."""
    parser = argparse.ArgumentParser(description="Serve recorded frames as a venue.")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    stop = StopSignal().install()
    asyncio.run(Player(arguments.files).serve(arguments.port, stop))


if __name__ == "__main__":
    main()
