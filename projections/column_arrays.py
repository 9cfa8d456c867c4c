"""Columns of history rows from decoded columns: the same values as :mod:`skeet.projections.columns` makes of records one by
one, without a Python object for any of them.

Each function takes the columns of one event class, and the names of its fields. Texts may come as dictionary arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skeet.core.values import AMOUNT_SCALE
from skeet.schemas.columns.columns import Longs, Rows, TextColumn
from skeet.schemas.columns.interning import NO_ID
from skeet.schemas.columns.plan import ITEM, KEY, VALUE

AMOUNT = pa.decimal128(38, AMOUNT_SCALE)
INSTANT = pa.timestamp("ns", tz="UTC")


def constant(value: Any, arrow_type: pa.DataType, count: int) -> pa.Array:
    """The same value in every row; None: null."""
    return pa.nulls(count, arrow_type) if value is None else pa.repeat(pa.scalar(value, arrow_type), count)


def texts(rows: Rows, field: str) -> pa.Array:
    """Strings, symbols of enumerations; empty where there is none."""
    if field not in rows.names:
        return constant("", pa.string(), len(rows))
    found = _array(rows, field)
    return plain_text(found).fill_null("") if found.null_count else found


def plain_text(array: pa.Array) -> pa.Array:
    """The array without a dictionary."""
    return array.dictionary_decode() if isinstance(array, pa.DictionaryArray) else array


def values(rows: Rows, field: str, arrow_type: pa.DataType, default: Any = None) -> pa.Array:
    """Numbers, booleans, amounts; ``default`` where the class has no such field.

    Raises
    ------
    pa.ArrowInvalid
        a number does not fit the type.
    """
    if field not in rows.names:
        return constant(default, arrow_type, len(rows))
    return _array(rows, field).cast(arrow_type)


def python_values(rows: Rows, field: str) -> list[Any]:
    """The values as Python has them: symbols as texts, null as None."""
    found: list[Any] = plain_text(_array(rows, field)).to_pylist()
    return found


def instants(rows: Rows, field: str) -> pa.Array:
    """Nanoseconds since the epoch, always there."""
    return pa.array(rows.longs(field)).cast(INSTANT)


def optional_instants(rows: Rows, field: str) -> pa.Array:
    """Nanoseconds since the epoch; null where there is none, or 0, which means none."""
    if field not in rows.names:
        return constant(None, INSTANT, len(rows))
    found = rows.longs(field)
    return pa.array(found, mask=~rows.present(field) | (found == 0)).cast(INSTANT)


def scaled(rows: Rows, mantissa: str, scale: str) -> pa.Array:
    """``mantissa × 10^-scale``, exact."""
    return decimals(rows.longs(mantissa), rows.longs(scale))


def scaled_lists(rows: Rows, mantissas: str, scale: str) -> pa.Array:
    """Lists of ``mantissa × 10^-scale``, exact."""
    scales = np.repeat(rows.longs(scale), np.diff(rows.ends(mantissas), prepend=0))
    return pa.ListArray.from_arrays(_offsets(rows, mantissas), decimals(rows.items(mantissas).longs(ITEM), scales))


def nested(rows: Rows, field: str, part: str, arrow_type: pa.DataType) -> pa.Array:
    """One part of a list of nested records, as a list; empty where the class has no such field."""
    if field not in rows.names:
        return pa.ListArray.from_arrays(pa.array(np.zeros(len(rows) + 1, np.int32)), pa.array([], arrow_type))
    return pa.ListArray.from_arrays(_offsets(rows, field), plain_text(_array(rows.items(field), part)).cast(arrow_type))


def mappings(rows: Rows, field: str, value_type: pa.DataType) -> pa.Array:
    """Maps from strings, each in the order of its keys."""
    items = rows.items(field)
    owners = np.repeat(np.arange(len(rows)), np.diff(rows.ends(field), prepend=0))
    order = pa.array(np.lexsort((_ranks(items.texts(KEY)), owners)))
    keys, held = plain_text(_array(items, KEY)).take(order), plain_text(_array(items, VALUE)).take(order)
    return pa.MapArray.from_arrays(_offsets(rows, field), keys, held.cast(value_type))


def _ranks(keys: TextColumn) -> NDArray[np.int64]:
    """Numbers in the order of the texts."""
    if keys.ids is not None and keys.known is not None and not (keys.ids == NO_ID).any():
        known = np.array(keys.known.all(), object)
        ranks = np.empty(len(known), np.int64)
        ranks[np.argsort(known, kind="stable")] = np.arange(len(known))
        return ranks[keys.ids]
    place = {text: number for number, text in enumerate(sorted(set(keys)))}
    return np.fromiter((place[text] for text in keys), np.int64, len(keys))


def _array(rows: Rows, field: str) -> pa.Array:
    from skeet.schemas.columns.arrow import arrow_column

    return arrow_column(rows, field)


def _offsets(rows: Rows, field: str) -> pa.Array:
    return pa.array(np.concatenate(([0], rows.ends(field))).astype(np.int32))


def decimals(mantissas: Longs, scales: Longs) -> pa.Array:
    """``mantissa × 10^-scale`` as ``decimal128(38, 18)``, exact for every int64 mantissa and scales 0 to 18.

    Raises
    ------
    ValueError
        a scale is outside 0 to 18.
    """
    if len(scales) and (scales.min() < 0 or scales.max() > AMOUNT_SCALE):
        raise ValueError(f"scale {scales.min()} to {scales.max()}; expected 0 to {AMOUNT_SCALE}")
    factors = np.uint64(10) ** (AMOUNT_SCALE - scales).astype(np.uint64)
    words = _multiply(mantissas, factors)
    return pa.Array.from_buffers(AMOUNT, len(mantissas), [None, pa.py_buffer(words)])


def _multiply(left: NDArray[np.int64], right: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """128-bit products as rows of (low, high) words in two's complement, by schoolbook multiplication of 32-bit halves."""
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    a = left.view(np.uint64)  # a negative number is itself + 2^64, whose surplus is taken out of the high word below
    a_low, a_high, b_low, b_high = a & mask, a >> half, right & mask, right >> half
    low, mid_1, mid_2, high = a_low * b_low, a_low * b_high, a_high * b_low, a_high * b_high
    carry = (low >> half) + (mid_1 & mask) + (mid_2 & mask)
    words = np.empty((len(left), 2), np.uint64)
    words[:, 0] = (low & mask) | (carry << half)
    words[:, 1] = high + (mid_1 >> half) + (mid_2 >> half) + (carry >> half) - np.where(left < 0, right, np.uint64(0))
    return words
