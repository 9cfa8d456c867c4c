"""The tables of the history: one per topic, and which field of which record goes into which column.

Types, units and meanings of the columns stand in ``migrations/clickhouse``. Every field of every event of a history topic
is in a column of its table (a test compares them), so that a new event field is a new migration.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from skeet.core.commands import SubmitOrder
from skeet.core.errors import BugError
from skeet.core.ids import derive_id
from skeet.core.record import Event, MarketEvent
from skeet.projections import column_arrays
from skeet.projections.column_arrays import AMOUNT
from skeet.projections.columns import (
    Column,
    Values,
    amount,
    flag,
    instant,
    integer,
    mapping,
    nested,
    optional_instant,
    plain,
    scaled,
    scaled_list,
    small,
    text,
)
from skeet.schemas.columns.columns import Columns
from skeet.streams import topics
from skeet.streams.topics import TOPICS, Topic

UNREADABLE = "unreadable_records"
"""Where records go that this version cannot read: none is dropped, none stops the history."""

MARKET = (text("instrument_id"), instant("ts_event"), instant("ts_init"))
ENVELOPE = (
    *(text(name) for name in ("event_type", "event_id", "tenant_id", "account_id", "principal_id")),
    *(text(name) for name in ("correlation_id", "causation_id", "cause_at")),
    instant("ts_event"),
    instant("ts_init"),
)
VERSION = plain("stream_version", pa.int64(), default=0)
SCALES = (small("price_scale"), small("size_scale"))


def _price(name: str) -> Column:
    return scaled(name, f"{name}_mantissa", "price_scale")


def _size(name: str) -> Column:
    return scaled(name, f"{name}_mantissa", "size_scale")


TRADES = (
    *MARKET,
    text("trade_id"),
    _price("price"),
    _size("size"),
    *SCALES,
    text("aggressor_side"),
    flag("backfilled"),
)
QUOTES = (
    *(*MARKET, integer("update_id"), *SCALES),
    *(_price("bid_price"), _size("bid_size"), _price("ask_price"), _size("ask_size")),
)
BOOK_UPDATES = (
    *(text("event_type"), *MARKET, *SCALES),
    # A snapshot is as of its last update and has no first one.
    Column(
        name="first_update_id",
        fields=("first_update_id",),
        build=lambda rows: pa.array([row.get("first_update_id", row["last_update_id"]) for row in rows], pa.int64()),
        of=lambda rows: column_arrays.values(
            rows, "first_update_id" if "first_update_id" in rows.names else "last_update_id", pa.int64()
        ),
    ),
    integer("last_update_id"),
    *(scaled_list(f"{side}_prices", f"{side}_prices", "price_scale") for side in ("bid", "ask")),
    *(scaled_list(f"{side}_sizes", f"{side}_sizes", "size_scale") for side in ("bid", "ask")),
)
BARS = (
    *(text("event_id"), text("cause_at"), text("through_at"), *MARKET, *SCALES, text("interval")),
    *(instant("ts_open"), instant("ts_close"), integer("revision")),
    *(_price(name) for name in ("open", "high", "low", "close")),
    *(_size(name) for name in ("volume", "buy_volume")),
    *(amount("quote_volume"), integer("trade_count"), integer("late_trades"), flag("complete")),
)
MARKET_STATUS = (
    *(text("event_type"), text("event_id"), *MARKET),
    *(text(name) for name in ("channel", "outcome", "reason", "venue", "status")),
    *(integer(name) for name in ("first_missing", "last_missing", "recovered")),
    optional_instant("last_seen"),
)
INSTRUMENTS = (
    *(text("event_id"), *MARKET, *SCALES, integer("version"), flag("active")),
    *(text(name) for name in ("venue", "symbol", "venue_symbol", "base", "quote")),
    *(amount(name) for name in ("tick_size", "step_size", "min_quantity", "max_quantity")),
    *(amount(name) for name in ("min_notional", "max_notional", "maker_fee", "taker_fee")),
)
SIGNALS = (
    *(text("event_id"), text("causation_id"), text("cause_at"), *MARKET),
    *(text("name"), text("version"), text("interval")),
    *(mapping("parameters", pa.string()), mapping("values", pa.float64())),
)
COMMANDS = (
    *(*ENVELOPE, instant("ts_cause"), instant("valid_until")),
    # The order of a SubmitOrder is the command itself.
    Column(
        name="order_id",
        fields=("order_id",),
        build=lambda rows: pa.array(
            [row.get("order_id") or (row["event_id"] if row["event_type"] == "SubmitOrder" else "") for row in rows],
            pa.string(),
        ),
        of=lambda rows: column_arrays.texts(rows, "event_id" if rows.event_class is SubmitOrder else "order_id"),
    ),
    *(text(name) for name in ("book_id", "instrument_id", "side", "order_type", "time_in_force")),
    *(flag("post_only"), amount("quantity"), amount("limit_price"), text("code_version"), text("rule")),
    *(text(name) for name in ("venue", "label", "asset", "external_ref")),
    amount("amount"),
    integer("epoch"),
)
VENUE_REPORTS = (
    *ENVELOPE,
    *(text(name) for name in ("order_id", "client_order_id", "instrument_id", "venue_order_id", "trade_id", "side")),
    *(optional_instant("sent_ts"), optional_instant("send_until")),
    *(optional_instant("written_ts", "written_ns"), optional_instant("answered_ts", "answered_ns")),
    *(amount(name) for name in ("quantity", "limit_price", "price", "fee", "filled_quantity", "free", "locked")),
    *(text(name) for name in ("fee_asset", "liquidity", "cancel_id", "code", "reason", "evidence", "asset")),
)
ACCOUNT_EVENTS = (
    *(*ENVELOPE, VERSION),
    *(text(name) for name in ("order_id", "book_id", "instrument_id", "status", "side", "order_type", "time_in_force")),
    *(flag("post_only"), text("fee_asset"), text("liquidity"), text("trade_id"), text("venue_order_id")),
    *(amount(name) for name in ("quantity", "limit_price", "price", "fee", "filled_quantity", "leaves_quantity")),
    *(amount(name) for name in ("reserved_amount", "reference_bid", "reference_ask", "amount")),
    *(amount(name) for name in ("ledger_total", "venue_total")),
    *(optional_instant(name) for name in ("ts_cause", "valid_until", "sent_ts", "send_until", "reference_ts")),
    *(
        text(name)
        for name in ("outcome", "code_version", "rule", "reserved_asset", "reference_at", "cancel_id", "code")
    ),
    *(
        text(name)
        for name in ("reason", "evidence", "command_id", "command", "venue", "label", "asset", "external_ref")
    ),
    *(text(name) for name in ("duplicate_of", "input", "report", "control_event")),
    *(integer(name) for name in ("instrument_version", "limits_version", "control_offset")),
    *(nested(f"breach_{part}", "breaches", part, pa.string()) for part in ("control", "detail", "observed", "allowed")),
    *(nested(f"posting_{part}", "postings", part, pa.string()) for part in ("ledger", "asset", "book_id")),
    nested("posting_amount", "postings", "amount", AMOUNT),
    *(integer(name) for name in ("marked_events", "account_count", "reference_max_age_ns", "collar_bps")),
    *(text("state_hash"), amount("max_quantity"), amount("max_notional")),
)
CONTROL_EVENTS = (
    *(*ENVELOPE, VERSION),
    *(text(name) for name in ("scope", "reason", "instance_id", "strategy", "instrument_id", "parameters")),
    *(
        text(name)
        for name in ("code_version", "handler", "file", "error", "label", "partitioner", "on_halt", "artefact")
    ),
    *(flag("active", None), flag("cancel_open", None)),
    *(integer(name) for name in ("version", "line", "account_partitions", "market_partitions", "size", "files")),
    *(amount("max_quantity"), amount("max_notional")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryTable:
    """The table of one topic. ``derives_id`` where the record has no envelope but an id is stored with it."""

    name: str
    topic: Topic
    columns: tuple[Column, ...]
    derives_id: bool = False


def _table(name: str, topic: Topic, columns: tuple[Column, ...]) -> HistoryTable:
    lean = all(issubclass(event, MarketEvent) for event in topic.events)
    derives = lean and any(column.name == "event_id" for column in columns)
    return HistoryTable(name=name, topic=topic, columns=columns, derives_id=derives)


TABLES = (
    _table("trades", topics.MARKET_TRADES, TRADES),
    _table("quotes", topics.MARKET_QUOTES, QUOTES),
    _table("book_updates", topics.MARKET_BOOKS, BOOK_UPDATES),
    _table("bars", topics.MARKET_BARS, BARS),
    _table("market_status", topics.MARKET_STATUS, MARKET_STATUS),
    _table("instruments", topics.INSTRUMENTS, INSTRUMENTS),
    _table("signals", topics.SIGNALS, SIGNALS),
    _table("commands", topics.COMMANDS, COMMANDS),
    _table("venue_reports", topics.REPORTS, VENUE_REPORTS),
    _table("account_events", topics.ACCOUNT_EVENTS, ACCOUNT_EVENTS),
    _table("control_events", topics.CONTROL, CONTROL_EVENTS),
)
TABLE_OF_TOPIC = {table.topic.name: table for table in TABLES}

if {topic.name for topic in TOPICS if topic.history} != set(TABLE_OF_TOPIC):
    raise BugError("the history topics of streams/topics.py and the tables of projections/history.py differ")


def derived_id(event_class: type[Event], values: Values) -> str:
    """The id of a lean record, which is not in its bytes: of its type and natural key."""
    natural_key: Any = event_class.natural_key  # type: ignore[attr-defined]
    return derive_id(event_class.__name__, *natural_key.fget(SimpleNamespace(**values)))


def derived_ids(rows: Columns) -> list[str]:
    """:func:`derived_id` of each row."""
    natural_key: Any = rows.event_class.natural_key  # type: ignore[attr-defined]
    asked = _Asked()
    natural_key.fget(asked)
    parts = (column_arrays.python_values(rows, name) for name in asked.names)
    return [derive_id(rows.event_class.__name__, *key) for key in zip(*parts, strict=True)]


class _Asked:
    """Notes which fields a natural key is made of, in order: a key is nothing but fields."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __getattr__(self, name: str) -> str:
        self.names.append(name)
        return name
