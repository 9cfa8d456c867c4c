"""From the socket's callback to the publisher: frames in the order of arrival, and what their silence means.

The callback only appends; everything else is done right after ccxt has emptied the socket's buffer. Nothing is dropped:
when the broker is slower than the venue, publishing waits, the loop waits with it, and TCP tells the venue.

A few frames are read one by one, many at once (:mod:`skeet.venues.binance.bursts`): the records are the same.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skeet.agents.feed import FeedPublisher
from skeet.core.errors import DecodeError, SkeetError, UnknownEvent
from skeet.core.market import (
    BookDelta,
    GapOpened,
    MarketDataResumed,
    MarketDataStale,
    Quote,
    RawFrame,
    Trade,
    VenueStatusChanged,
)
from skeet.core.values import VenueStatus
from skeet.process import logger
from skeet.streams.crash_points import FEED_BETWEEN_SENDS, reach
from skeet.venues.binance.normaliser import Normaliser

if TYPE_CHECKING:
    from skeet.venues.binance.bursts import Burst, BurstReader, Read

MAX_WAITING = 50_000
"""Frames between callback and publisher; at this many they are published within the callback (the socket then waits)."""
BURST = 48
"""From so many waiting frames on they are read at once; fewer are quicker one by one (what it costs to begin: 0.3 ms)."""
SHORT_RUN = 16
"""A burst whose frames are mostly unusual (books that wait, repeats) is read one by one for this many frames at a time."""
MAX_BURST = 8_192
"""Frames read at once: some 2 MB; as much again in columns."""


@dataclass(slots=True)
class _Heard:
    """When an instrument was last heard of (ns), and whether its silence was reported."""

    at_ns: int
    stale: bool = False


class Intake:
    """Frames of one venue into the log. Lives on one event loop.

    Parameters
    ----------
    missing
        set when a gap appeared: the venue must be asked.
    """

    def __init__(
        self, venue: str, normaliser: Normaliser, publisher: FeedPublisher, now_ns: int, missing: asyncio.Event
    ) -> None:
        self._venue = venue
        self._normaliser = normaliser
        self._publisher = publisher
        self._missing = missing
        self._waiting: deque[tuple[str, int]] = deque()
        self._connection_id = ""
        self._sequence = 0
        self._heard = {each: _Heard(now_ns) for each in normaliser.sequences}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the error when a record could not be published; the process must end and resume from the log."""
        self.frames = 0
        self.unreadable = 0
        self.bursts: BurstReader | None = None
        """Reads many frames at once; None until its kernel is loaded."""

    def begin_connection(self, connection_id: str) -> None:
        """Frames from now on belong to this connection, numbered from 1."""
        self.drain()
        self._connection_id, self._sequence = connection_id, 0

    def take(self, text: str, received_ns: int) -> None:
        """The socket's callback."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.drain)
        self._waiting.append((text, received_ns))
        if len(self._waiting) >= MAX_WAITING:
            self.drain()

    def drain(self) -> None:
        """Publish what waits."""
        waiting = self._waiting
        try:
            while self.bursts is not None and len(waiting) >= BURST:
                self._publish_burst(self.bursts)
                self._publisher.poll()
            while waiting:
                text, received_ns = waiting.popleft()
                self._publish(text, received_ns)
            self._publisher.poll()
        except SkeetError as error:
            if not self.failed.done():
                self.failed.set_exception(error)

    def rest_book(self, text: str, received_ns: int, venue_symbol: str) -> None:
        """A REST book takes its place among the frames."""
        self.drain()
        self._publish(text, received_ns, venue_symbol)

    async def load_bursts(self, instrument_ids: Mapping[str, str]) -> None:
        """Read many frames at once from now on. Nothing waits for it: a second, the first time on a machine ten."""
        try:
            self.bursts = await asyncio.to_thread(_burst_reader, self._normaliser, self._publisher, instrument_ids)
        except (RuntimeError, ImportError, OSError) as error:
            # No place for compiled code, or no compiler: slower in bursts, otherwise the same.
            logger().warning("frames are read one by one", cause=str(error))

    def report_silence(self, now_ns: int, stale_after_ns: int) -> int:
        """Report instruments that were not heard of for so long, once each. Returns the longest silence of the liveliest
        instrument (ns): beyond patience, the connection itself is suspect."""
        for instrument_id, heard in self._heard.items():
            if not heard.stale and now_ns - heard.at_ns > stale_after_ns:
                heard.stale = True
                stale = MarketDataStale(
                    instrument_id=instrument_id, ts_event=now_ns, ts_init=now_ns, last_seen=heard.at_ns
                )
                self._publisher.events([stale])
                logger().warning("market data stale", instrument=instrument_id, last_seen_ns=heard.at_ns)
        return now_ns - max(heard.at_ns for heard in self._heard.values())

    def report_status(self, status: VenueStatus, reason: str, now_ns: int) -> None:
        """Report the connection's state for every instrument."""
        self._publisher.events(
            VenueStatusChanged(
                instrument_id=each, ts_event=now_ns, ts_init=now_ns, venue=self._venue, status=status, reason=reason
            )
            for each in self._heard
        )
        logger().info("venue status", venue=self._venue, status=status.value, reason=reason)

    def _publish(self, text: str, received_ns: int, symbol: str = "") -> None:
        self.frames += 1
        self._sequence += 1
        try:
            normalised = self._normaliser.normalise(text, received_ns, symbol)
        except (DecodeError, UnknownEvent) as error:
            self.unreadable += 1
            self._publisher.unreadable(self._raw(f"{self._venue}:UNKNOWN", text, received_ns), str(error))
            logger().warning("unreadable frame", cause=str(error))
            return
        if not normalised.instrument_id:
            return
        self._publisher.frame(self._raw(normalised.instrument_id, text, received_ns), ())
        self._hear(normalised.instrument_id, received_ns)
        events = normalised.events
        self._publisher.events(events)
        if events and type(events[0]) is GapOpened:
            logger().warning("gap", instrument=normalised.instrument_id, channel=events[0].channel.value)
            self._missing.set()

    def _publish_burst(self, reader: BurstReader) -> None:
        frames = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BURST))]
        burst = reader.burst_of(frames)
        done = 0
        while burst is not None and len(frames) - done >= SHORT_RUN:
            read = reader.read(burst, done)
            self._publish_read(reader, burst, done, read)
            done += read.count
            one_by_one = done + (1 if read.count >= SHORT_RUN else SHORT_RUN)
            for text, received_ns in frames[done:one_by_one]:
                self._publish(text, received_ns)
            done = min(one_by_one, len(frames))
        for text, received_ns in frames[done:]:
            self._publish(text, received_ns)

    def _publish_read(self, reader: BurstReader, burst: Burst, first: int, read: Read) -> None:
        if not read.count:
            return
        raw = reader.raw_frames(
            burst, first, read, venue=self._venue, connection_id=self._connection_id, sequence=self._sequence + 1
        )
        self.frames += read.count
        self._sequence += read.count
        self._publisher.batch(raw, reader.instrument_ids, read.instruments.tolist())
        for columns, instruments in read.events:
            reach(FEED_BETWEEN_SENDS)
            self._publisher.batch(columns, reader.instrument_ids, instruments.tolist())
        self._hear_all(
            [reader.instrument_ids[number] for number in read.instruments.tolist()],
            burst.received_ns[first : first + read.count].tolist(),
        )

    def _hear_all(self, instrument_ids: list[str], received_ns: list[int]) -> None:
        """As one by one: the first frame of a silent instrument ends its silence, the last of each is its newest."""
        firsts = dict(zip(reversed(instrument_ids), reversed(received_ns), strict=True))
        for instrument_id, last_ns in zip(instrument_ids, received_ns, strict=True):
            self._heard[instrument_id].at_ns = last_ns
        for instrument_id, first_ns in firsts.items():
            heard = self._heard[instrument_id]
            last_ns = heard.at_ns
            self._hear(instrument_id, first_ns)
            heard.at_ns = last_ns

    def _raw(self, instrument_id: str, text: str, received_ns: int) -> RawFrame:
        return RawFrame(
            instrument_id=instrument_id,
            ts_event=received_ns,
            ts_init=received_ns,
            venue=self._venue,
            connection_id=self._connection_id,
            sequence=self._sequence,
            payload=text.encode(),
        )

    def _hear(self, instrument_id: str, received_ns: int) -> None:
        heard = self._heard[instrument_id]
        heard.at_ns = received_ns
        if heard.stale:
            heard.stale = False
            resumed = MarketDataResumed(instrument_id=instrument_id, ts_event=received_ns, ts_init=received_ns)
            self._publisher.events([resumed])


def _burst_reader(normaliser: Normaliser, publisher: FeedPublisher, instrument_ids: Mapping[str, str]) -> BurstReader:
    from skeet.venues.binance.bursts import BurstReader  # the compiler: half a second and 60 MB

    publisher.load_batches((RawFrame, Trade, Quote, BookDelta))
    return BurstReader(normaliser, instrument_ids)
