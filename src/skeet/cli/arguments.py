"""What people type, checked: amounts, names, instruments. Each refusal names the field, the value, what was expected."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

import typer

from skeet.core.errors import InvalidInput
from skeet.core.values import AMOUNT_SCALE

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

MAX_WHOLE_DIGITS = 18
"""decimal(38,18) on the wire leaves twenty digits before the point; two of them are kept for sums (core/admission.py)."""

_AMOUNT = re.compile(r"[0-9]+(\.[0-9]+)?")
_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_INSTRUMENT = re.compile(r"[A-Z0-9]+:[A-Z0-9]+/[A-Z0-9]+(:[A-Z0-9]+)?")
_ASSET = re.compile(r"[A-Z0-9]{1,16}")


def amount(field: str, text: str) -> Decimal:
    """A positive decimal, exact: no sign, exponent, separator or blank; at most 18 decimal places."""
    if not _AMOUNT.fullmatch(text):
        raise InvalidInput(f"{field} is {text!r}; expected a plain decimal number such as 0.25")
    whole, _, fraction = text.partition(".")
    if len(fraction) > AMOUNT_SCALE or len(whole.lstrip("0")) > MAX_WHOLE_DIGITS:
        raise InvalidInput(
            f"{field} is {text}; at most {MAX_WHOLE_DIGITS} digits before and {AMOUNT_SCALE} after the point can be kept"
        )
    value = Decimal(text)
    if not value:
        raise InvalidInput(f"{field} is {text}; expected more than 0")
    return value


def account_id(text: str) -> str:
    """An account's name: lower-case letters, digits and dashes, 1 to 32 of them."""
    return _matched("account", text, _ACCOUNT, "1 to 32 of a-z, 0-9 and -, such as demo-1")


def tenant_id(text: str) -> str:
    """A tenant's name: as an account's."""
    return _matched("tenant", text, _ACCOUNT, "1 to 32 of a-z, 0-9 and -, such as acme")


def instrument_id(text: str) -> str:
    """``VENUE:BASE/QUOTE``."""
    return _matched("instrument", text, _INSTRUMENT, "VENUE:BASE/QUOTE, such as SIM:BTC/USDT")


def asset(text: str) -> str:
    """An asset's code."""
    return _matched("asset", text, _ASSET, "a code in capitals, such as USDT")


def _matched(field: str, text: str, pattern: re.Pattern[str], expected: str) -> str:
    if not pattern.fullmatch(text):
        raise InvalidInput(f"{field} is {text!r}; expected {expected}")
    return text
