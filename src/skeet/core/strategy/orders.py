"""A strategy's own book, folded from its account's events: position, open orders, free balances.

An order is known from the moment it is asked for (status UNKNOWN: pending), so that a strategy never asks twice because
the answer is still on its way.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from skeet.core import accounts
from skeet.core.accounts import LedgerAccount
from skeet.core.commands import SubmitOrder
from skeet.core.positions import Position, apply_fill
from skeet.core.record import Event
from skeet.core.values import NS_PER_S, OrderStatus, Side

PENDING_GRACE_NS = 5 * NS_PER_S
"""A command without any answer this long after its validity is gone: the desk will not execute it any more."""

ZERO = Decimal(0)
WORKING = (OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOrder:
    """An order of this strategy that may still trade. ``limit_price`` is None while a market order is pending."""

    order_id: str
    side: Side
    quantity: Decimal
    limit_price: Decimal | None
    rule: str
    status: OrderStatus
    valid_until: int
    filled: Decimal = ZERO
    canceling: bool = False

    @property
    def leaves(self) -> Decimal:
        """What is not filled yet, in base units."""
        return self.quantity - self.filled

    @property
    def working(self) -> bool:
        """Whether it rests at the venue, and a cancel makes sense."""
        return self.status in WORKING and not self.canceling


@dataclass(slots=True)
class BookState:
    """The fold. ``free`` is the account's free balance by asset; ``cancels`` maps our cancel commands to their orders."""

    position: Position = field(default_factory=Position)
    orders: dict[str, OpenOrder] = field(default_factory=dict)
    free: dict[str, Decimal] = field(default_factory=dict)
    cancels: dict[str, str] = field(default_factory=dict)

    def asked(self, order_id: str, command: SubmitOrder) -> None:
        """Remember an order that was just asked for; nothing when it is known already (asked again after a restart)."""
        self.orders.setdefault(
            order_id,
            OpenOrder(
                order_id=order_id,
                side=command.side,
                quantity=command.quantity,
                limit_price=command.limit_price,
                rule=command.rule,
                status=OrderStatus.UNKNOWN,
                valid_until=command.valid_until,
            ),
        )

    def canceling(self, cancel_id: str, order_id: str) -> None:
        """Remember a cancel that was just asked for."""
        self.cancels[cancel_id] = order_id
        self._change(order_id, canceling=True)

    def expire(self, now_ns: int) -> None:
        """Forget pending orders that nobody answered and that can no longer be executed."""
        for order in list(self.orders.values()):
            if order.status is OrderStatus.UNKNOWN and order.valid_until + PENDING_GRACE_NS < now_ns:
                del self.orders[order.order_id]

    def apply(self, event: Event, book_id: str, base: str) -> bool:
        """Fold one event of the account. True when it concerns this book."""
        for posting in getattr(event, "postings", ()):
            if posting.ledger is LedgerAccount.FREE:
                self.free[posting.asset] = self.free.get(posting.asset, ZERO) + posting.amount
        if isinstance(event, accounts.CommandDenied):
            return self._cancel_ended(event.command_id)
        if isinstance(event, accounts.DuplicateIgnored):
            self._asked_in_vain(event.duplicate_of)
        if not isinstance(event, accounts.OrderEvent) or event.book_id != book_id:
            return False
        self._apply_order(event, base)
        return True

    def _asked_in_vain(self, order_id: str) -> None:
        """A cause that came again asked for the order again. All about the first stands before this: if it is unknown, it ended."""
        order = self.orders.get(order_id)
        if order is not None and order.status is OrderStatus.UNKNOWN:
            del self.orders[order_id]

    def _apply_order(self, event: accounts.OrderEvent, base: str) -> None:
        match event:
            case accounts.OrderAuthorized():
                self.orders[event.order_id] = OpenOrder(
                    order_id=event.order_id,
                    side=event.side,
                    quantity=event.quantity,
                    limit_price=event.limit_price,
                    rule=event.rule,
                    status=event.status,
                    valid_until=event.valid_until,
                )
            case accounts.OrderFilled():
                quantity, fee = _net_of_fee(event, base)
                self.position = apply_fill(self.position, event.side, quantity, event.price, fee)
                self._change(event.order_id, filled=event.filled_quantity, status=event.status)
                if not event.leaves_quantity or event.status is OrderStatus.FILLED:
                    self.orders.pop(event.order_id, None)
            case (
                accounts.OrderDenied()
                | accounts.OrderRejected()
                | accounts.OrderCanceled()
                | accounts.OrderExpired()
                | accounts.OrderAbsent()
            ):
                self.orders.pop(event.order_id, None)
            case accounts.CancelRejected():
                self._cancel_ended(event.cancel_id)
                self._change(event.order_id, status=event.status)
            case _:
                self._change(event.order_id, status=event.status)

    def _cancel_ended(self, cancel_id: str) -> bool:
        order_id = self.cancels.pop(cancel_id, None)
        if order_id is None:
            return False
        self._change(order_id, canceling=False)
        return True

    def _change(self, order_id: str, **changes: Any) -> None:
        order = self.orders.get(order_id)
        if order is not None:
            self.orders[order_id] = replace(order, **changes)


def _net_of_fee(event: accounts.OrderFilled, base: str) -> tuple[Decimal, Decimal]:
    """Quantity and quote fee: a fee taken in base from a buy is a smaller buy."""
    if event.fee_asset == base:
        return (event.quantity - event.fee if event.side is Side.BUY else event.quantity + event.fee), ZERO
    return event.quantity, event.fee
