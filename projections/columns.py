"""Columns of history tables: which fields each holds, and how it is made, exactly, in two ways with one result.

``build`` makes it of records that were decoded one by one, ``of`` of decoded columns (:mod:`skeet.projections.column_arrays`).
Market prices and sizes leave their integer mantissa and scale as ``decimal128(38, 18)`` by 128-bit integer arithmetic on
whole columns; amounts are decimals on the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from skeet.projections import column_arrays
from skeet.projections.column_arrays import AMOUNT, INSTANT, decimals
from skeet.schemas.columns.columns import Columns

Values = Mapping[str, Any]
"""One decoded record: its fields by name, enumerations as their symbols."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a history table: its name, the record fields it holds, and how to make it of records or columns."""

    name: str
    fields: tuple[str, ...]
    build: Callable[[Sequence[Values]], pa.Array]
    of: Callable[[Columns], pa.Array]


def text(name: str, field: str = "") -> Column:
    """A string; empty where the record has none."""
    field = field or name
    return Column(
        name=name,
        fields=(field,),
        build=lambda rows: pa.array([row.get(field) or "" for row in rows], pa.string()),
        of=lambda rows: column_arrays.texts(rows, field),
    )


def plain(name: str, arrow_type: pa.DataType, field: str = "", default: Any = None) -> Column:
    """A value that Arrow takes as it is; ``default`` where the record has no such field."""
    field = field or name
    return Column(
        name=name,
        fields=(field,),
        build=lambda rows: pa.array([row.get(field, default) for row in rows], arrow_type),
        of=lambda rows: column_arrays.values(rows, field, arrow_type, default),
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
        of=lambda rows: column_arrays.instants(rows, field),
    )


def optional_instant(name: str, field: str = "") -> Column:
    """Nanoseconds since the epoch; null where the record has none, or 0, which means none."""
    field = field or name
    return Column(
        name=name,
        fields=(field,),
        build=lambda rows: pa.array([row.get(field) or None for row in rows], pa.int64()).cast(INSTANT),
        of=lambda rows: column_arrays.optional_instants(rows, field),
    )


def scaled(name: str, mantissa: str, scale: str) -> Column:
    """``mantissa × 10^-scale``, exact."""

    def build(rows: Sequence[Values]) -> pa.Array:
        mantissas = np.array([row[mantissa] for row in rows], np.int64)
        return decimals(mantissas, np.array([row[scale] for row in rows], np.int64))

    return Column(
        name=name,
        fields=(mantissa, scale),
        build=build,
        of=lambda rows: column_arrays.scaled(rows, mantissa, scale),
    )


def scaled_list(name: str, mantissas: str, scale: str) -> Column:
    """A list of ``mantissa × 10^-scale``, exact."""

    def build(rows: Sequence[Values]) -> pa.Array:
        lists = [row[mantissas] for row in rows]
        lengths = np.fromiter(map(len, lists), np.int64, len(lists))
        flat = np.fromiter(chain.from_iterable(lists), np.int64, int(lengths.sum()))
        scales = np.repeat(np.array([row[scale] for row in rows], np.int64), lengths)
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), decimals(flat, scales))

    return Column(
        name=name,
        fields=(mantissas, scale),
        build=build,
        of=lambda rows: column_arrays.scaled_lists(rows, mantissas, scale),
    )


def nested(name: str, field: str, part: str, arrow_type: pa.DataType) -> Column:
    """One part of a list of nested records, as a list; empty where the record has none."""
    return Column(
        name=name,
        fields=(field,),
        build=lambda rows: pa.array(
            [[item[part] for item in row.get(field) or ()] for row in rows], pa.list_(arrow_type)
        ),
        of=lambda rows: column_arrays.nested(rows, field, part, arrow_type),
    )


def mapping(name: str, value_type: pa.DataType) -> Column:
    """A map from strings."""
    return Column(
        name=name,
        fields=(name,),
        build=lambda rows: pa.array([sorted(row[name].items()) for row in rows], pa.map_(pa.string(), value_type)),
        of=lambda rows: column_arrays.mappings(rows, name, value_type),
    )
