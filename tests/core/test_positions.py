"""A position is the fold of its fills; flat means that profit is exactly sales minus purchases."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from skeet.core.positions import Position, apply_fill
from skeet.core.values import Side, exact_arithmetic

Fill = tuple[Side, Decimal, Decimal]
fills = st.lists(
    st.tuples(
        st.sampled_from([Side.BUY, Side.SELL]),
        st.integers(1, 999).map(lambda n: Decimal(n).scaleb(-3)),
        st.integers(1, 10**6).map(lambda n: Decimal(n).scaleb(-2)),
    ),
    max_size=30,
)


def fold(sequence: list[Fill], fee: Decimal = Decimal(0)) -> Position:
    position = Position()
    for side, quantity, price in sequence:
        position = apply_fill(position, side, quantity, price, fee)
    return position


def cash(sequence: list[Fill]) -> Decimal:
    with exact_arithmetic():
        return sum((-q * p if side is Side.BUY else q * p for side, q, p in sequence), Decimal(0))


@given(fills)
def test_flat_positions_have_earned_exactly_the_cash(sequence: list[Fill]) -> None:
    open_quantity = fold(sequence).quantity
    if open_quantity:
        closing = Side.SELL if open_quantity > 0 else Side.BUY
        sequence = [*sequence, (closing, abs(open_quantity), Decimal("123.45"))]
    position = fold(sequence)
    assert not position.quantity and not position.cost
    assert position.realized_pnl == cash(sequence)


@given(fills)
def test_cost_and_profit_always_account_for_the_cash(sequence: list[Fill]) -> None:
    position = fold(sequence)
    assert position.realized_pnl - position.cost == cash(sequence)


def test_a_flip_closes_and_opens() -> None:
    position = fold([(Side.BUY, Decimal(1), Decimal(100)), (Side.SELL, Decimal(3), Decimal(110))], fee=Decimal("0.1"))
    assert position == Position(quantity=Decimal(-2), cost=Decimal(-220), realized_pnl=Decimal(10), fees=Decimal("0.2"))
    assert position.average_price == 110
    assert position.net_pnl == Decimal("9.8")


def test_each_return_to_flat_is_a_round_trip() -> None:
    there_and_back: list[Fill] = [(Side.BUY, Decimal(1), Decimal(100)), (Side.SELL, Decimal(1), Decimal(101))]
    assert fold(there_and_back * 3).round_trips == 3
