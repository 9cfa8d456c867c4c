"""``skeet run feed``: a venue's market data into the log, for as long as both live.

Start: instruments, then history (an instrument the log does not know) or the hole since the last run, then the live
stream. A lost connection is made again; what was missed in between is a gap like any other. While the log says that market
ingest must stand still (a disk is full), there is no connection either.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from skeet.agents.feed import PUBLISHED, FeedPublisher
from skeet.agents.feed_resume import LogEnd, read_log_ends
from skeet.config import Settings
from skeet.core.errors import InfrastructureError, VenueError
from skeet.core.market import Channel
from skeet.core.values import NS_PER_MS, NS_PER_S, VenueStatus
from skeet.health import HEALTH
from skeet.process import StopSignal, announce_ready, logger
from skeet.roles.feed_gate import FeedGate
from skeet.roles.feed_intake import Intake
from skeet.roles.feed_recovery import Recovery, fetch_trades, first_history, newest_trade_id
from skeet.streams.crash_points import FEED_IN_GAP_FILL, reach
from skeet.streams.registry import registered_codec
from skeet.venues.binance.connection import Connection, venue_of
from skeet.venues.binance.instruments import definition_from_market, next_version
from skeet.venues.binance.normaliser import LastIds, Normaliser
from skeet.venues.binance.sequences import Gap

FIRST_RECONNECT_S = 0.2
LAST_RECONNECT_S = 30.0
"""Waits between connections, doubling; from the first again once a connection stood :data:`STEADY_S`."""
STEADY_S = 30.0


def main(settings: Settings) -> int:
    """Run until asked to stop; the exit code."""
    stop = StopSignal().install()
    asyncio.run(Feed(settings, stop).run())
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subscribed:
    """One instrument: its venue symbol and where the log stands."""

    instrument_id: str
    venue_symbol: str
    end: LogEnd


class Feed:
    """The process: composes connection, intake and recovery, and runs them."""

    def __init__(self, settings: Settings, stop: StopSignal) -> None:
        self._settings = settings
        self._stop = stop
        self._codec = registered_codec(settings)
        self._publisher = FeedPublisher(settings, self._codec)
        self._gate = FeedGate(settings, self._codec)

    async def run(self) -> None:
        """Until asked to stop. Everything published is acknowledged when it returns.

        Raises
        ------
        InvalidInput, VenueError, InfrastructureError
            the process must end; a restart resumes from the log.
        """
        venue = venue_of(self._settings)
        connection = Connection(venue)
        HEALTH.work(PUBLISHED, self._publisher.handed)
        beats = asyncio.create_task(HEALTH.beat_regularly())
        gate = asyncio.create_task(self._gate.run())
        try:
            stopping = asyncio.create_task(self._stop.wait_async())
            starting = asyncio.create_task(self._start(connection))
            await asyncio.wait({stopping, starting, gate}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                if gate.done():
                    gate.result()  # Raises why the log could not be read.
                return
            normaliser, instrument_ids = starting.result()
            missing = asyncio.Event()
            intake = Intake(venue.name, normaliser, self._publisher, time.time_ns(), missing)
            recovery = Recovery(
                connection, normaliser, self._publisher, intake, instrument_ids, missing, self._gate.opened
            )
            await self._live(connection, intake, recovery, instrument_ids, {stopping, gate})
        finally:
            beats.cancel()
            gate.cancel()
            await asyncio.gather(gate, return_exceptions=True)
            await connection.close()
            self._publisher.close()

    async def _start(self, connection: Connection) -> tuple[Normaliser, Mapping[str, str]]:
        """Bring the log up to the present, by REST."""
        await self._gate.known.wait()
        if not self._gate.opened.is_set():
            logger().warning("market ingest stands still", reason=self._gate.reason)
            announce_ready()  # It does what it must: nothing.
            await self._gate.opened.wait()
        subscribed = await self._instruments(connection)
        last: dict[str, LastIds] = {}
        for each in subscribed:
            trade_id = await self._past(connection, each)
            last[each.instrument_id] = LastIds(
                trade_id=trade_id,
                book_update_id=each.end.book_update_id,
                quote_update_id=each.end.quote_update_id,
            )
        instrument_ids = {each.venue_symbol: each.instrument_id for each in subscribed}
        normaliser = Normaliser(instrument_ids, recoverable=True, last=last)
        for each in subscribed:
            _reopen_gaps(normaliser, each.end)
        return normaliser, instrument_ids

    async def _instruments(self, connection: Connection) -> list[_Subscribed]:
        markets = await connection.load_markets(self._settings.feed.symbols)
        found = [definition_from_market(market, connection.venue.name, time.time_ns()) for market in markets]
        ends = await asyncio.to_thread(
            read_log_ends, self._settings, self._codec, [each.instrument_id for each in found]
        )
        self._publisher.events(
            version
            for each in found
            if (version := next_version(each, ends[each.instrument_id].definition)) is not None
        )
        self._publisher.flush()
        return [
            _Subscribed(instrument_id=each.instrument_id, venue_symbol=each.venue_symbol, end=ends[each.instrument_id])
            for each in found
        ]

    async def _past(self, connection: Connection, each: _Subscribed) -> int | None:
        """History at the first start, the hole since the last run at any other; the id of the last trade published."""
        feed = self._settings.feed
        if each.end.trade_id is None:
            if not feed.history_days:
                return None
            return await first_history(
                connection,
                self._publisher,
                each.venue_symbol,
                each.instrument_id,
                feed.history_days,
                feed.history_trades_hours,
            )
        return await self._catch_up(connection, each, each.end.trade_id)

    async def _catch_up(self, connection: Connection, each: _Subscribed, last_id: int) -> int:
        newest = await newest_trade_id(connection, each.venue_symbol)
        if newest is None or newest < last_id:
            raise VenueError(
                f"{each.instrument_id}: the log ends with trade {last_id}, the venue with {newest}: "
                "it is not the same market any more; start a new log with `skeet reset`"
            )
        if newest == last_id:
            return last_id
        gap = Gap(instrument_id=each.instrument_id, channel=Channel.TRADES, first=last_id + 1, last=newest)
        trades, received_ns = await fetch_trades(connection, each.venue_symbol, each.instrument_id, gap.first, gap.last)
        self._publisher.events([gap.opened(received_ns, received_ns)])
        reach(FEED_IN_GAP_FILL)
        self._publisher.events(gap.ended(trades, received_ns))
        self._publisher.flush()
        logger().info("caught up", instrument=each.instrument_id, first=gap.first, last=gap.last)
        return newest

    async def _live(
        self,
        connection: Connection,
        intake: Intake,
        recovery: Recovery,
        instrument_ids: Mapping[str, str],
        others: set[asyncio.Task[None]],
    ) -> None:
        tasks = {
            asyncio.create_task(self._connections(connection, intake, recovery, list(instrument_ids))),
            asyncio.create_task(recovery.run()),
        }
        loading = asyncio.create_task(intake.load_bursts(instrument_ids))
        try:
            done, _ = await asyncio.wait({intake.failed, *others, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()  # Raises what ended it.
        finally:
            for task in (*tasks, loading):
                task.cancel()
            await asyncio.gather(*tasks, loading, return_exceptions=True)
            intake.drain()

    async def _connections(
        self, connection: Connection, intake: Intake, recovery: Recovery, venue_symbols: list[str]
    ) -> None:
        delay_s = FIRST_RECONNECT_S
        announced = up = False

        def connected() -> None:
            nonlocal announced, up
            up = True
            intake.report_status(VenueStatus.UP, "connected", time.time_ns())
            recovery.connected()
            if not announced:
                announced = True
                announce_ready()

        while True:
            await self._gate.opened.wait()
            intake.begin_connection(f"{connection.venue.name.lower()}-{time.time_ns()}")
            began = time.monotonic()
            streaming = asyncio.create_task(connection.stream(venue_symbols, intake.take, connected))
            try:
                reason = await self._watched(streaming, intake)
                if self._gate.closed.is_set():
                    reason = f"ingest stopped: {self._gate.reason}"
            finally:
                streaming.cancel()
                await asyncio.gather(streaming, return_exceptions=True)
            recovery.disconnected()
            if up:
                up = False
                intake.report_status(VenueStatus.DOWN, reason, time.time_ns())
            else:
                logger().warning("no connection", venue=connection.venue.name, reason=reason)
            if time.monotonic() - began > STEADY_S:
                delay_s = FIRST_RECONNECT_S
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, LAST_RECONNECT_S)

    async def _watched(self, streaming: asyncio.Task[None], intake: Intake) -> str:
        """Watch over a stream until it ends, falls silent or must stop; why."""
        closed = asyncio.create_task(self._gate.closed.wait())
        try:
            return await self._until_silent(streaming, closed, intake)
        finally:
            closed.cancel()

    async def _until_silent(
        self, streaming: asyncio.Task[None], closed: asyncio.Task[Literal[True]], intake: Intake
    ) -> str:
        stale_after_ns = self._settings.feed.stale_after_ms * NS_PER_MS
        began_ns = time.time_ns()
        while True:
            look_s = stale_after_ns / NS_PER_S / 5
            await asyncio.wait({streaming, closed}, timeout=look_s, return_when=asyncio.FIRST_COMPLETED)
            if closed.done():
                return "ingest stopped"
            if streaming.done():
                try:
                    streaming.result()
                except InfrastructureError as error:
                    return str(error)
                return "the stream ended"
            now_ns = time.time_ns()
            silence_ns = min(intake.report_silence(now_ns, stale_after_ns), now_ns - began_ns)
            if silence_ns > self._settings.feed.reconnect_after_silence_s * NS_PER_S:
                return f"nothing heard for {self._settings.feed.reconnect_after_silence_s:.0f} s"


def _reopen_gaps(normaliser: Normaliser, end: LogEnd) -> None:
    """Gaps that the last run left open are asked for again."""
    for opened in end.open_gaps:
        gap = Gap(
            instrument_id=opened.instrument_id,
            channel=opened.channel,
            first=opened.first_missing,
            last=opened.last_missing,
        )
        sequences = normaliser.sequences[opened.instrument_id]
        if gap.channel is Channel.TRADES:
            sequences.trades.open_gaps.append(gap)
        elif gap.channel is Channel.BOOK:
            sequences.book.open_gap, sequences.book.waiting = gap, True
