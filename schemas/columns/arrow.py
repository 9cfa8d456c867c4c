"""Columns as Arrow, for stores that take it: numbers without a copy, keyed texts and symbols as dictionary arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from skeet.core.errors import BugError
from skeet.schemas.columns.columns import Flags, Longs, Rows, TextColumn
from skeet.schemas.columns.interning import NO_ID
from skeet.schemas.columns.kernels import gatherer
from skeet.schemas.columns.plan import ITEM, KEY, VALUE, Field, Kind

DECIMAL_DIGITS = 38


def arrow_of(rows: Rows) -> Any:
    """A :class:`pyarrow.RecordBatch` of these rows, a column each, in the schema's order.

    Longs are int64, doubles float64; texts are strings, keyed ones a dictionary of the intern table; symbols a dictionary of
    their names; decimals decimal128(38, scale); lists and maps Arrow's own. Numbers and dictionaries' ids stay where they
    are: the batch is valid as long as the columns are.
    """
    return pa.RecordBatch.from_arrays([_array(rows, rows.field(name)) for name in rows.names], names=list(rows.names))


def arrow_column(rows: Rows, name: str) -> Any:
    """One column of :func:`arrow_of`.

    Raises
    ------
    InvalidInput
        there is none of this name.
    """
    return _array(rows, rows.field(name))


def _array(rows: Rows, field: Field) -> Any:
    present = rows.present(field.name) if field.optional else None
    match field.kind:
        case Kind.LONG:
            return _numbers(rows.longs(field.name), present)
        case Kind.DOUBLE:
            return _numbers(rows.doubles(field.name), present)
        case Kind.BOOLEAN:
            return _numbers(rows.booleans(field.name), present)
        case Kind.ENUM:
            return pa.DictionaryArray.from_arrays(_numbers(rows.symbols(field.name), present), pa.array(field.symbols))
        case Kind.TEXT | Kind.BYTES:
            return _texts(rows.texts(field.name), pa.string() if field.kind is Kind.TEXT else pa.binary(), present)
        case Kind.DECIMAL:
            return _decimals(rows, field, present)
        case Kind.LIST | Kind.MAP:
            return _lists(rows, field)


def _numbers(values: Any, present: Flags | None) -> Any:
    return pa.array(values, mask=None if present is None else ~present)


def _validity(present: Flags | None) -> Any:
    return None if present is None else pa.py_buffer(np.packbits(present, bitorder="little"))


def _texts(column: TextColumn, arrow_type: Any, present: Flags | None) -> Any:
    if column.ids is not None and column.known is not None and present is None and not (column.ids == NO_ID).any():
        return pa.DictionaryArray.from_arrays(pa.array(column.ids), pa.array(column.known.all(), pa.string()))
    offsets = np.zeros(len(column) + 1, np.int32)
    offsets[1:] = _int32(np.cumsum(column.lengths, dtype=np.int64))
    if len(column) and (column.starts.min() < 0 or (column.starts + column.lengths).max() > len(column.buffer)):
        raise BugError(f"a text outside of the buffer's {len(column.buffer)} bytes")
    content = np.empty(offsets[-1], np.uint8)
    gatherer()(column.buffer, column.starts, column.lengths, content)
    buffers = [_validity(present), pa.py_buffer(offsets), pa.py_buffer(content)]
    return pa.Array.from_buffers(arrow_type, len(column), buffers)


def _int32(ends: Longs) -> Longs:
    """Arrow's offsets are int32; a batch of 2 GiB of one column's texts is no batch."""
    if len(ends) and ends[-1] > np.iinfo(np.int32).max:
        raise BugError(f"{ends[-1]} bytes or items in one column of a batch")
    return ends


def _decimals(rows: Rows, field: Field, present: Flags | None) -> Any:
    column = rows.decimals(field.name)
    halves = np.stack([column.low, column.high], axis=1)
    buffers = [_validity(present), pa.py_buffer(halves)]
    return pa.Array.from_buffers(pa.decimal128(DECIMAL_DIGITS, column.scale), len(column), buffers)


def _lists(rows: Rows, field: Field) -> Any:
    offsets = pa.array(np.concatenate([[0], _int32(rows.ends(field.name))]).astype(np.int32))
    items = rows.items(field.name)
    if field.kind is Kind.MAP:
        return pa.MapArray.from_arrays(offsets, _plain(items, KEY), _plain(items, VALUE))
    if items.names == (ITEM,):
        return pa.ListArray.from_arrays(offsets, _array(items, items.field(ITEM)))
    return pa.ListArray.from_arrays(offsets, arrow_of(items).to_struct_array())


def _plain(items: Rows, name: str) -> Any:
    """Keys and values of maps without a dictionary: readers of Arrow's maps expect none."""
    found = _array(items, items.field(name))
    return found.dictionary_decode() if isinstance(found, pa.DictionaryArray) else found
