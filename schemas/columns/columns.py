"""Columns: what a batch of records of one event class became, or is to be written from.

Arrays are views of the blocks that kernels fill (see :mod:`skeet.schemas.columns.plan`); texts and bytes stay in the buffer
that the records came in. Whoever wants to keep a text longer than the batch copies it, or keeps its id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from skeet.core.errors import InvalidInput
from skeet.core.record import Event
from skeet.core.values import EXACT
from skeet.schemas.columns.interning import Texts
from skeet.schemas.columns.plan import ITEM, KEY, VALUE, Field, Kind, Plan

Longs = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]
Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

S = TypeVar("S", bound=np.generic)

DTYPES: Mapping[str, Any] = {"longs": np.int64, "ints": np.int32, "doubles": np.float64, "flags": np.uint8}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextColumn:
    """Texts or bytes, as places in a buffer. A keyed one has ``ids`` into ``known``; ``NO_ID`` where the table had no room."""

    buffer: Bytes
    starts: Longs
    lengths: Ints
    ids: Ints | None = None
    known: Texts | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def bytes_at(self, row: int) -> bytes:
        """A copy of the bytes."""
        start = int(self.starts[row])
        return self.buffer[start : start + int(self.lengths[row])].tobytes()

    def __getitem__(self, row: int) -> str:
        if self.ids is not None and self.known is not None and (number := int(self.ids[row])) >= 0:
            return self.known[number]
        return self.bytes_at(row).decode()

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class DecimalColumn:
    """Unscaled numbers of 128 bits in two halves (``low`` holds the bits of an unsigned one); ``scale`` decimal places."""

    high: Longs
    low: Longs
    scale: int

    def __len__(self) -> int:
        return len(self.high)

    def unscaled(self, row: int) -> int:
        """The number times ten to the power of ``scale``."""
        return int(self.high[row]) << 64 | int(self.low[row]) & 0xFFFF_FFFF_FFFF_FFFF

    def __getitem__(self, row: int) -> Decimal:
        return Decimal(self.unscaled(row)).scaleb(-self.scale, EXACT)

    @property
    def fits(self) -> Flags:
        """Rows whose unscaled number is ``low`` itself, as an int64."""
        found: Flags = np.equal(self.high, self.low >> 63)
        return found


class Rows:
    """The columns of one table: of the records themselves, or of the items of a list.

    Each accessor takes a column's name and raises InvalidInput when the table has none of this name and kind. Rows of an
    optional column that are not there hold zeros; :meth:`present` tells which are.
    """

    def __init__(self, storage: Storage, table: int) -> None:
        self._storage = storage
        self._table = storage.plan.tables[table]
        self._fields = {field.name: field for field in self._table.fields}

    def __len__(self) -> int:
        return self._storage.counts[self._table.number]

    @property
    def names(self) -> tuple[str, ...]:
        """Columns in the schema's order."""
        return tuple(self._fields)

    def field(self, name: str, *kinds: Kind) -> Field:
        """How a column is stored."""
        found = self._fields.get(name)
        if found is None or (kinds and found.kind not in kinds):
            wanted = " or ".join(kind.name.lower() for kind in kinds) or "a column"
            raise InvalidInput(f"{self._storage.plan.name}: {name!r} is not {wanted}; columns: {', '.join(self.names)}")
        return found

    def longs(self, name: str) -> Longs:
        """int64, a view."""
        return self._row("longs", self.field(name, Kind.LONG).at["longs"], np.int64)

    def doubles(self, name: str) -> Doubles:
        """float64, a view."""
        return self._row("doubles", self.field(name, Kind.DOUBLE).at["doubles"], np.float64)

    def booleans(self, name: str) -> Flags:
        """bool, a view."""
        return self._row("flags", self.field(name, Kind.BOOLEAN).at["flags"], np.bool_)

    def symbols(self, name: str) -> Ints:
        """Positions in :meth:`symbol_names`, int32, a view."""
        return self._row("ints", self.field(name, Kind.ENUM).at["ints"], np.int32)

    def symbol_names(self, name: str) -> tuple[str, ...]:
        """The symbols of an enumeration, ``UNKNOWN`` first."""
        return self.field(name, Kind.ENUM).symbols

    def texts(self, name: str) -> TextColumn:
        """Texts or bytes, with ids where they are keyed."""
        column = self.field(name, Kind.TEXT, Kind.BYTES)
        return TextColumn(
            buffer=self._storage.buffer,
            starts=self._row("longs", column.at["longs"], np.int64),
            lengths=self._row("ints", column.at["ints"], np.int32),
            ids=self._row("ints", column.at["ints"] + 1, np.int32) if column.keyed else None,
            known=self._storage.known.get(name) if column.keyed else None,
        )

    def decimals(self, name: str) -> DecimalColumn:
        """Exact numbers, as views of their halves."""
        column = self.field(name, Kind.DECIMAL)
        high, low = (self._row("longs", column.at["longs"] + half, np.int64) for half in (0, 1))
        return DecimalColumn(high=high, low=low, scale=column.scale)

    def present(self, name: str) -> Flags:
        """Whether the value of an optional column is there; always True for others."""
        column = self.field(name)
        if not column.optional:
            return np.ones(len(self), np.bool_)
        return self._row("flags", column.flag_at, np.bool_)

    def ends(self, name: str) -> Longs:
        """Where the items of each row's list or map end in :meth:`items`; they begin where those of the row before end."""
        return self._row("longs", self.field(name, Kind.LIST, Kind.MAP).at["longs"], np.int64)

    def items(self, name: str) -> Rows:
        """The items of all rows' lists, one after the other; of a map the columns ``key`` and ``value``."""
        return Rows(self._storage, self.field(name, Kind.LIST, Kind.MAP).child)

    def values(self, row: int) -> dict[str, Any]:
        """One row as :meth:`Codec.decode_values` gives it: slow, for tests and for the odd record."""
        return {name: self._value(column, row) for name, column in self._fields.items()}

    def _row(self, block: str, number: int, dtype: type[S]) -> npt.NDArray[S]:
        return self._storage.blocks[self._table.number, block][number, : len(self)].view(dtype)

    def _value(self, column: Field, row: int) -> Any:
        name = column.name
        if column.optional and not self.present(name)[row]:
            return None
        match column.kind:
            case Kind.LONG:
                return int(self.longs(name)[row])
            case Kind.DOUBLE:
                return float(self.doubles(name)[row])
            case Kind.BOOLEAN:
                return bool(self.booleans(name)[row])
            case Kind.ENUM:
                return column.symbols[self.symbols(name)[row]]
            case Kind.TEXT:
                return self.texts(name)[row]
            case Kind.BYTES:
                return self.texts(name).bytes_at(row)
            case Kind.DECIMAL:
                return self.decimals(name)[row]
            case Kind.LIST | Kind.MAP:
                return self._items(column, row)

    def _items(self, column: Field, row: int) -> Any:
        ends, items = self.ends(column.name), self.items(column.name)
        found = [items.values(item) for item in range(int(ends[row - 1]) if row else 0, int(ends[row]))]
        if column.kind is Kind.MAP:
            return {item[KEY]: item[VALUE] for item in found}
        return [item[ITEM] for item in found] if items.names == (ITEM,) else found


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The blocks of all tables with the buffer that texts are in. ``counts`` are the rows in use of each table."""

    plan: Plan
    buffer: Bytes
    blocks: Mapping[tuple[int, str], npt.NDArray[Any]]
    counts: tuple[int, ...]
    known: Mapping[str, Texts]

    @staticmethod
    def reserved(plan: Plan, rooms: tuple[int, ...]) -> dict[tuple[int, str], npt.NDArray[Any]]:
        """Blocks with room for so many rows of each table; memory is taken as it is written to."""
        return {
            (table.number, block): np.empty((table.sizes[block], room), DTYPES[block])
            for table, room in zip(plan.tables, rooms, strict=True)
            for block in table.blocks
        }


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that is none: its number among those given, and the error that :meth:`Codec.decode` raises for it."""

    index: int
    error: InvalidInput


class Columns(Rows):
    """The records of one event class, a row each, in the order given.

    ``index`` is the number of each row's record among those given; those that are missing are in ``refused``, with why.
    """

    def __init__(
        self, event_class: type[Event], storage: Storage, index: Longs, refused: tuple[Refused, ...] = ()
    ) -> None:
        super().__init__(storage, 0)
        self.event_class = event_class
        self.storage = storage
        self.index = index
        self.refused = refused
