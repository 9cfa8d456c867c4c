"""Blocks of raw records to Arrow tables. Pure; a record that cannot be read becomes a row of ``unreadable_records``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from skeet.core.errors import InvalidInput
from skeet.projections.blocks import Block, StoredRecord
from skeet.projections.columns import Column, Values
from skeet.projections.history import TABLE_OF_TOPIC, UNREADABLE, HistoryTable, derived_id
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
    read: list[StoredRecord] = []
    values: list[dict[str, Any]] = []
    unreadable: list[Unreadable] = []
    for record in block.records:
        try:
            values.append(_values(codec, table, record))
            read.append(record)
        except InvalidInput as error:
            unreadable.append(Unreadable(record=record, cause=str(error)))
    try:
        inserts = [Insert(table=table.name, rows=_rows(block, read, values, table.columns))] if read else []
    except UNFIT:
        return _row_by_row(block, codec)
    if unreadable:
        inserts.append(Insert(table=UNREADABLE, rows=_unreadable_rows(block, unreadable)))
    return inserts, unreadable


def _row_by_row(block: Block, codec: Codec) -> tuple[list[Insert], list[Unreadable]]:
    """A block of which one readable record fits no column (a scale beyond 18 places): find it, keep the rest."""
    table = TABLE_OF_TOPIC[block.topic]
    good: list[pa.Table] = []
    unreadable: list[Unreadable] = []
    for record in block.records:
        try:
            good.append(_rows(block, [record], [_values(codec, table, record)], table.columns))
        except (InvalidInput, *UNFIT) as error:
            unreadable.append(Unreadable(record=record, cause=f"{type(error).__name__}: {error}"))
    inserts = [Insert(table=table.name, rows=pa.concat_tables(good).combine_chunks())] if good else []
    if unreadable:
        inserts.append(Insert(table=UNREADABLE, rows=_unreadable_rows(block, unreadable)))
    return inserts, unreadable


def _values(codec: Codec, table: HistoryTable, record: StoredRecord) -> dict[str, Any]:
    event_class, values = codec.decode_values(record.value)
    if event_class not in table.topic.events:
        raise InvalidInput(f"{event_class.__name__} does not belong into {table.topic.name}")
    if table.derives_id:
        values["event_id"] = derived_id(event_class, values)
    values["event_type"] = event_class.__name__
    return values


def _rows(
    block: Block, records: Sequence[StoredRecord], values: Sequence[Values], columns: Sequence[Column]
) -> pa.Table:
    arrays = _positions(block.partition, records)
    arrays.update((column.name, column.build(values)) for column in columns)
    return pa.table(arrays)


def _positions(partition: int, records: Sequence[StoredRecord]) -> dict[str, pa.Array]:
    return {
        "log_partition": pa.array(np.full(len(records), partition, np.uint16)),
        "log_offset": pa.array(np.array([record.offset for record in records], np.uint64)),
        "log_ts": pa.array(np.array([record.log_ms for record in records], np.int64)).cast(
            pa.timestamp("ms", tz="UTC")
        ),
        "record_crc": pa.array(np.array([record.crc for record in records], np.uint32)),
    }


def _unreadable_rows(block: Block, unreadable: Sequence[Unreadable]) -> pa.Table:
    arrays = _positions(block.partition, [entry.record for entry in unreadable])
    arrays["log_topic"] = pa.array([block.topic] * len(unreadable), pa.string())
    arrays["record_key"] = pa.array([entry.record.key for entry in unreadable], pa.binary())
    arrays["record_value"] = pa.array([entry.record.value for entry in unreadable], pa.binary())
    arrays["cause"] = pa.array([entry.cause for entry in unreadable], pa.string())
    return pa.table(arrays)
