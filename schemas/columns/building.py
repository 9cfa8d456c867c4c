"""Columns from arrays and Python values, to be written as records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, DecimalException
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from skeet.core.errors import InvalidInput
from skeet.core.record import Event
from skeet.core.values import EXACT
from skeet.schemas.codec import MAX_UNSCALED
from skeet.schemas.columns.columns import Bytes, Columns, DecimalColumn, Flags, Longs, Storage, TextColumn
from skeet.schemas.columns.interning import NO_ID, Texts
from skeet.schemas.columns.plan import Field, Kind, Plan, Table, plan_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ListValues:
    """Lists or maps: where each row's items end among all, and the items' columns (of a map ``key`` and ``value``)."""

    ends: Longs
    items: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionalValues:
    """An optional column of which some rows are there; the others' values are not looked at."""

    present: Flags
    values: Value


Value: TypeAlias = (
    npt.NDArray[Any] | int | float | str | bytes | Decimal | Sequence[str] | Sequence[bytes] | Sequence[Decimal]
    | TextColumn | DecimalColumn | ListValues | OptionalValues | None
)  # fmt: skip
"""What a column can be made of: an array or sequence with a value per row, or one value for all rows. Symbols are given as
their numbers, or one by name; decimals as such or as a :class:`DecimalColumn`; None for an optional column without values."""


def texts_by_id(known: Texts, ids: npt.NDArray[np.integer[Any]]) -> TextColumn:
    """A text column of ids of an intern table; each must be one that the table gave."""
    ends = known.ends[: len(known)]
    begins = np.concatenate([[0], ends[:-1]]) if len(known) else ends
    starts = begins[ids]
    return TextColumn(
        buffer=known.pool[: int(known.counts[1])], starts=starts, lengths=(ends[ids] - starts).astype(np.int32)
    )


def columns_of(event_class: type[Event], rows: int, values: Mapping[str, Value]) -> Columns:
    """Columns of an event class with so many rows; ``values`` has one for every field, those of the envelope included.

    Raises
    ------
    InvalidInput
        a field is missing or unknown, has another number of rows, or a value that its type does not hold exactly.
    """
    plan = plan_of(event_class)
    builder = _Builder(plan, _counted(plan, rows, values))
    builder.fill(plan.tables[0], values)
    storage = Storage(
        plan=plan, buffer=builder.buffer(), blocks=builder.blocks, counts=tuple(builder.counts), known={}
    )  # fmt: skip
    return Columns(event_class, storage, np.arange(rows, dtype=np.int64))


def _counted(plan: Plan, rows: int, values: Mapping[str, Value]) -> list[int]:
    """Rows of each table: of a list's items as many as its last row's end says."""
    counts = [rows, *(0 for _ in plan.tables[1:])]

    def count(table: Table, given: Mapping[str, Value]) -> None:
        if set(given) != {column.name for column in table.fields}:
            names = ", ".join(column.name for column in table.fields)
            raise InvalidInput(f"{plan.name}: columns {', '.join(sorted(given))}; expected {names}")
        for column in table.fields:
            content = given[column.name]
            content = content.values if isinstance(content, OptionalValues) else content
            if column.kind in (Kind.LIST, Kind.MAP):
                if not isinstance(content, ListValues):
                    raise InvalidInput(f"{plan.name}.{column.name}: {type(content).__name__}; expected ListValues")
                counts[column.child] = int(content.ends[-1]) if len(content.ends) else 0
                count(plan.tables[column.child], content.items)

    count(plan.tables[0], values)
    return counts


