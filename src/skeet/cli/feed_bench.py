"""How many frames a second the feed takes into Kafka: from a file, and from a socket (``skeet bench feed``)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from skeet.agents.feed import FeedPublisher
from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.local.ports import free_port
from skeet.local.server import ChildServer
from skeet.roles.feed_intake import Intake
from skeet.roles.feed_recovery import Recovery
from skeet.roles.replay import ReplayOptions, replay
from skeet.streams.registry import registered_codec
from skeet.venues.binance.capture import read_capture, symbols_of
from skeet.venues.binance.connection import Connection, Venue
from skeet.venues.binance.instruments import instrument_id, unified_symbol
from skeet.venues.binance.normaliser import Normaliser
from skeet.venues.sim.ccxt_settings import ccxt_settings

PROGRESS_S = 0.02
SILENCE_LIMIT_S = 30.0
"""A socket that brings nothing for so long ends the measurement with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Frames taken in, the records they made by type, and how long until all were acknowledged."""

    frames: int
    records: Mapping[str, int]
    seconds: float

    @property
    def frames_per_second(self) -> float:
        return self.frames / self.seconds


def from_files(settings: Settings, paths: Sequence[Path], venue: str) -> Measured:
    """A replay at full speed. ``venue`` must be new to the log: what it holds already is not written again."""
    summary = replay(settings, paths, ReplayOptions(venue=venue))
    return Measured(frames=summary.frames, records=summary.written, seconds=summary.seconds)


def from_socket(settings: Settings, paths: Sequence[Path], venue: str, home: Path) -> Measured:
    """The same frames from a server in another process, through ccxt's socket and the live feed's own intake.

    The REST book is asked for, as live, and counts as a frame.
    """
    symbols, expected = Counter[str](), 0
    for path in paths:
        frames = list(read_capture(path))
        expected += len(frames)
        symbols += symbols_of(frames)
    instrument_ids = {symbol: instrument_id(venue, unified_symbol(symbol)) for symbol in symbols}
    port = free_port()
    server = ChildServer("skeet.venues.binance.play", [*map(str, paths), "--port", str(port)], home)
    server.start()
    try:
        return asyncio.run(_socket(settings, port, venue, instrument_ids, expected))
    finally:
        server.stop()


async def _socket(
    settings: Settings, port: int, venue: str, instrument_ids: Mapping[str, str], expected: int
) -> Measured:
    options = ccxt_settings(f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}")
    connection = Connection(Venue(name=venue, options=options, limited=False))
    publisher = FeedPublisher(settings, registered_codec(settings))
    normaliser = Normaliser(instrument_ids, recoverable=True)
    missing = asyncio.Event()
    intake = Intake(venue, normaliser, publisher, time.time_ns(), missing)
    allowed = asyncio.Event()
    allowed.set()
    recovery = Recovery(connection, normaliser, publisher, intake, instrument_ids, missing, allowed)
    intake.begin_connection("bench")
    tasks = [
        asyncio.create_task(connection.stream(list(instrument_ids), intake.take, recovery.connected)),
        asyncio.create_task(recovery.run()),
    ]
    try:
        seconds = await _until(intake, expected)
        began = time.perf_counter()
        publisher.flush()
        seconds += time.perf_counter() - began
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await connection.close()
        publisher.close()
    return Measured(frames=intake.frames, records=publisher.written, seconds=seconds)


async def _until(intake: Intake, expected: int) -> float:
    """Seconds from the first frame to the last."""
    began, seen, heard = 0.0, 0, time.perf_counter()
    while intake.frames < expected:
        await asyncio.sleep(PROGRESS_S)
        now = time.perf_counter()
        if intake.frames > seen:
            began, seen, heard = began or heard, intake.frames, now
        elif now - heard > SILENCE_LIMIT_S:
            raise InfrastructureError(f"{intake.frames} of {expected} frames came, then nothing")
        elif not seen:
            heard = now
    return time.perf_counter() - began
