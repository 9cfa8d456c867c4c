"""What each account can look up: its orders with their state, its fills. Folded from account events alone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from skeet.venues.sim.account_events import AccountEvent, OrderAccepted, OrderClosed, OrderFilled
from skeet.venues.sim.orders import OrderStatus
from skeet.venues.sim.units import parse_units

KEEP_ORDERS = 200_000
"""Closed orders remembered per account and symbol; the oldest are forgotten first (the journal keeps them all)."""


@dataclass(slots=True)
class OrderView:
    """An order as its owner sees it; `quantity`, `executed` and `cost` in units of 10⁻⁸."""

    accepted: OrderAccepted
    quantity: int
    updated_ns: int
    status: OrderStatus = OrderStatus.NEW
    executed: int = 0
    cost: int = 0
    fills: list[OrderFilled] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Whether it still rests in the book."""
        return self.status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)


class Blotter:
    """Orders and fills by account and symbol, oldest first."""

    def __init__(self) -> None:
        self._orders: dict[tuple[str, str], dict[int, OrderView]] = {}
        self._fills: dict[tuple[str, str], deque[OrderFilled]] = {}
        self._client_ids: dict[tuple[str, str, str], int] = {}

    def apply(self, event: AccountEvent) -> OrderView | None:
        """Fold one event in; returns the order it concerns."""
        if isinstance(event, OrderAccepted):
            view = OrderView(event, quantity=parse_units(event.quantity), updated_ns=event.ts_ns)
            orders = self._orders.setdefault((event.account, event.symbol), {})
            orders[event.order_id] = view
            self._client_ids[event.account, event.symbol, event.client_order_id] = event.order_id
            if len(orders) > KEEP_ORDERS:
                self._forget_oldest(event.account, event.symbol, orders)
            return view
        if isinstance(event, OrderFilled):
            view = self._orders[event.account, event.symbol][event.order_id]
            view.executed += parse_units(event.quantity)
            view.status = OrderStatus.FILLED if view.executed == view.quantity else OrderStatus.PARTIALLY_FILLED
            view.cost += parse_units(event.quote_quantity)
            view.updated_ns = event.ts_ns
            view.fills.append(event)
            self._fills.setdefault((event.account, event.symbol), deque(maxlen=KEEP_ORDERS)).append(event)
            return view
        if isinstance(event, OrderClosed):
            view = self._orders[event.account, event.symbol][event.order_id]
            view.status = OrderStatus(event.status)
            view.updated_ns = event.ts_ns
            return view
        return None

    def order(self, account: str, symbol: str, order_id: int) -> OrderView | None:
        """One order by the exchange's id."""
        return self._orders.get((account, symbol), {}).get(order_id)

    def order_by_client_id(self, account: str, symbol: str, client_order_id: str) -> OrderView | None:
        """The newest order with a client order id."""
        order_id = self._client_ids.get((account, symbol, client_order_id))
        return None if order_id is None else self.order(account, symbol, order_id)

    def orders(self, account: str, symbol: str) -> list[OrderView]:
        """All remembered orders of a symbol."""
        return list(self._orders.get((account, symbol), {}).values())

    def fills(self, account: str, symbol: str) -> list[OrderFilled]:
        """All remembered fills of a symbol."""
        return list(self._fills.get((account, symbol), ()))

    def _forget_oldest(self, account: str, symbol: str, orders: dict[int, OrderView]) -> None:
        for order_id, view in orders.items():
            if not view.is_open:
                del orders[order_id]
                key = (account, symbol, view.accepted.client_order_id)
                if self._client_ids.get(key) == order_id:
                    del self._client_ids[key]
                return
