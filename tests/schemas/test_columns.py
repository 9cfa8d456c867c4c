"""A batch as columns is what its records are one by one, whatever the bytes; and is written as they are written."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any

import fastavro
import numpy as np
import pytest
from avro_values import damaged, values_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skeet.core.accounts import FundsDeposited
from skeet.core.errors import BugError, DecodeError, InvalidInput, MisplacedRecord, UnknownEvent
from skeet.core.market import BookDelta, Quote, Signal, Tick, Trade
from skeet.core.record import Event, Meta
from skeet.schemas.avro import is_lean
from skeet.schemas.catalogue import EVENT_BY_NAME, EVENTS, committed_schema, full_name
from skeet.schemas.codec import HEADER, MAGIC, Codec, numbered_codec
from skeet.schemas.columns.columns import Columns
from skeet.schemas.columns.decoding import ColumnDecoder
from skeet.schemas.columns.encoding import ColumnEncoder
from skeet.schemas.columns.interning import NO_ID, Texts
from skeet.schemas.golden import sample

CODEC = numbered_codec()
UNKNOWN_ID = 4_711


def examples(count: int) -> settings:
    """The first example of a class compiles its kernels, which takes a second or two."""
    return settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))


def decoder(event_class: type[Event]) -> ColumnDecoder:
    return _decoder(full_name(event_class))


@cache
def _decoder(name: str) -> ColumnDecoder:
    return ColumnDecoder(CODEC, EVENT_BY_NAME[name])


def sound(event_class: type[Event]) -> bytes:
    return CODEC.encode(sample(event_class), None if is_lean(event_class) else sample(Meta))


def by_itself(event_class: type[Event], record: bytes) -> str | InvalidInput:
    """What a single record is: its values as text (which tells NaN, -0.0 and places of decimals), or why it is none."""
    try:
        found, values = CODEC.decode_values(record)
    except (DecodeError, UnknownEvent) as error:
        return error
    if found is not event_class:
        return MisplacedRecord(f"a record of {full_name(found)}; expected {full_name(event_class)}")
    assert CODEC.decode(record)[0] is not None
    return repr(values)


def agrees(event_class: type[Event], records: list[bytes]) -> Columns:
    """The columns of the records, after a look at whether they are what each record is by itself, and are written so."""
    columns = decoder(event_class).decode_records(records)
    found: dict[int, str | InvalidInput] = {each.index: each.error for each in columns.refused}
    found |= {int(index): repr(columns.values(row)) for row, index in enumerate(columns.index)}
    assert list(columns.index) == sorted(columns.index)
    for number, record in enumerate(records):
        expected, got = by_itself(event_class, record), found.pop(number)
        assert (type(got), _text(got)) == (type(expected), _text(expected)), record.hex()
    assert not found
    usual = [CODEC.encode_values(event_class, CODEC.decode_values(records[record])[1]) for record in columns.index]
    assert list(ColumnEncoder(CODEC, event_class).encode(columns)) == usual
    return columns


def _text(found: object) -> str:
    """Without addresses of objects, which fastavro's messages have."""
    return re.sub(r"0x[0-9a-f]+", "0x…", str(found))


@pytest.mark.parametrize("event_class", EVENTS, ids=full_name)
def test_columns_of_any_values_are_what_fastavro_reads_and_writes(event_class: type[Event]) -> None:
    @examples(15)
    @given(st.lists(values_of(event_class), max_size=4))
    def check(values: list[dict[str, Any]]) -> None:
        records = [CODEC.encode_values(event_class, each) for each in values]
        columns = agrees(event_class, records)
        assert len(columns) == len(records)

    check()


DAMAGED = (*(each for each in EVENTS if is_lean(each)), FundsDeposited)


@pytest.mark.parametrize("event_class", DAMAGED, ids=full_name)
def test_damaged_records_are_what_they_are_one_by_one(event_class: type[Event]) -> None:
    @examples(60)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        whole = CODEC.encode_values(event_class, data.draw(values_of(event_class)))
        records = st.one_of(damaged(whole), damaged(whole), st.just(whole), st.binary(max_size=80))
        agrees(event_class, data.draw(st.lists(records, min_size=1, max_size=4)))

    check()


