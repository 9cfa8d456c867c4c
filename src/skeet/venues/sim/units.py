"""Exact amounts: whole numbers of 10⁻⁸, as Binance counts, and their decimal strings.

Everything the exchange holds is an integer count of these units (or of ticks and lots, which are multiples of them), so
nothing is ever rounded by accident. The two roundings that exist are the named functions at the end.
"""

from __future__ import annotations

import re

DIGITS = 8
UNIT: int = 10**DIGITS
PPM: int = 10**6
"""Fee rates are parts per million: 1,000 ppm = 0.1 %."""

_DECIMAL = re.compile(r"(\d{1,20})(?:\.(\d{1,20}))?", re.ASCII)


def parse_units(text: str) -> int:
    """``"0.5"`` → 50_000_000.

    Raises
    ------
    ValueError
        not a plain decimal number (no sign, no exponent), or finer than 10⁻⁸.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a plain decimal number")
    whole: str = match[1]
    fraction: str = (match[2] or "").rstrip("0")
    if len(fraction) > DIGITS:
        raise ValueError(f"{text!r} has more than {DIGITS} decimals")
    return int(whole) * UNIT + int(fraction.ljust(DIGITS, "0"))


def format_units(units: int) -> str:
    """50_000_000 → ``"0.50000000"``, eight decimals always, as Binance prints."""
    if units < 0:
        return "-" + format_units(-units)
    return f"{units // UNIT}.{units % UNIT:08d}"


def fee_of(amount: int, rate_ppm: int) -> int:
    """The commission on `amount`, rounded down to a whole unit: the exchange never takes more than its rate."""
    return amount * rate_ppm // PPM


def fee_reserve(amount: int, rate_ppm: int) -> int:
    """What an order sets aside for commission: rounded up, so that all its partial fills' fees together fit in."""
    return -(-amount * rate_ppm // PPM)
