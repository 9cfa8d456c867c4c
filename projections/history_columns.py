"""Blocks of raw records to Arrow tables by columns: no Python object is made for a row.

What the columns' decoder refuses is decoded by itself, as everything is in :mod:`skeet.projections.history_rows`, and so is
a small block: the rows are equal either way.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from skeet.projections import column_arrays
from skeet.projections.blocks import Block
from skeet.projections.history import TABLE_OF_TOPIC, TABLES, HistoryTable, derived_ids
from skeet.projections.history_rows import (
    UNFIT,
    Insert,
    Unreadable,
    inserts_of,
    positions,
    rows_of,
    with_unreadable,
)
from skeet.schemas.codec import Codec
from skeet.schemas.columns.batches import BatchDecoder
from skeet.schemas.columns.columns import Columns
from skeet.schemas.columns.interning import Texts

COLUMNS_FROM = 64
"""Records in a block from which columns are quicker than records one by one; kernels are compiled for nothing less."""

PREPARED = ("trades", "quotes", "book_updates", "bars", "signals")
"""Tables that get thousands of records as soon as a feed is on."""


class BlockReader:
    """Makes inserts of blocks, of every topic. One thread at a time may use it: its tables of texts grow."""

    def __init__(self, codec: Codec, columns_from: int = COLUMNS_FROM) -> None:
        self._codec = codec
        self._columns_from = columns_from
        self._known: dict[str, Texts] = {}
        self._decoders: dict[str, BatchDecoder] = {}

    def prepare(self) -> None:
        """Compile the kernels of :data:`PREPARED` now, the first time on a machine: records must not wait for that."""
        for table in TABLES:
            if table.name in PREPARED:
                self._decoder(table).prepare()

    def inserts_of(self, block: Block) -> tuple[list[Insert], list[Unreadable]]:
        """What the block inserts: rows of its topic's table in any order, then rows of ``unreadable_records``; and which
        those are.

        Raises
        ------
        InfrastructureError
            the registry, asked for another version's schema, is away.
        """
        if len(block) < self._columns_from:
            return inserts_of(block, self._codec)
        try:
            return self._by_columns(block)
        except UNFIT:
            return inserts_of(block, self._codec)

    def _by_columns(self, block: Block) -> tuple[list[Insert], list[Unreadable]]:
        table = TABLE_OF_TOPIC[block.topic]
        held = block.records
        starts, lengths = np.ascontiguousarray(held.value_starts), np.ascontiguousarray(held.value_lengths)
        batch = self._decoder(table).decode(held.raw, starts, lengths)
        parts = [_rows(block, table, columns) for columns in batch.columns.values()]
        unreadable: list[Unreadable] = []
        if batch.refused or not parts:
            rows, unreadable = rows_of(block, [refused.index for refused in batch.refused], table, self._codec)
            parts.append(rows)
        if len(parts) > 1:
            parts = [_without_dictionaries(part) for part in parts]
        return with_unreadable(block, table, parts, unreadable), unreadable

    def _decoder(self, table: HistoryTable) -> BatchDecoder:
        if table.name not in self._decoders:
            self._decoders[table.name] = BatchDecoder(self._codec, table.topic.events, self._known)
        return self._decoders[table.name]


def _rows(block: Block, table: HistoryTable, columns: Columns) -> pa.Table:
    arrays = positions(block, columns.index)
    made = {"event_type": column_arrays.constant(columns.event_class.__name__, pa.string(), len(columns))}
    if table.derives_id:
        made["event_id"] = pa.array(derived_ids(columns), pa.string())
    for column in table.columns:
        arrays[column.name] = made[column.name] if column.name in made else column.of(columns)
    return pa.table(arrays)


def _without_dictionaries(rows: pa.Table) -> pa.Table:
    """Tables of several classes have the same types."""
    return pa.table({name: column_arrays.plain_text(rows[name].combine_chunks()) for name in rows.column_names})
