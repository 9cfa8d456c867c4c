"""A topic's records of several classes become columns of each; what belongs to none is refused by its own number."""

from __future__ import annotations

import numpy as np
import pytest

from skeet.core.errors import DecodeError, InvalidInput, MisplacedRecord
from skeet.core.market import BookDelta, BookSnapshot, Tick, Trade
from skeet.core.record import Event
from skeet.schemas.codec import HEADER, MAGIC, Codec, numbered_codec
from skeet.schemas.columns.batches import Batch, BatchDecoder
from skeet.schemas.columns.decoding import ColumnDecoder
from skeet.schemas.golden import sample

CODEC = numbered_codec()
BOOKS: tuple[type[Event], ...] = (BookSnapshot, BookDelta)


def decoded(decoder: BatchDecoder, records: list[bytes]) -> Batch:
    lengths = np.array([len(record) for record in records], np.int64)
    return decoder.decode(b"".join(records), np.cumsum(lengths) - lengths, lengths)


def test_each_class_gets_its_rows_and_the_rest_is_refused() -> None:
    whole, delta, trade = (CODEC.encode(sample(each)) for each in (BookSnapshot, BookDelta, Trade))
    unknown = HEADER.pack(MAGIC, 4_711) + delta[HEADER.size :]
    records = [delta, whole, trade, delta[:-1], whole, b"\0", unknown, delta, b""]
    batch = decoded(BatchDecoder(CODEC, BOOKS), records)
    assert {found: list(columns.index) for found, columns in batch.columns.items()} == {
        BookSnapshot: [1, 4],
        BookDelta: [0, 7],
    }
    assert [(each.index, type(each.error)) for each in batch.refused] == [
        (2, MisplacedRecord),
        (3, DecodeError),
        (5, DecodeError),
        (6, DecodeError),
        (8, DecodeError),
    ]


def test_another_version_is_found_among_the_classes() -> None:
    schema = {
        "type": "record",
        "name": "Tick",
        "namespace": "skeet.market",
        "fields": [{"name": "ts_event", "type": "int"}],
    }
    codec = Codec({Tick: 1, Trade: 2}, lambda _: schema)
    older = HEADER.pack(MAGIC, 9) + b"\x0a"
    batch = decoded(BatchDecoder(codec, (Trade, Tick)), [codec.encode(Tick(ts_event=4)), older])
    assert batch.columns[Tick].longs("ts_event").tolist() == [4, 5]
    assert batch.columns.keys() == {Tick}


def test_ids_mean_the_same_in_all_classes() -> None:
    batch = decoded(BatchDecoder(CODEC, BOOKS), [CODEC.encode(sample(each)) for each in BOOKS])
    ids = [columns.texts("instrument_id").ids for columns in batch.columns.values()]
    assert [each.tolist() for each in ids if each is not None] == [[0], [0]]


def test_a_column_that_is_not_there_or_of_another_kind_is_named() -> None:
    columns = ColumnDecoder(CODEC, Tick).decode_records([CODEC.encode(Tick(ts_event=1))])
    with pytest.raises(InvalidInput, match="'mood' is not long; columns: ts_event"):
        columns.longs("mood")
    with pytest.raises(InvalidInput, match="'ts_event' is not text or bytes"):
        columns.texts("ts_event")
