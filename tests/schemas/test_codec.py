"""The codec gives back what it was given, and nothing but our two errors whatever the bytes."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skeet.core.accounts import FundsDeposited, LedgerAccount, Posting
from skeet.core.errors import DecodeError, InvalidInput, UnknownEvent
from skeet.core.market import BookDelta, Tick
from skeet.core.record import Event, Meta
from skeet.schemas.avro import is_lean
from skeet.schemas.catalogue import EVENTS, full_name
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


def test_bytes_after_the_record_are_an_error() -> None:
    with pytest.raises(DecodeError, match="left over"):
        CODEC.decode(CODEC.encode(Tick(ts_event=1)) + b"\x00")


def test_an_unknown_schema_id_is_named() -> None:
    with pytest.raises(UnknownEvent, match="4711"):
        Codec({Tick: 1}).decode(b"\x00" + (4711).to_bytes(4, "big") + b"\x02")


def test_more_than_18_places_cannot_be_written() -> None:
    event = FundsDeposited(asset="BTC", amount=Decimal("1e-19"), external_ref="r", postings=())
    with pytest.raises(InvalidInput, match="FundsDeposited"):
        CODEC.encode(event, META)


def test_a_full_event_needs_its_envelope() -> None:
    event = FundsDeposited(asset="BTC", amount=Decimal(1), external_ref="r", postings=())
    with pytest.raises(InvalidInput, match="full"):
        CODEC.encode(event, None)
