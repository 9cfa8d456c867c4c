"""One canonical text per row of a history table, written twice: as a ClickHouse expression and from the decoded record.

Both sides take CRC-32 of the text; the sums per partition must be equal, so an altered column shows, whichever it is. The
mapping from a record's fields to columns is by name and column type; what is not by name stands in the tables below.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass

from skeet.verify.amounts import SCALE, from_avro
from skeet.verify.avro import WriterSchema
from skeet.verify.log import Entry

SEPARATOR = "\x1f"
NULL = "\x00"

TABLE_OF_TOPIC = {
    "market.trades.v1": "trades",
    "market.quotes.v1": "quotes",
    "market.books.v1": "book_updates",
    "market.bars.v1": "bars",
    "market.status.v1": "market_status",
    "instruments.v1": "instruments",
    "signals.v1": "signals",
    "orders.commands.v1": "commands",
    "venue.reports.v1": "venue_reports",
    "accounts.events.v1": "account_events",
    "control.events.v1": "control_events",
}

OTHER_NAMES = {"written_ts": "written_ns", "answered_ts": "answered_ns"}
"""Columns that hold a field of another name."""

SIZES = frozenset({"size", "bid_size", "ask_size", "volume", "buy_volume", "bid_sizes", "ask_sizes"})
"""Mantissa columns whose scale is ``size_scale``; of the others it is ``price_scale``."""

NESTED = {"breach": "breaches", "posting": "postings"}

NATURAL_KEYS = {
    "Bar": ("instrument_id", "interval", "ts_open", "revision"),
    "InstrumentDefined": ("instrument_id", "version"),
    "GapOpened": ("instrument_id", "channel", "first_missing", "last_missing"),
    "GapClosed": ("instrument_id", "channel", "first_missing", "last_missing"),
    "MarketDataStale": ("instrument_id", "last_seen"),
    "MarketDataResumed": ("instrument_id", "ts_init"),
    "VenueStatusChanged": ("instrument_id", "status", "ts_init"),
    "Signal": ("instrument_id", "name", "version", "interval", "causation_id"),
}
"""Lean records carry no id: it is derived from these fields (SHA-256 of length-prefixed parts, first 128 bits)."""

Text = Callable[[Entry], str]


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A column as ClickHouse describes it."""

    name: str
    type: str


class NoRule(LookupError):
    """A column that nobody here knows how to recompute."""


def sql_text(column: StoredColumn) -> str:
    """The ClickHouse expression that gives the column's canonical text."""
    name, kind = f"`{column.name}`", _bare(column.type)
    if kind.startswith("Nullable("):
        return f"if(isNull({name}), {NULL!r}, {_scalar_sql(f'assumeNotNull({name})', kind[9:-1])})"
    if kind.startswith("Array("):
        return f"arrayStringConcat(arrayMap(x -> {_scalar_sql('x', _bare(kind[6:-1]))}, {name}), ',')"
    if kind.startswith("Map("):
        value = _scalar_sql("v", kind[4:-1].split(", ", 1)[1])
        return (
            f"arrayStringConcat(arrayMap((k, v) -> concat(k, '=', {value}), mapKeys({name}), mapValues({name})), ',')"
        )
    return _scalar_sql(name, kind)


def row_sql(columns: list[StoredColumn]) -> str:
    """The expression of a whole row's canonical text."""
    return f"concat({', '.join(part for column in columns for part in (sql_text(column), repr(SEPARATOR)))})"


def _bare(kind: str) -> str:
    return kind[len("LowCardinality(") : -1] if kind.startswith("LowCardinality(") else kind


def _scalar_sql(name: str, kind: str) -> str:
    if kind == "String":
        return name
    if kind.startswith("Decimal("):
        return f"toString(reinterpret({name}, 'Int128'))"
    if kind.startswith("DateTime64(9"):
        return f"toString(toUnixTimestamp64Nano({name}))"
    if kind.startswith("DateTime64(3"):
        return f"toString(toUnixTimestamp64Milli({name}))"
    if kind == "Bool":
        return f"toString(toUInt8({name}))"
    if kind == "Float64":
        return f"toString(reinterpretAsUInt64({name}))"
    if kind.startswith(("UInt", "Int")):
        return f"toString({name})"
    raise NoRule(kind)


def row_text(columns: list[StoredColumn], schema: WriterSchema) -> Callable[[Entry], str]:
    """What makes a record's canonical text, as the columns must hold it.

    Raises
    ------
    NoRule
        a column of an unknown type.

    What it returns raises ValueError for a record that no row can hold (an amount of more than 38 digits, a scale beyond 18).
    """
    constant: dict[int, str] = {}
    computed: list[tuple[int, Text]] = []
    for index, column in enumerate(columns):
        rule = _rule(column, schema)
        if isinstance(rule, str):
            constant[index] = rule
        else:
            computed.append((index, rule))
    template = [constant.get(index, "") for index in range(len(columns))]

    def text(entry: Entry) -> str:
        parts = template.copy()
        for index, rule in computed:
            parts[index] = rule(entry)
        return SEPARATOR.join(parts) + SEPARATOR

    return text