@pytest.mark.parametrize("event_class", DAMAGED, ids=full_name)
def test_every_truncation_and_every_byte_changed(event_class: type[Event]) -> None:
    record = sound(event_class)
    cut = [record[:end] for end in range(len(record))]
    changed = [
        record[:at] + bytes([record[at] ^ flip]) + record[at + 1 :] for at in range(len(record)) for flip in (1, 128)
    ]
    agrees(event_class, [*cut, *changed, record])


def test_bytes_left_over_are_refused_and_the_rest_goes_on() -> None:
    record = sound(Trade)
    columns = agrees(Trade, [record, record + b"\0", record])
    assert list(columns.index) == [0, 2]
    assert "left over" in str(columns.refused[0].error)


def test_a_record_of_another_schema_is_not_read_with_this_one() -> None:
    quote = sound(Quote)
    of_nobody = HEADER.pack(MAGIC, UNKNOWN_ID) + sound(Trade)[HEADER.size :]
    columns = agrees(Trade, [quote, sound(Trade), of_nobody, b"\1" + sound(Trade)[1:]])
    assert [type(each.error) for each in columns.refused] == [MisplacedRecord, DecodeError, DecodeError]
    assert list(columns.index) == [1]


def of_version(schema: dict[str, Any], values: dict[str, Any]) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), values)
    return HEADER.pack(MAGIC, UNKNOWN_ID) + body.getvalue()


def test_a_newer_versions_record_lands_in_the_columns_between_the_others() -> None:
    newer = json.loads(json.dumps(committed_schema(Trade)).replace('"SELL"', '"SELL", "SHORT"'))
    newer["fields"].insert(0, {"name": "mood", "type": "string", "default": ""})
    codec = Codec({Trade: 1}, lambda _: newer)
    ours = codec.encode(sample(Trade))
    values = codec.decode_values(ours)[1] | {"mood": "calm", "trade_id": "é-7", "aggressor_side": "SHORT"}
    columns = ColumnDecoder(codec, Trade).decode_records([ours, of_version(newer, values), ours])
    assert list(columns.texts("trade_id")) == ["x/é/1", "é-7", "x/é/1"]
    assert list(columns.symbols("aggressor_side")) == [2, 0, 2]
    assert columns.refused == ()


def test_another_versions_value_that_ours_cannot_hold_is_refused() -> None:
    finer = json.loads(json.dumps(committed_schema(FundsDeposited)).replace('"scale": 18', '"scale": 20'))
    codec = Codec({FundsDeposited: 1}, lambda _: finer)
    values = codec.decode_values(codec.encode(sample(FundsDeposited), sample(Meta)))[1]
    values |= {"amount": Decimal("1e-20"), "postings": []}
    columns = ColumnDecoder(codec, FundsDeposited).decode_records([of_version(finer, values)])
    assert [type(each.error) for each in columns.refused] == [DecodeError]


def frame(event_class: type[Event], body: bytes) -> bytes:
    return HEADER.pack(MAGIC, CODEC.schema_id(event_class)) + body


