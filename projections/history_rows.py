"""Blocks of raw records to Arrow tables. Pure; a record that cannot be read becomes a row of ``unreadable_records``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skeet.core.errors import InvalidInput
from skeet.projections.blocks import Block
from skeet.projections.history import TABLE_OF_TOPIC, UNREADABLE, HistoryTable, derived_id
from skeet.projections.records import StoredRecord
from skeet.schemas.codec import Codec

UNFIT = (ValueError, KeyError, TypeError, ArithmeticError, pa.ArrowException)
"""What a value that fits no column raises: a scale beyond 18 places, a time or a number out of range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Insert:
    """Rows for one table, in order of their offsets."""

    table: str
    rows: pa.Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A record that is kept as bytes, with the reason."""

    record: StoredRecord
    cause: str


def inserts_of(block: Block, codec: Codec) -> tuple[list[Insert], list[Unreadable]]:
    """What the block inserts: rows of its topic's table, then rows of ``unreadable_records``; and which those are."""
    table = TABLE_OF_TOPIC[block.topic]
    try:
        rows, unreadable = rows_of(block, range(len(block)), table, codec)
    except UNFIT:
        return row_by_row(block, codec)
    return with_unreadable(block, table, [rows], unreadable), unreadable


def rows_of(
    block: Block, numbers: Iterable[int], table: HistoryTable, codec: Codec
) -> tuple[pa.Table, list[Unreadable]]:
    """Rows of the block's records with these numbers, decoded one by one, and those that cannot be.

    Raises
    ------
    UNFIT
        a value fits no column.
    """
    read: list[int] = []
    values: list[dict[str, Any]] = []
    unreadable: list[Unreadable] = []
    for number in numbers:
        try:
            values.append(_values(codec, table, block.records.value(number)))
            read.append(number)
        except InvalidInput as error:
            unreadable.append(Unreadable(record=block.records.record(number), cause=str(error)))
    arrays = positions(block, read)
    arrays.update((column.name, column.build(values)) for column in table.columns)
    return pa.table(arrays), unreadable


def with_unreadable(
    block: Block, table: HistoryTable, parts: list[pa.Table], unreadable: Sequence[Unreadable]
) -> list[Insert]:
    """The inserts of these rows, each as one: a block is all or nothing."""
    rows = pa.concat_tables(parts).combine_chunks() if len(parts) > 1 else parts[0]
    inserts = [Insert(table=table.name, rows=rows)] if rows.num_rows else []
    if unreadable:
        inserts.append(Insert(table=UNREADABLE, rows=_unreadable_rows(block, unreadable)))
    return inserts


def row_by_row(block: Block, codec: Codec) -> tuple[list[Insert], list[Unreadable]]:
    """A block of which one readable record fits no column (a scale beyond 18 places): find it, keep the rest."""
    table = TABLE_OF_TOPIC[block.topic]
    good: list[pa.Table] = [rows_of(block, (), table, codec)[0]]
    unreadable: list[Unreadable] = []
    for number in range(len(block)):
        try:
            rows, found = rows_of(block, (number,), table, codec)
            good.append(rows)
            unreadable += found
        except UNFIT as error:
            unreadable.append(Unreadable(record=block.records.record(number), cause=f"{type(error).__name__}: {error}"))
    return with_unreadable(block, table, good, unreadable), unreadable


def _values(codec: Codec, table: HistoryTable, record: bytes) -> dict[str, Any]:
    event_class, values = codec.decode_values(record)
    if event_class not in table.topic.events:
        raise InvalidInput(f"{event_class.__name__} does not belong into {table.topic.name}")
    if table.derives_id:
        values["event_id"] = derived_id(event_class, values)
    values["event_type"] = event_class.__name__
    return values


def positions(block: Block, numbers: Sequence[int] | NDArray[np.int64]) -> dict[str, pa.Array]:
    """Where the block's records with these numbers stand in the log, as every table begins."""
    chosen = np.asarray(numbers, np.int64)
    log_ms = pa.array(block.records.log_ms[chosen])
    return {
        "log_partition": pa.array(np.full(len(chosen), block.partition, np.uint16)),
        "log_offset": pa.array(block.records.offsets[chosen].view(np.uint64)),
        "log_ts": log_ms.cast(pa.timestamp("ms", tz="UTC")),
        "record_crc": pa.array(block.records.crcs[chosen]),
    }


def _unreadable_rows(block: Block, unreadable: Sequence[Unreadable]) -> pa.Table:
    arrays = positions(block, np.searchsorted(block.records.offsets, [entry.record.offset for entry in unreadable]))
    arrays["log_topic"] = pa.array([block.topic] * len(unreadable), pa.string())
    arrays["record_key"] = pa.array([entry.record.key for entry in unreadable], pa.binary())
    arrays["record_value"] = pa.array([entry.record.value for entry in unreadable], pa.binary())
    arrays["cause"] = pa.array([entry.cause for entry in unreadable], pa.string())
    return pa.table(arrays)
