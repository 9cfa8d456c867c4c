"""The example queries on synthetic history: how long each takes on so many trades.

The data is made by the store itself, in a database of its own, from numbers alone: the same at every run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

from skeet.config import Settings
from skeet.projections.clickhouse_store import HistoryStore, quoted

BENCH_SUFFIX = "_bench"
LIMIT_S = 1.0
"""Each example query answers within this time on ten million trades."""
TRADES_PER_QUOTE = 2
TRADES_PER_ORDER = 500
RUNS = 3
"""Each query runs this often; the median counts."""

INSTRUMENT = "SIM:BTC/USDT"
DAY_NS = 86_400_000_000_000
BEGIN_NS = 1_723_075_200_000_000_000

INSTRUMENTS = "['SIM:BTC/USDT', 'SIM:ETH/USDT'][1 + number % 2]"
STARTED = "fromUnixTimestamp64Nano({begin} + number * intDiv({day}, {count}), 'UTC')"
PRICE = "toDecimal128(60000, 2) + toDecimal128((intHash32(number) % 100000) / 100, 2)"
SIZE = "toDecimal128((1 + intHash32(number + 7) % 100000) / 100000, 5)"
HEX_ID = "leftPad(lower(hex(number)), 32, '0')"

TRADES = f"""INSERT INTO trades (log_partition, log_offset, log_ts, record_crc, instrument_id, ts_event, ts_init, trade_id,
    price, size, price_scale, size_scale, aggressor_side, backfilled)
SELECT number % 2, intDiv(number, 2), {STARTED}, intHash32(number), {INSTRUMENTS}, {STARTED}, {STARTED}, toString(number),
    {PRICE}, {SIZE}, 2, 5, if(intHash32(number) % 2, 'BUY', 'SELL'), false
FROM numbers({{count}})"""

QUOTES = f"""INSERT INTO quotes (log_partition, log_offset, log_ts, record_crc, instrument_id, ts_event, ts_init, update_id,
    bid_price, bid_size, ask_price, ask_size, price_scale, size_scale)
SELECT number % 2, intDiv(number, 2), {STARTED}, intHash32(number), {INSTRUMENTS}, {STARTED}, {STARTED}, number,
    {PRICE}, {SIZE}, {PRICE} + toDecimal128((1 + number % 5) / 100, 2), {SIZE}, 2, 5
FROM numbers({{count}})"""

ENVELOPE = "log_partition, log_offset, log_ts, record_crc, event_type, event_id, account_id, book_id, instrument_id, "
BOOKS = "if(number % 2, 'ema', 'maker')"

AUTHORIZED = f"""INSERT INTO account_events ({ENVELOPE} order_id, ts_event, ts_init, stream_version, side, quantity,
    limit_price, reference_bid, reference_ask)
SELECT 0, number * 2, {STARTED} + toIntervalMillisecond(4), intHash32(number), 'OrderAuthorized', '', 'bench', {BOOKS},
    {INSTRUMENTS}, {HEX_ID}, {STARTED}, {STARTED}, number * 2 + 1, if(intDiv(number, 2) % 2, 'SELL', 'BUY'),
    {SIZE}, {PRICE}, {PRICE}, {PRICE} + toDecimal128(0.02, 2)
FROM numbers({{count}})"""

FILLED = f"""INSERT INTO account_events ({ENVELOPE} order_id, ts_event, ts_init, stream_version, side, quantity, price,
    fee, fee_asset, liquidity, trade_id)
SELECT 0, number * 2 + 1, {STARTED} + toIntervalMillisecond(12), intHash32(number), 'OrderFilled', '', 'bench', {BOOKS},
    {INSTRUMENTS}, {HEX_ID}, {STARTED} + toIntervalMillisecond(10), {STARTED}, number * 2 + 2,
    if(intDiv(number, 2) % 2, 'SELL', 'BUY'), {SIZE}, {PRICE} + toDecimal128(0.03, 2), toDecimal128(0.5, 2), 'USDT',
    if(number % 2, 'TAKER', 'MAKER'), toString(number)
FROM numbers({{count}})"""

COMMANDS = f"""INSERT INTO commands ({ENVELOPE} order_id, ts_event, ts_init, ts_cause, valid_until)
SELECT 0, number, {STARTED} + toIntervalMillisecond(2), intHash32(number), 'SubmitOrder', {HEX_ID}, 'bench', {BOOKS},
    {INSTRUMENTS}, {HEX_ID}, {STARTED}, {STARTED}, {STARTED}, {STARTED}
FROM numbers({{count}})"""

REPORT = "log_partition, log_offset, log_ts, record_crc, event_type, event_id, account_id, instrument_id, order_id, ts_event, ts_init"

ATTEMPTS = f"""INSERT INTO venue_reports ({REPORT})
SELECT 0, number * 2, {STARTED} + toIntervalMillisecond(6), intHash32(number), 'SubmitAttempted', '', 'bench',
    {INSTRUMENTS}, {HEX_ID}, {STARTED}, {STARTED}
FROM numbers({{count}})"""

ACKNOWLEDGEMENTS = f"""INSERT INTO venue_reports ({REPORT}, written_ts, answered_ts)
SELECT 0, number * 2 + 1, {STARTED} + toIntervalMillisecond(10), intHash32(number), 'SubmitAcknowledged', '', 'bench',
    {INSTRUMENTS}, {HEX_ID}, {STARTED}, {STARTED},
    {STARTED} + toIntervalMillisecond(7), {STARTED} + toIntervalMillisecond(9)
FROM numbers({{count}})"""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryTiming:
    """One query: rows answered, median seconds, and whether it stayed within the limit."""

    query: str
    rows: int
    seconds: float

    @property
    def within_limit(self) -> bool:
        return self.seconds < LIMIT_S


def example_queries() -> dict[str, str]:
    """The saved example queries by name."""
    folder = files("skeet.projections") / "example_queries"
    entries = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return {entry.name.removesuffix(".sql"): entry.read_text() for entry in entries}


def prepare(settings: Settings, trades: int, progress: Callable[[str], None] = lambda what: None) -> HistoryStore:
    """A database of its own with so many trades and what belongs to them. :func:`discard` drops it."""
    store = HistoryStore(settings, BENCH_SUFFIX)
    discard(store)
    store.migrate()
    orders = max(1, trades // TRADES_PER_ORDER)
    for what, statement, count in (
        ("trades", TRADES, trades),
        ("quotes", QUOTES, trades // TRADES_PER_QUOTE),
        ("decisions", AUTHORIZED, orders),
        ("fills", FILLED, orders),
        ("commands", COMMANDS, orders),
        ("attempts", ATTEMPTS, orders),
        ("acknowledgements", ACKNOWLEDGEMENTS, orders),
    ):
        progress(what)
        store.command(statement.format(count=count, begin=BEGIN_NS, day=DAY_NS))
    return store


def measure(store: HistoryStore, runs: int = RUNS) -> list[QueryTiming]:
    """Each example query's median time."""
    timings = []
    for name, statement in example_queries().items():
        seconds, rows = [], 0
        for _ in range(runs):
            began_s = time.perf_counter()
            rows = len(store.rows(statement, {"instrument": INSTRUMENT}))
            seconds.append(time.perf_counter() - began_s)
        timings.append(QueryTiming(query=name, rows=rows, seconds=sorted(seconds)[runs // 2]))
    return timings


def discard(store: HistoryStore) -> None:
    """Drop the bench's database."""
    store.command_outside(f"DROP DATABASE IF EXISTS {quoted(store.database)} SYNC")
