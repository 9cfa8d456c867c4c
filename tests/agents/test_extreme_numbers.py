"""Whatever numbers the door lets in, bars and references can be written: a record that cannot be would stop the worker."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from market_records import quote, record, trade

from skeet.agents.bars import BarsAgent
from skeet.agents.reference import ReferenceAgent
from skeet.core.admission import flaws
from skeet.core.market import Bar, Quote, Reference, Trade
from skeet.core.values import LARGEST_MANTISSA, exact_arithmetic, in_64_bits
from skeet.schemas.codec import numbered_codec

CODEC = numbered_codec()
MANTISSAS = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 10**6)
SCALES = st.integers(0, 18)
ROWS = st.lists(st.tuples(MANTISSAS, MANTISSAS, SCALES, SCALES), min_size=1, max_size=8)


def trades(rows: list[tuple[int, int, int, int]]) -> list[Trade]:
    """Trades of one second, then one of a later minute."""
    found = [
        trade(n, n / 10, price, size, price_scale=price_scale, size_scale=size_scale)
        for n, (price, size, price_scale, size_scale) in enumerate(rows)
    ]
    return [*found, trade(len(rows), 100)]


def written(machine: Any, events: list[Any]) -> list[Any]:
    """What the machine makes of them, each as it is read again."""
    state, events_out = machine.initial(), []
    with exact_arithmetic():
        for number, event in enumerate(events):
            assert not flaws(event)
            state, outs = machine.step(state, record(event, number))
            events_out += [out.event for out in outs]
    return [CODEC.decode(CODEC.encode(event))[0] for event in events_out]


@given(ROWS)
@example([(2**62, 2**62, 18, 18), (2**62, 2**62, 0, 0)])
@example([(12, 10**8, 12, 8)])
def test_bars_of_any_trades_can_be_written(rows: list[tuple[int, int, int, int]]) -> None:
    assert sorted(bar.interval for bar in written(BarsAgent(), trades(rows))) == ["1m", "1s"]


@given(ROWS)
@example([(2**62, 2**62, 18, 18), (2**62, 2**62, 0, 0)])
def test_references_of_any_trades_and_quotes_can_be_written(rows: list[tuple[int, int, int, int]]) -> None:
    quotes: list[Quote] = [
        dataclasses.replace(quote(n, n / 10 + 0.05, bid, ask), price_scale=scale)
        for n, (bid, ask, scale, _) in enumerate(rows)
    ]
    events = sorted([*trades(rows), *quotes], key=lambda each: each.ts_event)
    found: list[Reference] = written(ReferenceAgent(), events)
    assert found


def test_a_volume_that_does_not_fit_has_fewer_places() -> None:
    bar: Bar = written(BarsAgent(), trades([(1_00, 9 * 10**18, 2, 18), (1_00, 9 * 10**18, 2, 18)]))[0]
    assert (bar.volume, bar.size_scale) == (Decimal(18), 17)


def test_a_product_finer_than_amounts_is_rounded_to_their_places() -> None:
    bar: Bar = written(BarsAgent(), trades([(15, 1, 12, 8)]))[0]
    assert bar.quote_volume == Decimal("0.000000000000000000")
    bar = written(BarsAgent(), trades([(15, 25, 12, 8)]))[0]
    assert bar.quote_volume == Decimal("0.000000000000000004"), "3.75 of the last place"


@pytest.mark.parametrize(
    ("scale", "mantissas", "expected"),
    [
        (2, (1, -2), (2, (1, -2))),
        (1, (LARGEST_MANTISSA + 1, 7), (0, ((LARGEST_MANTISSA + 1) // 10, 0))),
        (0, (LARGEST_MANTISSA + 1, -(2**70)), (0, (LARGEST_MANTISSA, -LARGEST_MANTISSA))),
    ],
)
def test_numbers_in_64_bits(scale: int, mantissas: tuple[int, ...], expected: tuple[int, tuple[int, ...]]) -> None:
    assert in_64_bits(scale, *mantissas) == expected
