"""Which columns an event class becomes, and where each of them is stored.

A schema is a tree of tables: the records themselves, and below them one table per array or map, whose rows are the items of
all records one after the other. A table's columns are rows of at most four two-dimensional blocks, one per width:

``longs`` (int64)
    longs; the first byte of texts and bytes in the buffer; decimals as two halves; where a list's items end.
``ints`` (int32)
    symbols of enumerations; lengths of texts and bytes; ids of keyed texts.
``doubles`` (float64)
    doubles.
``flags`` (uint8)
    booleans; whether an optional value is there.

Kernels are generated from this plan, and columns are views made from it: nothing else knows the layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cache
from typing import Any

from skeet.core.errors import InvalidInput
from skeet.core.record import Event
from skeet.schemas.catalogue import EVENT_BY_NAME, committed_schema, full_name

KEYED = frozenset(
    {
        "instrument_id",
        "venue",
        "interval",
        "name",
        "version",
        "account_id",
        "tenant_id",
        "book_id",
        "asset",
        "fee_asset",
    }
)
"""Texts that name what state is kept by, or a rule: few, and repeated on every record. They get ids from an intern table.
All others (``trade_id``, ``cause_at``, ``event_id`` …) are new on every record: they stay where they are in the buffer."""
KEY, VALUE, ITEM = "key", "value", "item"
"""Columns of a map's table, and the one column of an array of plain values."""


class Kind(Enum):
    """What a column holds."""

    LONG = auto()
    DOUBLE = auto()
    BOOLEAN = auto()
    ENUM = auto()
    TEXT = auto()
    BYTES = auto()
    DECIMAL = auto()
    LIST = auto()
    MAP = auto()


