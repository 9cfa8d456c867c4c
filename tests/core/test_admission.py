"""What a record may hold: each bound, and that what is recorded instead keeps it."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skeet.core import commands, control, market
from skeet.core.admission import MAX_AMOUNT, MAX_TEXT, envelope_flaws, flaws, recordable_amount, recordable_text
from skeet.core.record import Event, Meta
from skeet.core.values import NS_PER_S
from skeet.schemas.golden import sample

NOW = 1_760_000_000 * NS_PER_S
DEPOSIT = commands.Deposit(
    ts_cause=NOW, valid_until=NOW, asset="USDT", amount=Decimal("1.000000000000000001"), external_ref="r"
)
STARTED = control.StrategyStarted(
    instance_id="i", strategy="s", instrument_id="SIM:BTC/USDT", parameters='{"a": [1, 2.5, "x"]}', code_version=""
)
TRADE: Any = dataclasses.replace(
    sample(market.Trade), instrument_id="SIM:BTC/USDT", ts_event=NOW, ts_init=NOW, price_scale=2, size_scale=18
)


@pytest.mark.parametrize("event", [DEPOSIT, STARTED, TRADE], ids=lambda event: type(event).__name__)
def test_a_sound_record_has_no_flaw(event: Event) -> None:
    assert flaws(event) == ()


@pytest.mark.parametrize(
    ("event", "changes", "says"),
    [
        (DEPOSIT, {"amount": Decimal("NaN")}, "amount is 'NaN'"),
        (DEPOSIT, {"amount": Decimal("-Infinity")}, "at most 10^18"),
        (DEPOSIT, {"amount": MAX_AMOUNT + 1}, "at most 10^18"),
        (DEPOSIT, {"amount": Decimal("1e-19")}, "at most 18 decimal places"),
        (DEPOSIT, {"asset": "A\0"}, "without control characters"),
        (DEPOSIT, {"asset": "\x1b[2J"}, "without control characters"),
        (DEPOSIT, {"external_ref": "r" * (MAX_TEXT + 1)}, "has 501 characters"),
        (DEPOSIT, {"ts_cause": -1}, "ts_cause is -1"),
        (DEPOSIT, {"valid_until": 2**63 - 1}, "before 2100"),
        (STARTED, {"parameters": ""}, "a JSON object"),
        (STARTED, {"parameters": "[]"}, "a JSON object"),
        (STARTED, {"parameters": '{"a": Infinity}'}, "no JSON number"),
        (STARTED, {"parameters": '{"a": "\\ud800"}'}, "a JSON object"),
        (STARTED, {"parameters": '{"a": 1e999999}'}, "too long a number"),
        (STARTED, {"parameters": '{"a": %s}' % ("9" * 50)}, "too long a number"),
        (STARTED, {"parameters": "x" * 20_001}, "has 20001 characters"),
        (TRADE, {"price_scale": 19}, "price_scale is 19"),
        (TRADE, {"size_scale": -1}, "size_scale is -1"),
        (TRADE, {"instrument_id": ""}, "instrument_id is ''"),
        (TRADE, {"ts_event": 2**62}, "ts_event is"),
        (TRADE, {"trade_id": "\n\0"}, "trade_id"),
    ],
)
def test_each_flaw_is_named_with_its_field_and_what_is_allowed(event: Any, changes: dict[str, Any], says: str) -> None:
    found = flaws(dataclasses.replace(event, **changes))
    assert len(found) == 1
    assert says in found[0]


def test_every_flaw_is_named_not_the_first() -> None:
    broken = dataclasses.replace(DEPOSIT, asset="\0", amount=Decimal("NaN"), ts_cause=-1)
    assert len(flaws(broken)) == 3


def test_an_envelope_has_ids_of_their_length() -> None:
    meta = dataclasses.replace(sample(Meta), correlation_id="c" * 129, principal_id="p\0")
    assert [flaw.split()[0] for flaw in envelope_flaws(meta)] == ["principal_id", "correlation_id"]


@given(st.text(max_size=2_000))
def test_a_recorded_text_is_clean_and_short(text: str) -> None:
    recorded = recordable_text(text)
    assert len(recorded) <= MAX_TEXT
    assert flaws(dataclasses.replace(DEPOSIT, asset=recorded)) == ()
    assert recordable_text(recorded) == recorded


@given(st.decimals(allow_nan=True, allow_infinity=True))
def test_a_recorded_amount_is_one(amount: Decimal) -> None:
    recorded = recordable_amount(amount)
    assert recorded.is_finite()
    assert abs(recorded) <= MAX_AMOUNT
