"""Exact arithmetic: nothing rounds but the two functions that say so."""

from __future__ import annotations

from decimal import Decimal, Inexact

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skeet.core.values import divide, exact_arithmetic, fee_amount, from_mantissa, rescale, to_mantissa

amounts = st.decimals(min_value=Decimal("-1e19"), max_value=Decimal("1e19"), places=18)


@given(amounts, amounts)
def test_products_of_amounts_are_exact(a: Decimal, b: Decimal) -> None:
    with exact_arithmetic():
        product = a * b
    n1, d1 = a.as_integer_ratio()
    n2, d2 = b.as_integer_ratio()
    num, den = product.as_integer_ratio()
    assert num * d1 * d2 == n1 * n2 * den


def test_a_silent_rounding_raises() -> None:
    with exact_arithmetic(), pytest.raises(Inexact):
        Decimal(1) / Decimal(3)


def test_divide_rounds_half_even_at_18_places() -> None:
    assert divide(Decimal(1), Decimal(3)) == Decimal("0.333333333333333333")
    assert divide(Decimal("0.5"), Decimal(10**18)) == Decimal(0)
    assert divide(Decimal("1.5"), Decimal(10**18)) == Decimal("0.000000000000000002")


def test_fees_round_up() -> None:
    assert fee_amount(Decimal("0.000000000000000001"), Decimal("0.001")) == Decimal("0.000000000000000001")
    assert fee_amount(Decimal(100), Decimal("0.001")) == Decimal("0.1")


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 18))
def test_a_mantissa_and_its_text_are_one(mantissa: int, scale: int) -> None:
    text = format(from_mantissa(mantissa, scale), "f")
    found, found_scale = to_mantissa(text)
    assert Decimal(found).scaleb(-found_scale) == from_mantissa(mantissa, scale)


@pytest.mark.parametrize("text", ["", ".", "1e5", "NaN", " 1", "1,5", "--1", "0x1", "∞"])
def test_what_is_no_plain_decimal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="plain decimal"):
        to_mantissa(text)


def test_rescale_never_loses_digits() -> None:
    assert rescale(12300, 4, 2) == 123
    assert rescale(5, 0, 8) == 500_000_000
    with pytest.raises(ValueError, match="decimal places"):
        rescale(12345, 4, 2)
