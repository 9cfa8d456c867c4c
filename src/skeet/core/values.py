"""The small values everything is made of: identifiers, enumerations, exact arithmetic.

Amounts are ``Decimal`` and exact: the arithmetic of :func:`exact_arithmetic` raises where Python's default would round
silently. Only :func:`divide` and :func:`fee_amount` round, and say how. Market prices and sizes travel as an integer
mantissa with its scale and become ``Decimal`` through :func:`from_mantissa`. Enumerations start with ``UNKNOWN``, the
default a reader falls back to when a newer writer used a symbol it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import ROUND_HALF_EVEN, ROUND_UP, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, localcontext
from enum import StrEnum
from typing import NewType

TenantId = NewType("TenantId", str)
AccountId = NewType("AccountId", str)
PrincipalId = NewType("PrincipalId", str)
BookId = NewType("BookId", str)
"""A sub-book of an account; for a strategy it is its instance id, for a person's own orders ``manual``."""
InstrumentId = NewType("InstrumentId", str)
"""``VENUE:BASE/QUOTE`` for spot, as in ``BINANCE:BTC/USDT``; immutable."""
EventId = NewType("EventId", str)
"""32 hexadecimal digits; see :mod:`skeet.core.ids`."""
OrderId = NewType("OrderId", str)
"""The ``event_id`` of the order's SubmitOrder command; also its client order id at the venue."""

MANUAL_BOOK = BookId("manual")

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

AMOUNT_SCALE = 18
"""Decimal places of account amounts on the wire: ``decimal(38,18)``."""
LARGEST_MANTISSA = 2**63 - 1
"""Mantissas are Avro's ``long`` on the wire."""

EXACT = Context(prec=80, traps=[Inexact, InvalidOperation, DivisionByZero])
"""80 digits hold any product of two 38-digit amounts; a result that needs more raises ``Inexact``."""


class Side(StrEnum):
    UNKNOWN = "UNKNOWN"
    BUY = "BUY"
    SELL = "SELL"

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(StrEnum):
    UNKNOWN = "UNKNOWN"
    LIMIT = "LIMIT"
    MARKET = "MARKET"


class TimeInForce(StrEnum):
    UNKNOWN = "UNKNOWN"
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class LiquiditySide(StrEnum):
    UNKNOWN = "UNKNOWN"
    MAKER = "MAKER"
    TAKER = "TAKER"


class OrderStatus(StrEnum):
    """Life of an order; the transitions are the table in :mod:`skeet.core.orders`."""

    UNKNOWN = "UNKNOWN"
    AUTHORIZED = "AUTHORIZED"
    SUBMITTED = "SUBMITTED"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    ACCEPTED = "ACCEPTED"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    REJECTED = "REJECTED"
    DENIED = "DENIED"
    ABSENT = "ABSENT"


class VenueStatus(StrEnum):
    UNKNOWN = "UNKNOWN"
    UP = "UP"
    DEGRADED = "DEGRADED"
    DOWN = "DOWN"


class LateReason(StrEnum):
    """Why an event is in the side output."""

    UNKNOWN = "UNKNOWN"
    WINDOW_CLOSED = "WINDOW_CLOSED"
    """Every window that it belongs to has closed: it counts nowhere."""
    SOME_WINDOWS_CLOSED = "SOME_WINDOWS_CLOSED"
    """It counts in those of its windows that are open, and not in ``missed``."""


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Run the block under :data:`EXACT`; every entry into the core (decide, evolve, step) is inside one."""
    with localcontext(EXACT):
        yield


def divide(numerator: Decimal, denominator: Decimal, places: int = AMOUNT_SCALE) -> Decimal:
    """The quotient rounded half-even to ``places`` decimal places. One of the two places where amounts round."""
    with localcontext(EXACT) as context:
        context.traps[Inexact] = False
        return (numerator / denominator).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN)


def fee_amount(notional: Decimal, rate: Decimal, places: int = AMOUNT_SCALE) -> Decimal:
    """The fee on ``notional`` at ``rate``, rounded up (against us) to ``places``. The other place where amounts round."""
    with localcontext(EXACT) as context:
        context.traps[Inexact] = False
        return (notional * rate).quantize(Decimal(1).scaleb(-places), rounding=ROUND_UP)


def from_mantissa(mantissa: int, scale: int) -> Decimal:
    """``mantissa × 10^-scale``, exact."""
    return Decimal(mantissa).scaleb(-scale, EXACT)


def to_mantissa(text: str) -> tuple[int, int]:
    """Mantissa and scale of a plain decimal string: ``"61710.0100"`` is ``(617100100, 4)``.

    Raises
    ------
    ValueError
        when the text is not a plain decimal number (no exponent, no NaN, no spaces).
    """
    whole, point, fraction = text.partition(".")
    if not (whole.removeprefix("-") + fraction).isdigit():
        raise ValueError(f"{text!r} is not a plain decimal number")
    return int(whole + fraction), len(fraction) if point else 0


def rescale(mantissa: int, scale: int, target: int) -> int:
    """The same number at another scale.

    Raises
    ------
    ValueError
        when digits would be lost.
    """
    if target >= scale:
        return mantissa * int(10 ** (target - scale))
    quotient, remainder = divmod(mantissa, int(10 ** (scale - target)))
    if remainder:
        raise ValueError(f"{mantissa}e-{scale} has more than {target} decimal places")
    return quotient


def in_64_bits(scale: int, *mantissas: int) -> tuple[int, tuple[int, ...]]:
    """The numbers at the finest scale, at most ``scale``, at which each is a 64-bit mantissa: digits beyond it are cut.

    What has more than 64 bits even as a whole number becomes the largest there is: a record can always be written.
    """
    while scale > 0 and any(abs(mantissa) > LARGEST_MANTISSA for mantissa in mantissas):
        scale, mantissas = scale - 1, tuple(mantissa // 10 for mantissa in mantissas)
    return scale, tuple(max(-LARGEST_MANTISSA, min(LARGEST_MANTISSA, mantissa)) for mantissa in mantissas)
