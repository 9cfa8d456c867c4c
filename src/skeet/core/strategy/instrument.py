"""The traded instrument with its venue's steps, and rounding to them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

from skeet.core.market import InstrumentDefined
from skeet.core.values import Side

ROUNDING = Context(prec=80)
"""Rounding to a step divides; no trap for inexact quotients here, the result is a whole number of steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TradedInstrument:
    """What a strategy needs to know of its instrument: assets, steps, bounds, fees (fractions of the notional)."""

    instrument_id: str
    base: str
    quote: str
    tick_size: Decimal
    step_size: Decimal
    min_quantity: Decimal
    min_notional: Decimal
    maker_fee: Decimal
    taker_fee: Decimal

    @classmethod
    def of(cls, defined: InstrumentDefined) -> TradedInstrument:
        """From the instrument's newest definition."""
        return cls(
            instrument_id=defined.instrument_id,
            base=defined.base,
            quote=defined.quote,
            tick_size=defined.tick_size,
            step_size=defined.step_size,
            min_quantity=defined.min_quantity,
            min_notional=defined.min_notional,
            maker_fee=defined.maker_fee,
            taker_fee=defined.taker_fee,
        )

    def round_quantity(self, quantity: Decimal) -> Decimal:
        """The largest whole number of steps that is not more than ``quantity``."""
        return _to_step(quantity, self.step_size, ROUND_FLOOR)

    def round_price(self, price: Decimal, side: Side) -> Decimal:
        """The nearest tick on the safe side: a buy's price down, a sell's up."""
        return _to_step(price, self.tick_size, ROUND_FLOOR if side is Side.BUY else ROUND_CEILING)

    def tradable(self, quantity: Decimal, price: Decimal) -> bool:
        """Whether an order of this size passes the venue's lower bounds at this price."""
        rounded = self.round_quantity(quantity)
        return rounded > 0 and rounded >= self.min_quantity and rounded * price >= self.min_notional


def _to_step(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    """A step of 0 means none."""
    if not step:
        return value
    return ROUNDING.multiply(ROUNDING.divide(value, step).to_integral_value(rounding=rounding), step)
