"""Columns of history rows, from decoded records straight to Arrow: exact, and without an object per row in between.

A column says which fields of the record it holds. Market prices and sizes leave their integer mantissa and scale as
``decimal128(38, 18)`` by 128-bit integer arithmetic on whole columns; amounts come as ``Decimal`` from the decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skeet.core.values import AMOUNT_SCALE

AMOUNT = pa.decimal128(38, AMOUNT_SCALE)
INSTANT = pa.timestamp("ns", tz="UTC")

Values = Mapping[str, Any]
"""One decoded record: its fields by name, enumerations as their symbols."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a history table: its name, the record fields it holds, and how to build it from records."""

    name: str
    fields: tuple[str, ...]
    build: Callable[[Sequence[Values]], pa.Array]


def text(name: str, field: str = "") -> Column:
    """A string; empty where the record has none."""
    field = field or name
    return Column(
        name=name,
        fields=(field,),
        build=lambda rows: pa.array([row.get(field) or "" for row in rows], pa.string()),
    )


def plain(name: str, arrow_type: pa.DataType, field: str = "", default: Any = None) -> Column:
    """A value that Arrow takes as it is; ``default`` where the record has no such field."""
    field = field or name
    return Column(
        name=name,
        fields=(field,),
        build=lambda rows: pa.array([row.get(field, default) for row in rows], arrow_type),
    )


def integer(name: str) -> Column:
    """A 64-bit integer; null where the record has none."""
    return plain(name, pa.int64())


def small(name: str) -> Column:
    """A scale: 0 to 255."""
    return plain(name, pa.uint8())


def flag(name: str, default: bool | None = False) -> Column:
    """A boolean."""
    return plain(name, pa.bool_(), default=default)


def amount(name: str) -> Column:
    """An exact amount with 18 decimal places; null where the record has none."""
    return plain(name, AMOUNT)


def instant(name: str, field: str = "") -> Column:
    """Nanoseconds since the epoch, always there."""
    field = field or name
    return Column(
        name=name,
        fields=(field,),
        build=lambda rows: pa.array(np.array([row[field] for row in rows], np.int64)).cast(INSTANT),
    )


def optional_instant(name: str, field: str = "") -> Column:
    """Nanoseconds since the epoch; null where the record has none, or 0, which means none."""
    field = field or name
    return Column(
        name=name,
        fields=(field,),
        build=lambda rows: pa.array([row.get(field) or None for row in rows], pa.int64()).cast(INSTANT),
    )


def scaled(name: str, mantissa: str, scale: str) -> Column:
    """``mantissa × 10^-scale``, exact."""

    def build(rows: Sequence[Values]) -> pa.Array:
        mantissas = np.array([row[mantissa] for row in rows], np.int64)
        return decimals(mantissas, np.array([row[scale] for row in rows], np.int64))

    return Column(name=name, fields=(mantissa, scale), build=build)


def scaled_list(name: str, mantissas: str, scale: str) -> Column:
    """A list of ``mantissa × 10^-scale``, exact."""

    def build(rows: Sequence[Values]) -> pa.Array:
        lists = [row[mantissas] for row in rows]
        lengths = np.fromiter(map(len, lists), np.int64, len(lists))
        flat = np.fromiter(chain.from_iterable(lists), np.int64, int(lengths.sum()))
        scales = np.repeat(np.array([row[scale] for row in rows], np.int64), lengths)
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), decimals(flat, scales))

    return Column(name=name, fields=(mantissas, scale), build=build)


def nested(name: str, field: str, part: str, arrow_type: pa.DataType) -> Column:
    """One part of a list of nested records, as a list; empty where the record has none."""
    return Column(
        name=name,
        fields=(field,),
        build=lambda rows: pa.array(
            [[item[part] for item in row.get(field) or ()] for row in rows], pa.list_(arrow_type)
        ),
    )


def mapping(name: str, value_type: pa.DataType) -> Column:
    """A map from strings."""
    return Column(
        name=name,
        fields=(name,),
        build=lambda rows: pa.array([sorted(row[name].items()) for row in rows], pa.map_(pa.string(), value_type)),
    )


def decimals(mantissas: NDArray[np.int64], scales: NDArray[np.int64]) -> pa.Array:
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
    return pa.Array.from_buffers(AMOUNT, len(mantissas), [None, pa.py_buffer(words.tobytes())])


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
