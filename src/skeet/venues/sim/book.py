"""One instrument's order book: levels by price, orders within a level by time.

Pure bookkeeping: who is next (`plan`), rest, reduce, remove. Prices are ticks, quantities lots. Every change of a
level's quantity takes one update id, so that a reader can chain depth diffs without a hole.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from skeet.venues.sim.orders import Order, Side, Top


@dataclass(slots=True)
class Level:
    """All orders at one price, first come first served (dict order is arrival order)."""

    price: int
    quantity: int = 0
    orders: dict[int, Order] = field(default_factory=dict)


class HalfBook:
    """One side. `prices` is sorted ascending; the best one is last for bids and first for asks."""

    __slots__ = ("is_bid", "levels", "prices")

    def __init__(self, side: Side) -> None:
        self.is_bid = side is Side.BUY
        self.levels: dict[int, Level] = {}
        self.prices: list[int] = []

    def best(self) -> Level | None:
        """The level that trades next, or None when the side is empty."""
        if not self.prices:
            return None
        return self.levels[self.prices[-1 if self.is_bid else 0]]

    def from_best(self) -> Iterator[Level]:
        """Levels from the best price outwards."""
        for price in reversed(self.prices) if self.is_bid else self.prices:
            yield self.levels[price]

    def add(self, order: Order) -> None:
        """Rest an order at the end of its price's queue."""
        level = self.levels.get(order.price)
        if level is None:
            level = self.levels[order.price] = Level(order.price)
            insort(self.prices, order.price)
        level.orders[order.order_id] = order
        level.quantity += order.leaves

    def reduce(self, order: Order, lots: int, *, gone: bool) -> int:
        """Take `lots` off an order's level; `gone` also takes the order out. Returns the level's new quantity."""
        level = self.levels[order.price]
        level.quantity -= lots
        if gone:
            del level.orders[order.order_id]
            if not level.orders:
                del self.levels[order.price]
                del self.prices[bisect_left(self.prices, order.price)]
        return level.quantity


class Book:
    """Both sides of one instrument.

    `update_id` counts changes of levels and never repeats. `changed` collects the levels that differ since the depth
    publisher last took them: price → quantity now (0: level gone), with the first and last update id.
    """

    __slots__ = ("asks", "bids", "changed_asks", "changed_bids", "first_change", "orders", "update_id")

    def __init__(self, update_id: int = 0) -> None:
        self.bids = HalfBook(Side.BUY)
        self.asks = HalfBook(Side.SELL)
        self.orders: dict[int, Order] = {}
        self.update_id = update_id
        self.changed_bids: dict[int, int] = {}
        self.changed_asks: dict[int, int] = {}
        self.first_change = update_id + 1

    def side(self, side: Side) -> HalfBook:
        """The half where orders of `side` rest."""
        return self.bids if side is Side.BUY else self.asks

    def top(self) -> Top:
        """Best prices and the quantities there."""
        bid, ask = self.bids.best(), self.asks.best()
        return Top(
            bid.price if bid else 0, bid.quantity if bid else 0, ask.price if ask else 0, ask.quantity if ask else 0
        )

    def plan(self, side: Side, limit: int | None, lots: int) -> list[tuple[Order, int]]:
        """Whom an incoming order of `side` would meet, in price–time priority: (resting order, lots) pairs.

        `limit` None means any price. Changes nothing.
        """
        meets: list[tuple[Order, int]] = []
        opposite = self.asks if side is Side.BUY else self.bids
        if not opposite.prices:
            return meets
        for level in opposite.from_best():
            if lots == 0 or (limit is not None and (level.price > limit if side is Side.BUY else level.price < limit)):
                break
            for maker in level.orders.values():
                take = min(lots, maker.leaves)
                meets.append((maker, take))
                lots -= take
                if lots == 0:
                    break
        return meets

    def rest(self, order: Order) -> None:
        """Put an order into the book."""
        half = self.side(order.side)
        half.add(order)
        self.orders[order.order_id] = order
        self._note(order.side, order.price, half.levels[order.price].quantity)

    def fill(self, maker: Order, lots: int) -> None:
        """Execute `lots` of a resting order; it leaves when nothing is left."""
        maker.filled += lots
        gone = maker.leaves == 0
        self._note(maker.side, maker.price, self.side(maker.side).reduce(maker, lots, gone=gone))
        if gone:
            del self.orders[maker.order_id]

    def remove(self, order: Order) -> None:
        """Take a resting order out."""
        self._note(order.side, order.price, self.side(order.side).reduce(order, order.leaves, gone=True))
        del self.orders[order.order_id]

    def take_changes(self) -> tuple[int, int, dict[int, int], dict[int, int]]:
        """(first id, last id, bids, asks) changed since the last call; the next call's first id is this last + 1."""
        taken = (self.first_change, self.update_id, self.changed_bids, self.changed_asks)
        self.first_change = self.update_id + 1
        self.changed_bids, self.changed_asks = {}, {}
        return taken

    def _note(self, side: Side, price: int, quantity: int) -> None:
        self.update_id += 1
        (self.changed_bids if side is Side.BUY else self.changed_asks)[price] = quantity
