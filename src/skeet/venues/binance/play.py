"""A venue made of frames: what benchmarks and tests of bursts connect to.

``python -m skeet.venues.binance.play FILE… --port P`` serves Binance's stream on loopback and sends every recorded frame as
fast as the reader takes it, once it subscribed. ``--mix NAME --frames N`` sends generated ones instead: the first ``--warm``
at once, the rest when ``GET /burst`` asks for them. ``GET /api/v3/depth`` gives the REST book of its symbol.
"""

from __future__ import annotations

import argparse
import asyncio
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from aiohttp import web

from skeet.process import StopSignal, announce_ready
from skeet.venues.binance.capture import read_capture, symbols_of
from skeet.venues.binance.generated import MIXES, generated

SLICE_BYTES = 256 * 1024
"""Written at once; between two slices there is a look at other work (the request for a book)."""
WAITING_BYTES = 1024 * 1024
"""So much may wait for the reader in this process."""
DRAIN_S = 0.0005
ANSWER = '{"result":null,"id":1}'
FINAL_TEXT = 0x81
"""First byte of an unfragmented text frame (RFC 6455, 5.2)."""


class Player:
    """Frames in memory, and a server of them.

    They are put into WebSocket frames before anybody connects, so that serving them costs next to nothing beside the reader.

    Parameters
    ----------
    warm
        frames that are sent at once; the rest wait for the request of the burst. None: all are sent at once.
    """

    def __init__(self, frames: Sequence[str], books: Mapping[str, bytes], warm: int | None = None) -> None:
        self._warm = _on_the_wire(frames if warm is None else frames[:warm])
        self._rest = _on_the_wire(() if warm is None else frames[warm:])
        self._books = books
        self._burst = asyncio.Event()

    async def serve(self, port: int, stop: StopSignal) -> None:
        """Until asked to stop."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/api/v3/depth", self._depth),
                web.get("/burst", self._begin),
                web.get("/{path:.*}", self._stream),
            ]
        )
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

    async def _begin(self, _: web.Request) -> web.Response:
        self._burst.set()
        return web.Response(text="now")

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await socket.receive_str()
        await socket.send_str(ANSWER)
        await _write(request, self._warm)
        if self._rest:
            await self._burst.wait()
            await _write(request, self._rest)
        await socket.receive()  # Until the reader leaves.
        return socket


async def _write(request: web.Request, wire: bytes) -> None:
    for begin in range(0, len(wire), SLICE_BYTES):
        transport = request.transport
        if transport is None or transport.is_closing():
            return
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(wire[begin : begin + SLICE_BYTES])
        while transport.get_write_buffer_size() > WAITING_BYTES and not transport.is_closing():  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_S)
        await asyncio.sleep(0)


def _on_the_wire(frames: Iterable[str]) -> bytes:
    return b"".join(map(_frame, frames))


def _frame(text: str) -> bytes:
    payload = text.encode()
    length = len(payload)
    if length < 126:
        return struct.pack(">BB", FINAL_TEXT, length) + payload
    if length < 65_536:
        return struct.pack(">BBH", FINAL_TEXT, 126, length) + payload
    return struct.pack(">BBQ", FINAL_TEXT, 127, length) + payload


def recorded(paths: Sequence[Path]) -> Player:
    """The frames of recordings, one file after the other, all at once."""
    sent: list[str] = []
    books: dict[str, bytes] = {}
    for path in paths:
        frames = list(read_capture(path))
        symbol = next(iter(symbols_of(frames)), "")
        book = next((frame.payload for frame in frames if not frame.stream), None)
        if book is not None:
            books[symbol] = book
        # What a subscription to /ws sends has no envelope.
        sent += [_unwrapped(frame.payload) for frame in frames if frame.stream]
    return Player(sent, books)


def _unwrapped(payload: bytes) -> str:
    return payload[payload.index(b'"data":') + len(b'"data":') : -1].decode()


def main() -> None:
    """Entry of ``python -m``."""
    parser = argparse.ArgumentParser(description="Serve frames as a venue.")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--mix", choices=sorted(MIXES))
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--warm", type=int, default=0)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    if arguments.mix:
        session = generated(arguments.mix, arguments.frames)
        books = {symbol: book.encode() for symbol, book in session.books.items()}
        player = Player(session.frames, books, arguments.warm)
    else:
        player = recorded(arguments.files)
    asyncio.run(player.serve(arguments.port, StopSignal().install()))


if __name__ == "__main__":
    main()
