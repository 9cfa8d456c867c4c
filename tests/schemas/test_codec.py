"""The codec gives back what it was given, and nothing but our two errors whatever the bytes."""

from __future__ import annotations

import io
import json
import time
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skeet.core.accounts import FundsDeposited, LedgerAccount, Posting
from skeet.core.commands import SubmitOrder
from skeet.core.errors import DecodeError, InvalidInput, UnknownEvent
from skeet.core.market import BookDelta, Tick
from skeet.core.record import Event, Meta
from skeet.core.values import Side
from skeet.schemas.avro import is_lean
from skeet.schemas.catalogue import EVENTS, committed_schema, full_name
from skeet.schemas.codec import Codec, numbered_codec
from skeet.schemas.golden import sample

CODEC = numbered_codec()
META: Meta = sample(Meta)


@pytest.mark.parametrize("event_class", EVENTS, ids=full_name)
def test_every_event_survives_the_wire(event_class: type[Event]) -> None:
    event, meta = sample(event_class), None if is_lean(event_class) else META
    assert CODEC.decode(CODEC.encode(event, meta)) == (event, meta)


amounts = st.decimals(min_value=Decimal("-1e19"), max_value=Decimal("1e19"), places=18)


@given(amounts)
def test_amounts_are_exact(amount: Decimal) -> None:
    posting = Posting(ledger=LedgerAccount.FREE, asset="BTC", amount=amount, book_id="b")
    event = FundsDeposited(asset="BTC", amount=amount, external_ref="r", postings=(posting,))
    assert CODEC.decode(CODEC.encode(event, META)) == (event, META)


levels = st.lists(st.integers(min_value=-(2**63), max_value=2**63 - 1), max_size=50).map(tuple)