UNUSUAL: dict[str, Callable[[], tuple[type[Event], bytes]]] = {
    "a varint with needless bytes": lambda: (Tick, frame(Tick, b"\x82\x80\x80\x00")),
    "a varint of eleven bytes": lambda: (Tick, frame(Tick, b"\x80" * 10 + b"\x00")),
    "a varint of more than 64 bits": lambda: (Tick, frame(Tick, b"\xff" * 9 + b"\x7f")),
    "a list in two blocks": lambda: (BookDelta, book_with(b"\x02\x0e\x02\x10\x00")),
    "a list in a block with its size": lambda: (BookDelta, book_with(b"\x03\x04\x0e\x10\x00")),
    "more items than bytes": lambda: (BookDelta, book_with(b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f\x00")),
    "a key twice": lambda: (Signal, signal_with(b"\x04\x02k\x02a\x02k\x02b\x00")),
    "more keys than are compared": lambda: (
        Signal, signal_with(b"\x90\x03" + b"".join(b"\x06%03d\x00" % n for n in range(200)) + b"\x00"),
    ),
    "a decimal with needless bytes": lambda: (FundsDeposited, deposit_with(b"\x2c" + b"\0" * 21 + b"\x07")),
    "a negative decimal with needless bytes": lambda: (FundsDeposited, deposit_with(b"\x28" + b"\xff" * 20)),
    "a decimal of no bytes": lambda: (FundsDeposited, deposit_with(b"\x00")),
    "a decimal of 39 digits": lambda: (FundsDeposited, deposit_with(b"\x20" + (10**38).to_bytes(16, "big"))),
}  # fmt: skip


def book_with(prices: bytes) -> bytes:
    book = dataclasses.replace(sample(BookDelta), bid_prices=(7, 8))
    return CODEC.encode(book).replace(b"\x04\x0e\x10\x00", prices)


def signal_with(parameters: bytes) -> bytes:
    signal = dataclasses.replace(sample(Signal), parameters={"here": "here"})
    return CODEC.encode(signal).replace(b"\x02\x08here\x08here\x00", parameters)


def deposit_with(amount: bytes) -> bytes:
    deposit = FundsDeposited(asset="BTC", amount=Decimal(1), external_ref="r", postings=())
    one = b"\x10" + (10**18).to_bytes(8, "big")
    return CODEC.encode(deposit, sample(Meta)).replace(one, amount)


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_forms_are_what_the_codec_makes_of_them(name: str) -> None:
    event_class, record = UNUSUAL[name]()
    agrees(event_class, [sound(event_class), record, sound(event_class)])


def test_a_record_without_a_value_is_refused() -> None:
    record = np.frombuffer(sound(Tick), np.uint8)
    columns = decoder(Tick).decode(record, np.array([0, 0]), np.array([-1, len(record)]))
    assert [each.index for each in columns.refused] == [0]
    assert list(columns.index) == [1]


def test_a_record_outside_of_the_buffer_is_our_mistake() -> None:
    record = np.frombuffer(sound(Tick), np.uint8)
    for start, length in ((1, len(record)), (-1, 3), (2**62, 1), (0, len(record) + 1)):
        with pytest.raises(BugError):
            decoder(Tick).decode(record, np.array([start]), np.array([length]))


def trade(instrument_id: str, trade_id: str) -> bytes:
    return CODEC.encode(dataclasses.replace(sample(Trade), instrument_id=instrument_id, trade_id=trade_id))


def test_ids_stay_the_same_across_batches_and_decoders_that_share_a_table() -> None:
    known: dict[str, Texts] = {}
    trades, quotes = ColumnDecoder(CODEC, Trade, known), ColumnDecoder(CODEC, Quote, known)
    first = trades.decode_records([trade("a", "1"), trade("b", "2"), trade("a", "3")]).texts("instrument_id").ids
    quote = CODEC.encode(dataclasses.replace(sample(Quote), instrument_id="b"))
    second = quotes.decode_records([quote]).texts("instrument_id").ids
    assert first is not None
    assert second is not None
    assert (list(first), list(second)) == ([0, 1, 0], [1])
    assert known["instrument_id"].all() == ["a", "b"]


def test_a_full_table_gives_no_more_ids_and_the_texts_are_there_all_the_same() -> None:
    names = [f"x{number}" for number in range(9)]
    reader = ColumnDecoder(CODEC, Trade, {"instrument_id": Texts(max_texts=4)})
    for _ in range(2):
        found = reader.decode_records([trade(name, "1") for name in names]).texts("instrument_id")
        assert found.ids is not None
        assert list(found.ids) == [0, 1, 2, 3] + [NO_ID] * 5
        assert list(found) == names


def test_texts_that_are_new_on_every_record_do_not_grow_any_table() -> None:
    reader = ColumnDecoder(CODEC, Trade)
    reader.decode_records([trade("a", str(number)) for number in range(500)])
    assert {name: len(table) for name, table in reader.known.items()} == {"instrument_id": 1}


def test_a_long_text_gets_no_id() -> None:
    found = ColumnDecoder(CODEC, Trade).decode_records([trade("y" * 256, "1")]).texts("instrument_id")
    assert found.ids is not None
    assert (list(found.ids), list(found)) == ([NO_ID], ["y" * 256])
