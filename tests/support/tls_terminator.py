"""TLS in front of a plain server: what a load balancer or a sidecar does, in a thread of the test."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from pathlib import Path

BLOCK = 1 << 16


class TlsTerminator:
    """Listens on a free loopback port with the given certificate, and passes bytes to and from ``127.0.0.1:target``."""

    def __init__(self, target: int, certificate: Path, key: Path) -> None:
        self._target = target
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate, key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def start(self) -> str:
        """Begin listening; the ``https`` address."""
        self._thread.start()
        listening = asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._context)
        server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        self.port = server.sockets[0].getsockname()[1]
        return f"https://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Stop listening and forget every connection."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while block := await reader.read(BLOCK):
            writer.write(block)
            await writer.drain()
    writer.close()