@given(levels, levels)
def test_books_of_any_size_survive(prices: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    delta = BookDelta(
        instrument_id="SIM:BTC/USDT",
        ts_event=1,
        ts_init=2,
        first_update_id=1,
        last_update_id=2,
        bid_prices=prices,
        bid_sizes=sizes,
        ask_prices=sizes,
        ask_sizes=prices,
        price_scale=8,
        size_scale=8,
    )
    assert CODEC.decode(CODEC.encode(delta)) == (delta, None)


@given(st.binary(max_size=200))
def test_random_bytes_raise_only_our_errors(noise: bytes) -> None:
    with pytest.raises((DecodeError, UnknownEvent)):
        CODEC.decode(b"\x07" + noise)


@given(st.sampled_from(EVENTS), st.data())
def test_mutated_records_raise_only_our_errors_or_decode(event_class: type[Event], data: st.DataObject) -> None:
    record = bytearray(CODEC.encode(sample(event_class), None if is_lean(event_class) else META))
    for _ in range(data.draw(st.integers(1, 4))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    try:
        CODEC.decode(bytes(record[: data.draw(st.integers(0, len(record)))]))
    except (DecodeError, UnknownEvent):
        pass


def test_a_truncated_record_is_an_error() -> None:
    record = CODEC.encode(Tick(ts_event=2**60))
    with pytest.raises(DecodeError):
        CODEC.decode(record[:-1])


@pytest.mark.parametrize("event_class", EVENTS, ids=full_name)
def test_the_cause_of_a_cut_record_is_the_same_at_every_reading(event_class: type[Event]) -> None:
    """Dead letters and the history keep causes: a replay must write the same bytes, so no place in memory is in them."""
    record = CODEC.encode(sample(event_class), None if is_lean(event_class) else META)
    for length in range(len(record)):
        with pytest.raises(DecodeError) as caught:
            CODEC.decode(record[:length])
        assert " at 0x" not in str(caught.value)


def test_bytes_after_the_record_are_an_error() -> None:
    with pytest.raises(DecodeError, match="left over"):
        CODEC.decode(CODEC.encode(Tick(ts_event=1)) + b"\x00")


def test_an_unknown_schema_id_is_named() -> None:
    with pytest.raises(DecodeError, match="4711"):
        Codec({Tick: 1}).decode(b"\x00" + (4711).to_bytes(4, "big") + b"\x02")


def test_more_than_18_places_cannot_be_written() -> None:
    event = FundsDeposited(asset="BTC", amount=Decimal("1e-19"), external_ref="r", postings=())
    with pytest.raises(InvalidInput, match="FundsDeposited"):
        CODEC.encode(event, META)


def test_a_full_event_needs_its_envelope() -> None:
    event = FundsDeposited(asset="BTC", amount=Decimal(1), external_ref="r", postings=())
    with pytest.raises(InvalidInput, match="full"):
        CODEC.encode(event, None)


def test_a_registered_schema_of_another_event_is_an_unknown_event_of_a_newer_version() -> None:
    newer = Codec({Tick: 1}, lambda _: {"type": "record", "name": "Tock", "namespace": "skeet.market", "fields": []})
    with pytest.raises(UnknownEvent, match=r"skeet\.market\.Tock"):
        newer.decode(b"\x00" + (7).to_bytes(4, "big") + b"\x02")


def test_a_field_that_a_newer_version_added_is_passed_over() -> None:
    newer = committed_schema(Tick)
    newer["fields"] = [*newer["fields"], {"name": "mood", "type": "string", "default": ""}]
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(newer), {"ts_event": 5, "mood": "calm"})
    decoded, _ = Codec({Tick: 1}, lambda _: newer).decode(b"\x00" + (7).to_bytes(4, "big") + body.getvalue())
    assert decoded == Tick(ts_event=5)


def test_a_symbol_that_a_newer_version_added_reads_as_unknown() -> None:
    newer = json.loads(json.dumps(committed_schema(SubmitOrder)).replace('"SELL"', '"SELL", "SHORT"'))
    body = io.BytesIO()
    values = CODEC.decode_values(CODEC.encode(sample(SubmitOrder), META))[1] | {"side": "SHORT"}
    fastavro.schemaless_writer(body, fastavro.parse_schema(newer), values)
    codec = Codec({SubmitOrder: 1}, lambda _: newer)
    decoded, _ = codec.decode(b"\x00" + (7).to_bytes(4, "big") + body.getvalue())
    assert isinstance(decoded, SubmitOrder)
    assert decoded.side is Side.UNKNOWN


@pytest.mark.parametrize("items", ["null", {"type": "record", "name": "Nothing", "fields": []}])
def test_a_schema_whose_lists_could_have_any_length_is_refused(items: Any) -> None:
    schema = committed_schema(Tick)
    schema["fields"] = [*schema["fields"], {"name": "bomb", "type": {"type": "array", "items": items}, "default": []}]
    with pytest.raises(DecodeError, match="no bytes"):
        Codec({Tick: 1}, lambda _: schema).decode(b"\x00" + (7).to_bytes(4, "big") + b"\x02\xfe\xff\xff\xff\x1f")


def test_a_decimal_of_a_whole_record_is_refused_at_once() -> None:
    event = FundsDeposited(asset="BTC", amount=Decimal(1), external_ref="r", postings=())
    record = CODEC.encode(event, META)
    one = b"\x10" + (10**18).to_bytes(8, "big")
    assert one in record
    length = 900_000
    huge = record.replace(one, _avro_long(length) + b"\x7f" * length)
    began = time.monotonic()
    with pytest.raises(DecodeError, match="38 digits"):
        CODEC.decode(huge)
    assert time.monotonic() - began < 1.0  # fastavro's own reader took 87 s


@pytest.mark.parametrize("unscaled", [10**38, -(10**38), 10**60])
def test_more_than_38_digits_are_refused_instead_of_rounded(unscaled: int) -> None:
    content = unscaled.to_bytes(30, "big", signed=True)
    event = FundsDeposited(asset="BTC", amount=Decimal(1), external_ref="r", postings=())
    one = b"\x10" + (10**18).to_bytes(8, "big")
    record = CODEC.encode(event, META).replace(one, _avro_long(len(content)) + content)
    with pytest.raises(DecodeError, match="38 digits"):
        CODEC.decode(record)


def _avro_long(number: int) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, "long", number)
    return body.getvalue()
