"""A venue in memory that does what it is told: the port's other implementation, for tests of whoever uses the port.

It keeps orders and trades as a venue would. ``misbehave`` decides the answers: orders may be accepted and the answer lost,
refused, hidden for a while, or filled before the answer.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from skeet.core.values import NS_PER_MS, LiquiditySide, Side, TimeInForce
from skeet.streams.ports import (
    Acked,
    Attempt,
    Canceled,
    CancelOutcome,
    Capabilities,
    Evidence,
    Found,
    NotFound,
    NotSent,
    OrderKey,
    Rejected,
    SendGuard,
    SendOutcome,
    StreamConnected,
    Unknown,
    VenueBalance,
    VenueOrder,
    VenueOrderStatus,
    VenueReport,
    VenueTrade,
)

QUICK = Capabilities(
    request_expiry=True,
    receive_window_ns=200 * NS_PER_MS,
    clock_error_ns=50 * NS_PER_MS,
    visibility_delay_ns=50 * NS_PER_MS,
    orders=1_000,
    request_weight=100_000,
)


class Answer(StrEnum):
    """How the next order is answered."""

    ACK = "ACK"
    REJECT = "REJECT"
    ACCEPT_THEN_LOSE = "ACCEPT_THEN_LOSE"
    LOSE = "LOSE"
    FILL_BEFORE_ACK = "FILL_BEFORE_ACK"


@dataclass(slots=True)
class _Order:
    attempt: Attempt
    view: VenueOrder


class MemoryVenue:
    """One account. ``answer`` names how each order is answered; ``sent`` counts the sends of each client order id."""

    def __init__(
        self,
        answer: Callable[[Attempt], Answer] = lambda _: Answer.ACK,
        capabilities: Capabilities = QUICK,
        guard: SendGuard = lambda: "",
    ) -> None:
        self.sent: dict[str, int] = {}
        self._answer = answer
        self._capabilities = capabilities
        self._guard = guard
        self._orders: dict[str, _Order] = {}
        self._trades: list[VenueTrade] = []
        self._numbers = itertools.count(1)
        self._reports: asyncio.Queue[VenueReport] = asyncio.Queue()

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def connect(self) -> None:
        return None

    async def send(self, attempt: Attempt) -> SendOutcome:
        if reason := self._guard():
            return NotSent(reason=reason)
        written_ns, client_id = time.time_ns(), attempt.key.client_order_id
        self.sent[client_id] = self.sent.get(client_id, 0) + 1
        answer = self._answer(attempt)
        if answer is Answer.REJECT:
            return Rejected(code="-2010", reason="told to")
        if answer is Answer.LOSE:
            return Unknown(reason="lost on the way")
        order = self._accept(attempt)
        if answer is Answer.FILL_BEFORE_ACK:
            self.fill(client_id, attempt.quantity)
        if attempt.time_in_force is not TimeInForce.GTC and order.view.status is VenueOrderStatus.OPEN:
            self._end(order, VenueOrderStatus.EXPIRED)
        await asyncio.sleep(0)
        if answer is Answer.ACCEPT_THEN_LOSE:
            return Unknown(reason="the answer was lost")
        return Acked(order=order.view, written_ns=written_ns, answered_ns=time.time_ns())

    async def cancel(self, key: OrderKey) -> CancelOutcome:
        order = self._find(key)
        if order is None or order.view.status is not VenueOrderStatus.OPEN:
            return Rejected(code="-2011", reason="Unknown order sent.")
        self._end(order, VenueOrderStatus.CANCELED)
        return Canceled(order=order.view)

    async def lookup(self, key: OrderKey) -> Evidence:
        order = self._find(key)
        return Found(order=order.view) if order else NotFound(reason="-2013: Order does not exist.")

    async def order_trades(self, key: OrderKey) -> Sequence[VenueTrade]:
        return [self._by_rest(t) for t in self._trades if t.key.venue_order_id == key.venue_order_id]

    async def trades_after(self, instrument_id: str, trade_id: int) -> Sequence[VenueTrade]:
        mine = [trade for trade in self._trades if trade.key.instrument_id == instrument_id]
        return [self._by_rest(trade) for trade in mine if int(trade.trade_id) > trade_id]

    async def open_orders(self) -> Sequence[VenueOrder]:
        return [order.view for order in self._orders.values() if order.view.status is VenueOrderStatus.OPEN]

    async def balances(self) -> Sequence[VenueBalance]:
        return [VenueBalance(asset="USDT", free=Decimal(1_000), locked=Decimal(0), ts_event=time.time_ns())]

    async def clock_offset_ns(self) -> int:
        return 0

    async def reports(self) -> AsyncIterator[VenueReport]:
        self._reports.put_nowait(StreamConnected())
        while True:
            yield await self._reports.get()

    async def close(self) -> None:
        return None

    # --- the market, played by whoever tests --------------------------------------------------------------------------

    def fill(self, client_order_id: str, quantity: Decimal, *, silent: bool = False) -> VenueTrade:
        """Execute a part of an open order at its price; ``silent``: the stream does not say so."""
        order = self._orders[client_order_id]
        filled = order.view.filled_quantity + quantity
        done = filled >= order.attempt.quantity
        status = VenueOrderStatus.FILLED if done else VenueOrderStatus.OPEN
        order.view = replace(order.view, filled_quantity=filled, status=status, ts_event=time.time_ns())
        trade = VenueTrade(
            key=order.view.key,
            trade_id=str(next(self._numbers)),
            side=order.attempt.side,
            quantity=quantity,
            price=order.attempt.limit_price,
            fee=Decimal("0.01"),
            fee_asset="USDT",
            liquidity=LiquiditySide.MAKER if order.attempt.side is Side.BUY else LiquiditySide.TAKER,
            ts_event=time.time_ns(),
        )
        self._trades.append(trade)
        if not silent:
            self._reports.put_nowait(trade)
            if done:
                self._reports.put_nowait(order.view)
        return trade

    def say(self, report: VenueReport) -> None:
        """Put a report on the stream, whatever the books say."""
        self._reports.put_nowait(report)

    def _accept(self, attempt: Attempt) -> _Order:
        key = replace(attempt.key, venue_order_id=str(next(self._numbers)))
        view = VenueOrder(
            key=key, status=VenueOrderStatus.OPEN, filled_quantity=Decimal(0), ts_event=time.time_ns(), reason="NEW"
        )
        order = self._orders[attempt.key.client_order_id] = _Order(attempt, view)
        self._reports.put_nowait(view)
        return order

    def _end(self, order: _Order, status: VenueOrderStatus) -> None:
        order.view = replace(order.view, status=status, ts_event=time.time_ns(), reason=status.value)
        self._reports.put_nowait(order.view)

    def _find(self, key: OrderKey) -> _Order | None:
        if key.client_order_id:
            return self._orders.get(key.client_order_id)
        by_venue = (o for o in self._orders.values() if o.view.key.venue_order_id == key.venue_order_id)
        return next(by_venue, None)

    def _by_rest(self, trade: VenueTrade) -> VenueTrade:
        return replace(trade, key=replace(trade.key, client_order_id=""))
