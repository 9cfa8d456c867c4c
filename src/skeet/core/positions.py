"""A position as a fold of fills: signed quantity, cost of what is open, realised profit.

Average-cost method. ``cost`` is the signed quote value paid for the open quantity, so that after every return to flat the
realised profit is exactly the sum of sales minus the sum of purchases: what rounding a partial close leaves in ``cost``
the closing fill takes out again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from skeet.core.values import Side, divide, exact_arithmetic

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Position of one book in one instrument.

    ``quantity`` in base units (negative: sold short of what the book bought), ``cost``, ``realized_pnl`` (before fees)
    and ``fees`` in quote units. ``round_trips`` counts returns to flat.
    """

    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    realized_pnl: Decimal = ZERO
    fees: Decimal = ZERO
    round_trips: int = 0

    @property
    def average_price(self) -> Decimal:
        """Quote units per base unit of the open quantity; 0 when flat."""
        return divide(self.cost, self.quantity) if self.quantity else ZERO

    @property
    def net_pnl(self) -> Decimal:
        """Realised profit after fees."""
        return self.realized_pnl - self.fees


def apply_fill(position: Position, side: Side, quantity: Decimal, price: Decimal, fee: Decimal = ZERO) -> Position:
    """The position after one fill. ``fee`` is in quote units; a fee taken in base is a fill of a smaller quantity.

    A fill larger than the open quantity closes it and opens the rest on the other side.
    """
    with exact_arithmetic():
        signed = quantity if side is Side.BUY else -quantity
        closing = _closed_quantity(position.quantity, signed)
        released = (
            position.cost
            if closing == -position.quantity
            else divide(-position.cost * closing, position.quantity or Decimal(1))
        )
        after = position.quantity + signed
        return replace(
            position,
            quantity=after,
            cost=position.cost - released + (signed - closing) * price,
            realized_pnl=position.realized_pnl - closing * price - released,
            fees=position.fees + fee,
            round_trips=position.round_trips + (1 if position.quantity and not after else 0),
        )


def _closed_quantity(held: Decimal, signed: Decimal) -> Decimal:
    """The part of the signed fill that closes what is held (opposite sign, at most as large)."""
    if held * signed >= ZERO:
        return ZERO
    return signed if abs(signed) <= abs(held) else -held
