"""Amounts as integers of 10^-18: sums and products are exact whatever the decimal context."""

from __future__ import annotations

from decimal import Context, Decimal

SCALE = 18
UNIT: int = 10**SCALE
LIMIT = 10**38
MAX_BYTES = 32
_WIDE = Context(prec=120)


def from_avro(raw: bytes | None) -> int | None:
    """Units of an Avro decimal(38,18) body: a big-endian two's complement integer.

    Raises
    ------
    ValueError
        it has more than 38 digits: no reader takes such an amount.
    """
    if raw is None:
        return None
    units = int.from_bytes(raw, "big", signed=True) if len(raw) <= MAX_BYTES else LIMIT
    if abs(units) >= LIMIT:
        raise ValueError(f"an amount of {len(raw)} bytes; expected at most 38 digits")
    return units


def from_decimal(value: Decimal | None, scale: int = SCALE) -> int | None:
    """Units of 10^-scale of a decimal.

    Raises
    ------
    ValueError
        the value has more decimal places.
    """
    if value is None:
        return None
    scaled = value.scaleb(scale, _WIDE)
    whole = int(scaled)
    if scaled != whole:
        raise ValueError(f"{value} has more than {scale} decimal places")
    return whole


def from_text(text: str, scale: int = SCALE) -> int:
    """Units of 10^-scale of a plain decimal string."""
    units = from_decimal(Decimal(text), scale)
    assert units is not None
    return units


def shown(units: int | None, scale: int = SCALE) -> str:
    """The amount in words of people: ``0.5``."""
    if units is None:
        return "none"
    whole, rest = divmod(abs(units), 10**scale)
    fraction = f"{rest:0{scale}d}".rstrip("0")
    return f"{'-' if units < 0 else ''}{whole}{'.' if fraction else ''}{fraction}"
