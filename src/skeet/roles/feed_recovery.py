"""What is missing, asked of the venue: trades behind a gap, books that need a snapshot, the first start's history."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress

from skeet.agents.feed import FeedPublisher
from skeet.core.errors import DecodeError, InfrastructureError, SkeetError, VenueError
from skeet.core.market import Bar, Trade
from skeet.core.values import NS_PER_MS, NS_PER_S, VenueStatus
from skeet.process import logger
from skeet.roles.feed_intake import Intake
from skeet.streams.crash_points import FEED_IN_GAP_FILL, reach
from skeet.venues.binance.connection import PAGE, Connection
from skeet.venues.binance.normaliser import Normaliser
from skeet.venues.binance.parsers import MINUTE_NS, parse_minute_bar, parse_rest_trade
from skeet.venues.binance.sequences import Gap

FIRST_RETRY_S = 0.2
LAST_RETRY_S = 10.0
"""A venue that does not answer is asked again after these many seconds, doubling from the first to the last."""
MAX_ATTEMPTS = 10
"""A trade gap that could not be fetched so often (about a minute) ends as unfillable, so that readers stop waiting."""
DEGRADED_AFTER = 3
"""Failed attempts in a row after which the venue counts as degraded."""
MAX_FILLED_TRADES = 100_000
"""Of a longer gap only the newest are fetched: the rest would hold up the present (100 requests of 1,000)."""
BOOK_PATIENCE_S = 1.0
"""A book's first diff is awaited this long before its snapshot is asked for: a snapshot older than it is of no use."""
HISTORY_MAX_TRADES = 200_000
DAY_NS = 86_400 * NS_PER_S
HOUR_NS = 3_600 * NS_PER_S


async def fetch_trades(
    connection: Connection, venue_symbol: str, instrument_id: str, first: int, last: int
) -> tuple[list[Trade], int]:
    """Trades ``first`` to ``last`` as far as the venue has them, and when the last of them were received.

    Raises
    ------
    VenueError, DecodeError, InfrastructureError
        it refused, gave nonsense, or did not answer.
    """
    trades: list[Trade] = []
    next_id = max(first, last - MAX_FILLED_TRADES + 1)
    received_ns = time.time_ns()
    while next_id <= last:
        rows, received_ns = await connection.trades_from(venue_symbol, next_id)
        page = [_trade(row, instrument_id, received_ns) for row in rows]
        if not page or int(page[-1].trade_id) < next_id:
            break
        trades += page
        next_id = int(page[-1].trade_id) + 1
    return [trade for trade in trades if first <= int(trade.trade_id) <= last], received_ns


async def newest_trade_id(connection: Connection, venue_symbol: str) -> int | None:
    """Id of the newest trade; None when there never was one."""
    rows, _ = await connection.trades_from(venue_symbol, None)
    return int(rows[-1]["id"]) if rows else None


class Recovery:
    """Asks the venue for what the sequences lack; one request at a time, woken when a gap appears.

    Parameters
    ----------
    instrument_ids
        instrument id of each venue symbol.
    missing
        wakes it.
    allowed
        while it is not set nothing is asked for: what would come could not be written.
    """

    def __init__(
        self,
        connection: Connection,
        normaliser: Normaliser,
        publisher: FeedPublisher,
        intake: Intake,
        instrument_ids: Mapping[str, str],
        missing: asyncio.Event,
        allowed: asyncio.Event,
    ) -> None:
        self._allowed = allowed
        self._connection, self._normaliser = connection, normaliser
        self._publisher, self._intake = publisher, intake
        self._instrument_ids = instrument_ids
        self._missing = missing
        self._attempts: dict[Gap, int] = {}
        self._failures = 0
        self._connected_at: float | None = None

    def connected(self) -> None:
        """A connection stands: snapshots that are asked for now can be joined with its diffs."""
        self._connected_at = time.monotonic()
        self._missing.set()

    def disconnected(self) -> None:
        """No connection: a snapshot would be of no use."""
        self._connected_at = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._missing.wait()
            self._missing.clear()
            retry_s = FIRST_RETRY_S
            while await self._pass():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._missing.wait(), retry_s)
                retry_s = min(retry_s * 2, LAST_RETRY_S) if self._failures else FIRST_RETRY_S
                self._missing.clear()

    async def _pass(self) -> bool:
        """Ask once for everything missing; whether something still is."""
        await self._allowed.wait()
        for venue_symbol, instrument_id in self._instrument_ids.items():
            sequences = self._normaliser.sequences[instrument_id]
            for gap in list(sequences.trades.open_gaps):
                await self._fill(venue_symbol, gap)
            if sequences.book.waiting and self._may_ask_for_book(sequences.book.held):
                await self._snapshot(venue_symbol)
        return any(s.trades.open_gaps or s.book.waiting for s in self._normaliser.sequences.values())

    def _may_ask_for_book(self, held: int) -> bool:
        if self._connected_at is None:
            return False
        return held > 0 or time.monotonic() - self._connected_at > BOOK_PATIENCE_S

    async def _snapshot(self, venue_symbol: str) -> None:
        try:
            text, received_ns = await self._connection.book(venue_symbol)
        except SkeetError as error:
            self._failed(f"book of {venue_symbol}: {error}")
            return
        self._succeeded()
        self._intake.rest_book(text, received_ns, venue_symbol)

    async def _fill(self, venue_symbol: str, gap: Gap) -> None:
        attempts = self._attempts[gap] = self._attempts.get(gap, 0) + 1
        try:
            trades, received_ns = await fetch_trades(
                self._connection, venue_symbol, gap.instrument_id, gap.first, gap.last
            )
            reason = ""
        except (SkeetError, DecodeError) as error:
            self._failed(f"trades {gap.first} to {gap.last} of {venue_symbol}: {error}")
            if isinstance(error, InfrastructureError) and attempts < MAX_ATTEMPTS:
                return
            trades, received_ns, reason = [], time.time_ns(), str(error)
        else:
            self._succeeded()
        del self._attempts[gap]
        sequence = self._normaliser.sequences[gap.instrument_id].trades
        reach(FEED_IN_GAP_FILL)
        self._publisher.events(sequence.fill(gap, trades, received_ns, reason))
        logger().info("gap closed", instrument=gap.instrument_id, first=gap.first, last=gap.last, found=len(trades))

    def _failed(self, reason: str) -> None:
        self._failures += 1
        logger().warning("recovery failed", reason=reason, in_a_row=self._failures)
        if self._failures == DEGRADED_AFTER:
            self._intake.report_status(VenueStatus.DEGRADED, reason, time.time_ns())

    def _succeeded(self) -> None:
        if self._failures >= DEGRADED_AFTER:
            self._intake.report_status(VenueStatus.UP, "answers again", time.time_ns())
        self._failures = 0


