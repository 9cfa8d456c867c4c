"""What a strategy asks for. The machine turns an intent into a command with derived ids; nothing is sent from here."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from skeet.core.values import OrderType, Side, TimeInForce


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Place an order. ``quantity`` in base units, ``limit_price`` in quote per base (None: at market).

    Both are rounded to the instrument's steps, quantity down, price to the safe side (a buy down, a sell up).
    ``rule`` names which of the strategy's rules asked: it is part of the order's id and is shown everywhere.
    """

    side: Side
    quantity: Decimal
    limit_price: Decimal | None
    rule: str
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False

    @property
    def order_type(self) -> OrderType:
        """LIMIT with a price, MARKET without."""
        return OrderType.MARKET if self.limit_price is None else OrderType.LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Cancel the open order ``order_id``."""

    order_id: str
    rule: str


Intent = Place | Cancel


def buy_limit(
    quantity: Decimal,
    price: Decimal,
    *,
    rule: str,
    post_only: bool = False,
    time_in_force: TimeInForce = TimeInForce.GTC,
) -> Place:
    """Buy at ``price`` or better. ``post_only``: refused by the venue if it would trade at once."""
    return Place(
        side=Side.BUY,
        quantity=quantity,
        limit_price=price,
        rule=rule,
        post_only=post_only,
        time_in_force=time_in_force,
    )


def sell_limit(
    quantity: Decimal,
    price: Decimal,
    *,
    rule: str,
    post_only: bool = False,
    time_in_force: TimeInForce = TimeInForce.GTC,
) -> Place:
    """Sell at ``price`` or better. ``post_only``: refused by the venue if it would trade at once."""
    return Place(
        side=Side.SELL,
        quantity=quantity,
        limit_price=price,
        rule=rule,
        post_only=post_only,
        time_in_force=time_in_force,
    )


def buy_market(quantity: Decimal, *, rule: str) -> Place:
    """Buy now, at no worse than the risk collar around the reference price; what does not fill at once is dropped."""
    return Place(side=Side.BUY, quantity=quantity, limit_price=None, rule=rule, time_in_force=TimeInForce.IOC)


def sell_market(quantity: Decimal, *, rule: str) -> Place:
    """Sell now, at no worse than the risk collar around the reference price; what does not fill at once is dropped."""
    return Place(side=Side.SELL, quantity=quantity, limit_price=None, rule=rule, time_in_force=TimeInForce.IOC)


def cancel(order_id: str, *, rule: str) -> Cancel:
    """Cancel one open order; whether it was in time, the order's next event says."""
    return Cancel(order_id=order_id, rule=rule)
