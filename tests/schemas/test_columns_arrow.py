"""Columns handed to stores as Arrow hold what the records hold."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from avro_values import values_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skeet.core.accounts import FundsDeposited
from skeet.core.commands import SubmitOrder
from skeet.core.market import Bar, BookDelta, RawFrame, Signal, Trade
from skeet.core.record import Event
from skeet.schemas.catalogue import full_name
from skeet.schemas.codec import numbered_codec
from skeet.schemas.columns.arrow import arrow_of
from skeet.schemas.columns.building import columns_of
from skeet.schemas.columns.decoding import ColumnDecoder
from skeet.schemas.columns.interning import Texts
from skeet.schemas.golden import sample

CODEC = numbered_codec()
KINDS: tuple[type[Event], ...] = (Trade, BookDelta, RawFrame, Bar, Signal, SubmitOrder, FundsDeposited)


@pytest.mark.parametrize("event_class", KINDS, ids=full_name)
def test_arrow_holds_what_the_records_hold(event_class: type[Event]) -> None:
    decoder = ColumnDecoder(CODEC, event_class)

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(values_of(event_class), max_size=4))
    def check(values: list[dict[str, Any]]) -> None:
        columns = decoder.decode_records([CODEC.encode_values(event_class, each) for each in values])
        batch = arrow_of(columns)
        batch.validate(full=True)
        assert repr(batch.to_pylist(maps_as_pydicts="strict")) == repr([columns.values(r) for r in range(len(columns))])

    check()


def test_keyed_texts_and_symbols_are_dictionaries() -> None:
    batch = arrow_of(ColumnDecoder(CODEC, Trade).decode_records([CODEC.encode(sample(Trade))]))
    assert [pa.types.is_dictionary(batch.schema.field(name).type) for name in batch.schema.names] == [
        name in ("instrument_id", "aggressor_side") for name in batch.schema.names
    ]


def test_texts_without_an_id_are_plain_strings() -> None:
    decoder = ColumnDecoder(CODEC, Trade, {"instrument_id": Texts(max_texts=0)})
    batch = arrow_of(decoder.decode_records([CODEC.encode(sample(Trade))]))
    assert batch.column("instrument_id").to_pylist() == ["x/é/1"]


def test_columns_made_of_values_are_arrow_too() -> None:
    one = sample(Trade)
    columns = columns_of(Trade, 2, {name: getattr(one, name) for name in one.__dataclass_fields__})
    assert arrow_of(columns).column("trade_id").to_pylist() == ["x/é/1"] * 2
