"""How many frames a second the feed takes into Kafka, from a socket that brings them as fast as it can.

Everything from the socket on is the live feed's own: ccxt's connection, intake, recovery, publisher.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from skeet.agents.feed import FeedPublisher
from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.local.ports import free_port
from skeet.local.server import ChildServer
from skeet.roles.feed_intake import Intake
from skeet.roles.feed_recovery import Recovery
from skeet.schemas.codec import Codec
from skeet.streams.registry import registered_codec
from skeet.venues.binance.capture import read_capture, symbols_of
from skeet.venues.binance.connection import Connection, Venue
from skeet.venues.binance.instruments import instrument_id, unified_symbol
from skeet.venues.binance.normaliser import Normaliser
from skeet.venues.sim.ccxt_settings import ccxt_settings

PROGRESS_S = 0.02
SILENCE_LIMIT_S = 30.0
"""A socket that brings nothing for so long ends the measurement with an error."""

Begin = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Frames taken in, the records they made by type, and how long until all were acknowledged."""

    frames: int
    records: Mapping[str, int]
    seconds: float
    cpu_seconds: float

    @property
    def frames_per_second(self) -> float:
        return self.frames / self.seconds


def from_socket(settings: Settings, paths: Sequence[Path], venue: str, home: Path) -> Measured:
    """Recorded frames from a server in another process, through ccxt's socket and the live feed's own intake.

    The REST book is asked for, as live, and counts as a frame.
    """
    symbols, expected = Counter[str](), 0
    for path in paths:
        frames = list(read_capture(path))
        expected += len(frames)
        symbols += symbols_of(frames)
    port = free_port()
    server = ChildServer("skeet.venues.binance.play", [*map(str, paths), "--port", str(port)], home)
    server.start()
    try:
        return asyncio.run(
            through_feed(settings, registered_codec(settings), port, venue, list(symbols), (0, expected))
        )
    finally:
        server.stop()


async def through_feed(
    settings: Settings,
    codec: Codec,
    port: int,
    venue: str,
    venue_symbols: Sequence[str],
    expected: tuple[int, int],
    begin: Begin | None = None,
) -> Measured:
    """What a local venue sends, into Kafka.

    Parameters
    ----------
    expected
        frames that come by themselves, REST books included, and those that come after ``begin``; these are measured, from
        the call on until the broker acknowledged all of them.

    Raises
    ------
    InfrastructureError
        fewer came.
    """
    instrument_ids = {symbol: instrument_id(venue, unified_symbol(symbol)) for symbol in venue_symbols}
    options = ccxt_settings(f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}")
    connection = Connection(Venue(name=venue, options=options, limited=False))
    publisher = FeedPublisher(settings, codec)
    normaliser = Normaliser(instrument_ids, recoverable=True)
    missing = asyncio.Event()
    intake = Intake(venue, normaliser, publisher, time.time_ns(), missing)
    allowed = asyncio.Event()
    allowed.set()
    recovery = Recovery(connection, normaliser, publisher, intake, instrument_ids, missing, allowed)
    intake.begin_connection("bench")
    await intake.load_bursts(instrument_ids)
    tasks = [
        asyncio.create_task(connection.stream(venue_symbols, intake.take, recovery.connected)),
        asyncio.create_task(recovery.run()),
    ]
    try:
        warm, burst = expected
        await _until(intake, min(warm, 1))
        await _until(intake, warm)
        began, cpu_began = time.perf_counter(), time.process_time()
        if begin is not None:
            await begin()
        await _until(intake, warm + burst)
        publisher.flush()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await connection.close()
        publisher.close()
    return Measured(frames=burst, records=publisher.written, seconds=seconds, cpu_seconds=cpu_seconds)


async def _until(intake: Intake, expected: int) -> None:
    """Until so many frames were published."""
    seen, heard = intake.frames, time.perf_counter()
    while intake.frames < expected:
        if intake.failed.done():
            intake.failed.result()
        await asyncio.sleep(PROGRESS_S)
        now = time.perf_counter()
        if intake.frames > seen:
            seen, heard = intake.frames, now
        elif now - heard > SILENCE_LIMIT_S:
            raise InfrastructureError(f"{intake.frames} of {expected} frames came, then nothing")