@dataclass
class _Builder:
    plan: Plan
    counts: list[int]
    blocks: dict[tuple[int, str], npt.NDArray[Any]] = field(default_factory=dict)
    chunks: list[Bytes] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=dict)
    used: int = 0

    def __post_init__(self) -> None:
        self.blocks = Storage.reserved(self.plan, tuple(self.counts))

    def buffer(self) -> Bytes:
        return np.concatenate(self.chunks) if self.chunks else np.empty(0, np.uint8)

    def fill(self, table: Table, values: Mapping[str, Value]) -> None:
        for column in table.fields:
            content = values[column.name]
            if column.optional:
                content = self.optional(table, column, content)
            if content is not None:
                self.column(table, column, content)

    def optional(self, table: Table, column: Field, content: Value) -> Value:
        present: Any = content is not None
        if isinstance(content, OptionalValues):
            present, content = content.present, content.values
        self.put(table, column, "flags", column.flag_at, present, np.uint8)
        if content is None:
            for block, row in column.parts:
                self.blocks[table.number, block][row] = 0
        return content

    def column(self, table: Table, column: Field, content: Any) -> None:
        match column.kind:
            case Kind.LIST | Kind.MAP:
                self.put(table, column, *column.parts[0], content.ends, np.int64)
                self.fill(self.plan.tables[column.child], content.items)
            case Kind.TEXT | Kind.BYTES:
                self.texts(table, column, content)
            case Kind.DECIMAL:
                self.decimals(table, column, content)
            case Kind.ENUM if isinstance(content, str):
                if content not in column.symbols:
                    raise InvalidInput(
                        f"{self.where(column)}: {content!r}; expected one of {', '.join(column.symbols)}"
                    )
                self.put(table, column, *column.parts[0], column.symbols.index(content), np.int32)
            case Kind.LONG | Kind.DOUBLE | Kind.BOOLEAN | Kind.ENUM:
                widths = {Kind.LONG: np.int64, Kind.DOUBLE: np.float64, Kind.BOOLEAN: np.uint8, Kind.ENUM: np.int32}
                self.put(table, column, *column.parts[0], content, widths[column.kind])

    def texts(self, table: Table, column: Field, content: Any) -> None:
        *ids, start, length = column.parts
        for part in ids:
            self.put(table, column, *part, NO_ID, np.int32)
        if isinstance(content, TextColumn):
            starts, lengths = content.starts + self.place(content.buffer), content.lengths
        else:
            alone = isinstance(content, (str, bytes))
            encoded = [_encoded(self.where(column), each) for each in ([content] if alone else content)]
            lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
            starts = np.cumsum(lengths) - lengths + self.place(np.frombuffer(b"".join(encoded), np.uint8))
            if alone:
                starts, lengths = starts[0], lengths[0]
        self.put(table, column, *start, starts, np.int64)
        self.put(table, column, *length, lengths, np.int64)

    def place(self, buffer: Bytes) -> int:
        """Where this buffer's bytes begin in ours; one that several columns share is taken once."""
        key = buffer.__array_interface__["data"][0] if len(buffer) else 0
        if key not in self.places or len(buffer) == 0:
            self.places[key] = self.used
            self.chunks.append(buffer)
            self.used += len(buffer)
        return self.places[key]

    def decimals(self, table: Table, column: Field, content: Any) -> None:
        high, low = column.parts
        if not isinstance(content, DecimalColumn):
            alone = isinstance(content, Decimal)
            content = _halves(self.where(column), column.scale, [content] if alone else content)
            content = (content.high[0], content.low[0], column.scale) if alone else content
        given = (content.high, content.low, content.scale) if isinstance(content, DecimalColumn) else content
        if given[2] != column.scale:
            raise InvalidInput(f"{self.where(column)}: {given[2]} decimal places; expected {column.scale}")
        self.put(table, column, *high, given[0], np.int64)
        self.put(table, column, *low, given[1], np.int64)

    def put(self, table: Table, column: Field, block: str, row: int, content: Any, dtype: Any) -> None:
        array = np.asarray(content)
        rows = self.counts[table.number]
        if array.shape not in ((), (rows,)):
            raise InvalidInput(f"{self.where(column)}: {array.shape} values; expected {rows}")
        if not _holds(np.dtype(dtype), array):
            raise InvalidInput(f"{self.where(column)}: values of {array.dtype}; expected {np.dtype(dtype)}")
        self.blocks[table.number, block][row] = array

    def where(self, column: Field) -> str:
        return f"{self.plan.name}.{column.name}"


def _encoded(where: str, text: object) -> bytes:
    try:
        encoded = text.encode() if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{where}: {text!r} cannot be written in UTF-8") from error
    if not isinstance(encoded, bytes):
        raise InvalidInput(f"{where}: {text!r}; expected text or bytes")
    return encoded


def _holds(dtype: np.dtype[Any], array: npt.NDArray[Any]) -> bool:
    """Whether all of these values are values of the type, exactly."""
    if np.can_cast(array.dtype, dtype, "safe"):
        return True
    if array.dtype.kind not in "iu" or dtype.kind not in "iu":
        return False
    limits = np.iinfo(dtype)
    return array.size == 0 or (int(array.min()) >= limits.min and int(array.max()) <= limits.max)


def _halves(where: str, scale: int, values: Sequence[Decimal]) -> DecimalColumn:
    """The numbers in two halves.

    Raises
    ------
    InvalidInput
        one has more than ``scale`` decimal places, more than 38 digits, or is no number.
    """
    high, low = np.empty(len(values), np.int64), np.empty(len(values), np.uint64)
    for row, value in enumerate(values):
        if not isinstance(value, Decimal):
            raise InvalidInput(f"{where}: {value!r}; expected a Decimal")
        try:
            unscaled = int(value.scaleb(scale, EXACT).to_integral_exact(context=EXACT))
        except (DecimalException, ValueError, OverflowError) as error:
            raise InvalidInput(f"{where}: {value}; expected at most {scale} decimal places") from error
        if abs(unscaled) >= MAX_UNSCALED:
            raise InvalidInput(f"{where}: {value}; expected at most 38 digits")
        high[row], low[row] = unscaled >> 64, unscaled & 0xFFFF_FFFF_FFFF_FFFF
    return DecimalColumn(high=high, low=low.view(np.int64), scale=scale)