def _rule(column: StoredColumn, schema: WriterSchema) -> Text | str:
    """How the record gives the column's text; a constant where every record of the type gives the same."""
    name, kind = column.name, _bare(column.type)
    special = _position(name) or _special(name, schema)
    if special is not None:
        return special
    field = OTHER_NAMES.get(name, name)
    if f"{name}_mantissa" in schema.fields:
        return _mantissa(f"{name}_mantissa", "size_scale" if name in SIZES else "price_scale")
    if field not in schema.fields:
        return _nested(name, kind, schema) or _default(kind)
    if kind.startswith("Array(Decimal"):
        return _mantissas(field, "size_scale" if name in SIZES else "price_scale")
    return _field(field, kind)


def _position(name: str) -> Text | None:
    match name:
        case "log_topic":
            return lambda entry: entry.topic
        case "log_partition":
            return lambda entry: str(entry.partition)
        case "log_offset":
            return lambda entry: str(entry.offset)
        case "log_ts":
            return lambda entry: str(entry.ts_ms)
        case _:
            return None


def _special(name: str, schema: WriterSchema) -> Text | str | None:
    match name:
        case "event_type":
            return schema.name
        case "event_id" if "event_id" not in schema.fields:
            keys = NATURAL_KEYS[schema.name]
            return lambda entry: derived_id(schema.name, *(entry.values[key] for key in keys))
        case "order_id" if schema.name == "SubmitOrder":
            return lambda entry: str(entry.values["event_id"])
        case "first_update_id" if schema.name == "BookSnapshot":
            return lambda entry: str(entry.values["last_update_id"])
        case _:
            return None


def derived_id(kind: str, *parts: str | int) -> str:
    """The first 128 bits of SHA-256 over length-prefixed parts."""
    digest = hashlib.sha256()
    for part in (kind, *parts):
        raw = str(part).encode()
        digest.update(len(raw).to_bytes(4, "big") + raw)
    return digest.hexdigest()[:32]


def _nested(name: str, kind: str, schema: WriterSchema) -> Text | None:
    prefix, _, part = name.partition("_")
    field = NESTED.get(prefix, "")
    if field not in schema.fields:
        return None
    if "Decimal" in kind:
        return lambda entry: ",".join(str(from_avro(item[part])) for item in entry.values[field])
    return lambda entry: ",".join(item[part] for item in entry.values[field])


def _default(kind: str) -> str:
    """What a column holds whose record has no such field."""
    if kind.startswith("Nullable("):
        return NULL
    return "0" if kind == "Bool" or kind.startswith(("UInt", "Int")) else ""


def _field(field: str, kind: str) -> Text:
    if kind.startswith("Nullable("):
        return _nullable(field, kind[9:-1])
    if kind.startswith("Map("):
        floats = kind.endswith("Float64)")
        return lambda entry: ",".join(
            f"{key}={_float_bits(value) if floats else value}" for key, value in sorted(entry.values[field].items())
        )
    if kind.startswith("Decimal("):
        return lambda entry: str(from_avro(entry.values[field]))
    if kind == "Bool":
        return lambda entry: "1" if entry.values[field] else "0"
    if kind == "String":
        return lambda entry: entry.values[field] or ""
    return lambda entry: str(entry.values[field])


def _nullable(field: str, kind: str) -> Text:
    if kind.startswith("Decimal("):
        return lambda entry: NULL if entry.values[field] is None else str(from_avro(entry.values[field]))
    if kind.startswith("DateTime64"):
        return lambda entry: str(entry.values[field]) if entry.values[field] else NULL
    if kind == "Bool":
        return lambda entry: NULL if entry.values[field] is None else str(int(entry.values[field]))
    return lambda entry: NULL if entry.values[field] is None else str(entry.values[field])


def _mantissa(field: str, scale: str) -> Text:
    return lambda entry: str(entry.values[field] * _factor(entry.values[scale]))


def _mantissas(field: str, scale: str) -> Text:
    def text(entry: Entry) -> str:
        factor = _factor(entry.values[scale])
        return ",".join([str(mantissa * factor) for mantissa in entry.values[field]])

    return text


def _factor(scale: int) -> int:
    if not 0 <= scale <= SCALE:
        raise ValueError(f"scale {scale}; expected 0 to {SCALE}")
    return POWERS[SCALE - scale]


POWERS: list[int] = [10**exponent for exponent in range(SCALE + 1)]


def _float_bits(value: float) -> str:
    return str(struct.unpack("<Q", struct.pack("<d", value))[0])
