"""Blocks by columns make the rows that records one by one make: of every history topic, whatever is in the block."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyarrow as pa
import pytest
from avro_values import damaged, values_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skeet.core.market import BookSnapshot, Quote, Signal, Trade
from skeet.core.record import Event, Meta
from skeet.projections import history_columns
from skeet.projections.blocks import Block
from skeet.projections.history import TABLES, HistoryTable
from skeet.projections.history_columns import BlockReader
from skeet.projections.history_rows import Insert, inserts_of
from skeet.projections.records import StoredRecord
from skeet.schemas.avro import is_lean
from skeet.schemas.codec import HEADER, MAGIC, numbered_codec
from skeet.schemas.columns.interning import Texts
from skeet.schemas.golden import sample
from skeet.streams import topics

CODEC = numbered_codec()


def block_of(topic: str, records: list[bytes]) -> Block:
    return Block.of(
        topic, 3, [StoredRecord(2 * n, 1_760_000_000_000 + n, b"k", record) for n, record in enumerate(records)]
    )


def plain(inserts: list[Insert]) -> dict[str, tuple[list[str], list[str]]]:
    """Tables by name: types without dictionaries, and rows in order of their offsets; doubles by their digits, NaN included."""
    found = {}
    for insert in inserts:
        insert.rows.validate(full=True)
        arrays = {name: insert.rows[name].combine_chunks() for name in insert.rows.column_names}
        arrays = {n: a.dictionary_decode() if isinstance(a, pa.DictionaryArray) else a for n, a in arrays.items()}
        rows = pa.table(arrays).to_pylist()
        found[insert.table] = (
            [f"{name} {array.type}" for name, array in arrays.items()],
            [repr(row) for row in sorted(rows, key=lambda row: row["log_offset"])],
        )
    return found


def assert_equal_both_ways(reader: BlockReader, block: Block) -> None:
    by_columns, refused = reader.inserts_of(block)
    one_by_one, unreadable = inserts_of(block, CODEC)
    assert plain(by_columns) == plain(one_by_one)
    assert sorted(map(repr, refused)) == sorted(map(repr, unreadable))


def event_values(event_class: type[Event]) -> st.SearchStrategy[dict[str, Any]]:
    """Values that fit the tables, mostly: scales are scales."""
    scales = {f.name for f in dataclasses.fields(event_class) if f.name in ("price_scale", "size_scale")}
    return st.tuples(values_of(event_class), st.integers(0, 18)).map(
        lambda drawn: drawn[0] | dict.fromkeys(scales, drawn[1])
    )


def event_records(event_class: type[Event]) -> st.SearchStrategy[bytes]:
    return event_values(event_class).map(lambda values: CODEC.encode_values(event_class, values))


@st.composite
def records_of(draw: st.DrawFn, table: HistoryTable) -> list[bytes]:
    classes = draw(st.lists(st.sampled_from(table.topic.events), min_size=1, max_size=2))
    records = draw(st.lists(st.one_of(*map(event_records, classes)), min_size=1, max_size=6))
    return [draw(damaged(record)) if draw(st.integers(0, 9)) == 0 else record for record in records]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_rows_by_columns_equal_those_of_records_one_by_one(table: HistoryTable) -> None:
    reader = BlockReader(CODEC, columns_from=1)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(records_of(table))
    def check(records: list[bytes]) -> None:
        assert_equal_both_ways(reader, block_of(table.topic.name, records))

    check()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_class_goes_by_columns_and_nothing_falls_back(
    table: HistoryTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples: list[Any] = [sample(event) for event in table.topic.events]
    scales = {"price_scale": 2, "size_scale": 3}
    events = [dataclasses.replace(e, **{k: v for k, v in scales.items() if hasattr(e, k)}) for e in samples]
    records = [CODEC.encode(event, None if is_lean(type(event)) else sample(Meta)) for event in events]
    one_by_one = plain(inserts_of(block_of(table.topic.name, records), CODEC)[0])
    for name in ("inserts_of", "rows_of"):
        monkeypatch.setattr(history_columns, name, None)
    assert plain(BlockReader(CODEC, columns_from=1).inserts_of(block_of(table.topic.name, records))[0]) == one_by_one


def test_prepared_tables_need_no_kernel_when_their_records_come(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = BlockReader(CODEC, columns_from=1)
    reader.prepare()
    monkeypatch.setattr("skeet.schemas.columns.batches.ColumnDecoder", lambda *_: pytest.fail("made only now"))
    for table in (table for table in TABLES if table.name in history_columns.PREPARED):
        (event, *_) = table.topic.events
        value = dataclasses.replace(sample(event), **{"price_scale": 2} if hasattr(event, "price_scale") else {})
        block = block_of(table.topic.name, [CODEC.encode(value, None if is_lean(event) else sample(Meta))])
        assert reader.inserts_of(block)


def test_what_is_no_record_of_the_topic_is_kept_and_the_rest_goes_by_columns() -> None:
    quote: Any = dataclasses.replace(sample(Quote), price_scale=2, size_scale=2)
    good = CODEC.encode(quote)
    records = [good, b"", good[:-1], CODEC.encode(sample(Trade)), HEADER.pack(MAGIC, 4_711) + b"x", good]
    block = block_of(topics.MARKET_QUOTES.name, records)
    inserts, unreadable = BlockReader(CODEC, columns_from=1).inserts_of(block)
    assert {insert.table: insert.rows.num_rows for insert in inserts} == {"quotes": 2, "unreadable_records": 4}
    assert [entry.record.offset for entry in unreadable] == [2, 4, 6, 8]
    assert_equal_both_ways(BlockReader(CODEC, columns_from=1), block)


def test_a_scale_that_no_column_takes_costs_its_record_alone() -> None:
    records = [CODEC.encode(dataclasses.replace(trade(n), price_scale=2 + 17 * (n == 1))) for n in range(3)]
    inserts, unreadable = BlockReader(CODEC, columns_from=1).inserts_of(block_of(topics.MARKET_TRADES.name, records))
    assert {insert.table: insert.rows.num_rows for insert in inserts} == {"trades": 2, "unreadable_records": 1}
    assert "19" in unreadable[0].cause


def test_a_block_of_only_unreadable_records_has_no_rows() -> None:
    inserts, unreadable = BlockReader(CODEC, columns_from=1).inserts_of(
        block_of(topics.MARKET_TRADES.name, [b"x", b""])
    )
    assert ([insert.table for insert in inserts], len(unreadable)) == (["unreadable_records"], 2)


def test_texts_without_a_place_in_the_full_table_are_stored_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skeet.schemas.columns.decoding.Texts", lambda: Texts(max_texts=2))
    signals: list[Any] = [
        dataclasses.replace(sample(Signal), instrument_id=f"SIM:{n}/USDT", values={f"k{n % 7}": 1.0, "a": float(n)})
        for n in range(9)
    ]
    assert_equal_both_ways(
        BlockReader(CODEC, columns_from=1), block_of(topics.SIGNALS.name, [CODEC.encode(signal) for signal in signals])
    )


def test_a_small_block_needs_no_kernel() -> None:
    reader = BlockReader(CODEC, columns_from=3)
    snapshot: Any = dataclasses.replace(sample(BookSnapshot), price_scale=2, size_scale=2)
    assert_equal_both_ways(reader, block_of(topics.MARKET_BOOKS.name, [CODEC.encode(snapshot)] * 2))
    assert not reader._decoders


def trade(number: int) -> Any:
    return dataclasses.replace(sample(Trade), trade_id=str(number), price_scale=2, size_scale=2)