async def first_history(
    connection: Connection, publisher: FeedPublisher, venue_symbol: str, instrument_id: str, days: int, hours: float
) -> int | None:
    """Publish the past of an instrument that the log does not know: bars up to a minute T0, all trades from T0 on.

    T0 is ``hours`` ago, later when that would be more than :data:`HISTORY_MAX_TRADES`. The bars agent makes the bars after
    T0 from the trades. Returns the last trade's id, None when there is none.
    """
    now_ns = time.time_ns()
    trades = await _trades_since(connection, venue_symbol, instrument_id, now_ns - int(hours * HOUR_NS))
    # The minute of the oldest trade may have begun before it; a minute that still runs has no bar yet.
    begin_ns = now_ns // MINUTE_NS * MINUTE_NS
    if trades:
        begin_ns = min(begin_ns, -(-trades[0].ts_event // MINUTE_NS) * MINUTE_NS)
    bars = await _bars_before(connection, venue_symbol, instrument_id, begin_ns - days * DAY_NS, begin_ns)
    publisher.events(bars)
    publisher.flush()  # Trades in the log mean that the bars before them are there too.
    publisher.events(trade for trade in trades if trade.ts_event >= begin_ns)
    publisher.flush()
    logger().info("history", instrument=instrument_id, bars=len(bars), trades=len(trades), from_ns=begin_ns)
    return int(trades[-1].trade_id) if trades else None


async def _trades_since(connection: Connection, venue_symbol: str, instrument_id: str, since_ns: int) -> list[Trade]:
    """Trades from a time to now, ascending: pages backwards by id, because ids are dense and times are not."""
    rows, received_ns = await connection.trades_from(venue_symbol, None)
    trades = [_trade(row, instrument_id, received_ns) for row in rows]
    while trades and trades[0].ts_event >= since_ns and len(trades) < HISTORY_MAX_TRADES:
        first = int(trades[0].trade_id)
        rows, received_ns = await connection.trades_from(venue_symbol, max(first - PAGE, 0))
        older = [trade for row in rows if int((trade := _trade(row, instrument_id, received_ns)).trade_id) < first]
        if not older:
            break
        trades = older + trades
    return [trade for trade in trades if trade.ts_event >= since_ns]


async def _bars_before(
    connection: Connection, venue_symbol: str, instrument_id: str, start_ns: int, end_ns: int
) -> list[Bar]:
    bars: list[Bar] = []
    next_ms = start_ns // NS_PER_MS
    while next_ms < end_ns // NS_PER_MS:
        rows, received_ns = await connection.minute_bars(venue_symbol, next_ms)
        if not rows:
            break
        try:
            bars += [parse_minute_bar(row, instrument_id, received_ns) for row in rows]
        except (ValueError, TypeError, IndexError) as error:
            raise VenueError(f"bars of {venue_symbol}: {error}") from error
        next_ms = bars[-1].ts_close // NS_PER_MS
    return [bar for bar in bars if bar.ts_close <= end_ns]


def _trade(row: object, instrument_id: str, received_ns: int) -> Trade:
    try:
        return parse_rest_trade(row, instrument_id, received_ns)  # type: ignore[arg-type] # checked by what it raises
    except (KeyError, TypeError, ValueError) as error:
        raise VenueError(f"{instrument_id}: a trade by REST that is none ({error}): {row!r:.120}") from error
