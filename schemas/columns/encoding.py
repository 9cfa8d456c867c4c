"""Columns to framed records: one buffer with all of them, byte for byte what :meth:`Codec.encode` writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from skeet.core.errors import InvalidInput
from skeet.core.record import Event
from skeet.schemas.codec import Codec
from skeet.schemas.columns.columns import Bytes, Columns, Longs, Storage
from skeet.schemas.columns.kernels import encoder_of
from skeet.schemas.columns.plan import Kind, Plan, Table, plan_of
from skeet.schemas.columns.reading import HEADER_BYTES
from skeet.schemas.columns.writing import MAX_DECIMAL_BYTES, MAX_LONG_BYTES

MOST_BYTES = {Kind.DOUBLE: 8, Kind.BOOLEAN: 1, Kind.DECIMAL: MAX_DECIMAL_BYTES, Kind.LIST: 2 * MAX_LONG_BYTES}
MOST_BYTES |= {Kind.MAP: MOST_BYTES[Kind.LIST]}
"""What a value takes at most, where that is not a long; of texts and lists without their content."""
SLACK = 32
"""Room behind the last record: writers ask for the longest form of what they write, and need less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Framed records, one after the other: record *i* is ``lengths[i]`` bytes from ``starts[i]`` on."""

    buffer: Bytes
    starts: Longs
    lengths: Longs

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[bytes]:
        """The records as objects, for those who send them one by one."""
        content = self.buffer.tobytes()
        ends = (self.starts + self.lengths).tolist()
        return (content[start:end] for start, end in zip(self.starts.tolist(), ends, strict=True))


class ColumnEncoder:
    """Writes records of one event class.

    Raises
    ------
    InvalidInput
        the codec has no id for this class.
    """

    def __init__(self, codec: Codec, event_class: type[Event]) -> None:
        self.event_class = event_class
        self.plan = plan_of(event_class)
        self._schema_id = codec.schema_id(event_class)
        self._kernel = encoder_of(event_class)

    def encode(self, columns: Columns) -> Encoded:
        """All rows as records, in their order.

        Raises
        ------
        InvalidInput
            the columns are of another class, or a value cannot be written: a symbol that does not exist, a text outside of
            its buffer or not in UTF-8, a decimal of more than 38 digits, list ends that run backwards. The message names the
            row.
        """
        if columns.event_class is not self.event_class:
            raise InvalidInput(f"columns of {columns.storage.plan.name}; expected those of {self.plan.name}")
        storage, rows = columns.storage, len(columns)
        out = np.empty(_most_bytes(self.plan, storage), np.uint8)
        starts, lengths = np.empty(rows, np.int64), np.empty(rows, np.int64)
        written = self._kernel(out, starts, lengths, self._schema_id, storage.buffer, *_in_use(storage))
        if written < rows:
            raise InvalidInput(f"{self.plan.name}: row {written} cannot be written: {_row_text(columns, written)}")
        return Encoded(buffer=out[: starts[-1] + lengths[-1] if rows else 0], starts=starts, lengths=lengths)


def _in_use(storage: Storage) -> Iterator[Bytes]:
    """The blocks without the room that is not used: kernels take a block's width for the number of rows."""
    for (number, _), block in storage.blocks.items():
        yield np.ascontiguousarray(block[:, : storage.counts[number]])


def _most_bytes(plan: Plan, storage: Storage) -> int:
    texts = sum(_text_bytes(table, storage) for table in plan.tables)
    fixed = sum(_row_bytes(table) * storage.counts[table.number] for table in plan.tables)
    return texts + fixed + HEADER_BYTES * storage.counts[0] + SLACK


def _row_bytes(table: Table) -> int:
    return sum(MOST_BYTES.get(field.kind, MAX_LONG_BYTES) + field.optional for field in table.fields)


def _text_bytes(table: Table, storage: Storage) -> int:
    rows = [field.at["ints"] for field in table.fields if field.kind in (Kind.TEXT, Kind.BYTES)]
    lengths = (storage.blocks[table.number, "ints"][row, : storage.counts[table.number]] for row in rows)
    return sum(int(np.maximum(each, 0).sum(dtype=np.int64)) for each in lengths)


def _row_text(columns: Columns, row: int) -> str:
    try:
        return str(columns.values(row))
    except (IndexError, ValueError, ArithmeticError) as error:
        return f"{type(error).__name__}: {error}"