BLOCKS = ("longs", "ints", "doubles", "flags")
WIDTHS: Mapping[Kind, Mapping[str, int]] = {
    Kind.LONG: {"longs": 1},
    Kind.DOUBLE: {"doubles": 1},
    Kind.BOOLEAN: {"flags": 1},
    Kind.ENUM: {"ints": 1},
    Kind.TEXT: {"longs": 1, "ints": 1},
    Kind.BYTES: {"longs": 1, "ints": 1},
    Kind.DECIMAL: {"longs": 2},
    Kind.LIST: {"longs": 1},
    Kind.MAP: {"longs": 1},
}
"""Rows that a column takes in each block; a keyed text takes one more of ``ints``, an optional value one of ``flags``."""
LEAST_BYTES: Mapping[Kind, int] = {Kind.DOUBLE: 8}
"""What a value takes in Avro at least, where that is more than one byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One column. ``at`` is its first row in each block; ``child`` the table of its items, for lists and maps."""

    name: str
    kind: Kind
    at: Mapping[str, int]
    optional: bool = False
    keyed: bool = False
    symbols: tuple[str, ...] = ()
    scale: int = 0
    child: int = 0

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """Block and row of each part, in the order in which kernels read and write them; of a keyed text the id first."""
        match self.kind:
            case Kind.LONG | Kind.LIST | Kind.MAP:
                found = [("longs", 0)]
            case Kind.DECIMAL:
                found = [("longs", 0), ("longs", 1)]
            case Kind.DOUBLE:
                found = [("doubles", 0)]
            case Kind.BOOLEAN:
                found = [("flags", 0)]
            case Kind.ENUM:
                found = [("ints", 0)]
            case Kind.TEXT | Kind.BYTES:
                found = [*([("ints", 1)] if self.keyed else []), ("longs", 0), ("ints", 0)]
        return tuple((block, self.at[block] + more) for block, more in found)

    @property
    def flag_at(self) -> int:
        """The row of ``flags`` that says whether an optional value is there: after that of the value itself."""
        return self.at["flags"] + (self.kind is Kind.BOOLEAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The records (number 0), or the items of one list. ``sizes`` are the rows of its blocks, in the order of BLOCKS."""

    number: int
    fields: tuple[Field, ...]
    sizes: Mapping[str, int]
    least_bytes: int

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks that have rows at all."""
        return tuple(block for block in BLOCKS if self.sizes[block])


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The tables of one schema."""

    name: str
    tables: tuple[Table, ...]

    @property
    def keyed(self) -> tuple[str, ...]:
        """Names of the intern tables that it uses, in the order of the kernels' arguments."""
        return tuple(sorted({column.name for table in self.tables for column in table.fields if column.keyed}))


def plan_of(event_class: type[Event]) -> Plan:
    """The plan of an event class, from its committed schema; made once.

    Raises
    ------
    InvalidInput
        the schema has a type that no column holds (none of ours has).
    """
    return _plan(full_name(event_class))


@cache
def _plan(name: str) -> Plan:
    return _Planner(name).planned(committed_schema(EVENT_BY_NAME[name]))


@dataclass
class _Planner:
    name: str
    tables: dict[int, Table] = field(default_factory=dict)
    named: dict[str, Any] = field(default_factory=dict)
    count: int = 0

    def planned(self, schema: Mapping[str, Any]) -> Plan:
        self.table(schema["fields"])
        return Plan(name=self.name, tables=tuple(self.tables[number] for number in range(self.count)))

    def table(self, fields: list[dict[str, Any]]) -> int:
        number, self.count = self.count, self.count + 1
        sizes = dict.fromkeys(BLOCKS, 0)
        columns = tuple(self.field(entry["name"], entry["type"], sizes) for entry in fields)
        least = sum(1 if column.optional else LEAST_BYTES.get(column.kind, 1) for column in columns)
        self.tables[number] = Table(number=number, fields=columns, sizes=sizes, least_bytes=least)
        return number

    def field(self, name: str, schema: Any, sizes: dict[str, int]) -> Field:
        optional = isinstance(schema, list)
        if optional and (len(schema) != 2 or schema[0] != "null"):
            raise InvalidInput(f"{self.name}.{name}: {schema} is no optional value with null first")
        kind, details = self.kind(name, self.resolved(schema[1] if optional else schema))
        if optional and kind in (Kind.LIST, Kind.MAP):
            raise InvalidInput(f"{self.name}.{name}: no column holds an optional list")
        at = dict(sizes)
        for block, width in WIDTHS[kind].items():
            sizes[block] += width
        sizes["ints"] += bool(details.get("keyed"))
        sizes["flags"] += optional
        return Field(name=name, kind=kind, at=at, optional=optional, **details)

    def resolved(self, schema: Any) -> Any:
        if isinstance(schema, Mapping) and "name" in schema:
            self.named[f"{schema['namespace']}.{schema['name']}"] = schema
        return self.named.get(schema, schema) if isinstance(schema, str) else schema

    def kind(self, name: str, schema: Any) -> tuple[Kind, dict[str, Any]]:
        match schema:
            case "long":
                return Kind.LONG, {}
            case "double":
                return Kind.DOUBLE, {}
            case "boolean":
                return Kind.BOOLEAN, {}
            case "string":
                return Kind.TEXT, {"keyed": name in KEYED or name == KEY}
            case "bytes":
                return Kind.BYTES, {}
            case {"logicalType": "decimal", "type": "bytes", "scale": int(scale), "precision": 38}:
                return Kind.DECIMAL, {"scale": scale}
            case {"type": "enum", "symbols": symbols}:
                return Kind.ENUM, {"symbols": tuple(symbols)}
            case {"type": "array", "items": items}:
                return Kind.LIST, {"child": self.table(self.items(items))}
            case {"type": "map", "values": values}:
                return Kind.MAP, {"child": self.table([_entry(KEY, "string"), _entry(VALUE, values)])}
            case _:
                raise InvalidInput(f"{self.name}.{name}: no column holds {schema}")

    def items(self, schema: Any) -> list[dict[str, Any]]:
        record = self.resolved(schema)
        if isinstance(record, Mapping) and record.get("type") == "record":
            return list(record["fields"])
        return [_entry(ITEM, schema)]


def _entry(name: str, schema: Any) -> dict[str, Any]:
    return {"name": name, "type": schema}
