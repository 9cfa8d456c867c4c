"""Quotes both sides around the mid, post-only, within an inventory limit.

Each side has one live order at most: when its price is off by ``requote_ticks`` it is withdrawn, and replaced once the
withdrawal is known. Holding ``max_inventory`` stops the side that would add to it; an open position is offered back whole.
A denial or rejection silences that side for ``back_off_s``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field

from skeet.core.accounts import CommandDenied, OrderDenied, OrderEvent, OrderExpired, OrderFilled, OrderRejected
from skeet.core.market import Quote
from skeet.core.strategy import Intent, OpenOrder, Strategy, StrategyContext, buy_limit, cancel, sell_limit
from skeet.core.values import NS_PER_MS, NS_PER_S, Side


class MarketMakerParameters(BaseModel):
    """Parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    notional: Decimal = Field(Decimal(500), gt=0, description="value of each quote, in the quote asset")
    half_spread_bps: Decimal = Field(
        Decimal(5), ge=0, description="distance from the mid, in 1/10,000; at least the touch"
    )
    max_inventory: int = Field(1, ge=1, le=100, description="largest position, in quotes")
    requote_ticks: int = Field(3, ge=1, description="replace a quote that is this many ticks off")
    pause_ms: int = Field(250, ge=0, description="shortest time between two acts on one side")
    back_off_s: float = Field(1.0, ge=0, description="silence on a side after a denial or a rejection")


@dataclass(slots=True)
class SideState:
    """When this side acted last, and until when it is silent."""

    acted_ns: int = 0
    silent_until_ns: int = 0


@dataclass(slots=True)
class MarketMakerState:
    """Both sides."""

    buy: SideState = field(default_factory=SideState)
    sell: SideState = field(default_factory=SideState)

    def of(self, side: Side) -> SideState:
        """The state of one side."""
        return self.buy if side is Side.BUY else self.sell


class MarketMaker(Strategy[MarketMakerState]):
    """A simple market maker."""

    Parameters = MarketMakerParameters
    parameters: MarketMakerParameters

    def initial(self) -> MarketMakerState:
        """Nothing quoted."""
        return MarketMakerState()

    def on_quote(self, state: MarketMakerState, quote: Quote, context: StrategyContext) -> Iterator[Intent]:
        """Follow the market."""
        yield from self._requote(state, context)

    def on_timer(self, state: MarketMakerState, context: StrategyContext) -> Iterator[Intent]:
        """Look again although nothing moved."""
        yield from self._requote(state, context)

    def on_fill(self, state: MarketMakerState, fill: OrderFilled, context: StrategyContext) -> Iterator[Intent]:
        """A position is offered back at once."""
        yield from self._requote(state, context)

    def on_order_update(
        self, state: MarketMakerState, update: OrderEvent, context: StrategyContext
    ) -> Iterator[Intent]:
        """A cancel makes room for the new quote; a post-only order that would have traded was priced too boldly."""
        if isinstance(update, OrderRejected | OrderExpired):
            self._silence(state, context)
        yield from self._requote(state, context)

    def on_denial(
        self, state: MarketMakerState, denial: OrderDenied | CommandDenied, context: StrategyContext
    ) -> Iterator[Intent]:
        """Risk said no: say why and be silent for a while. A cancel that came too late needs neither."""
        if isinstance(denial, OrderDenied):
            context.log("denied", reasons=[breach.detail for breach in denial.breaches])
            state.of(denial.side).silent_until_ns = self._silent_until(context)
        yield from ()

    def _silence(self, state: MarketMakerState, context: StrategyContext) -> None:
        for side in (Side.BUY, Side.SELL):
            if not any(order.side is side for order in context.orders):
                state.of(side).silent_until_ns = self._silent_until(context)

    def _silent_until(self, context: StrategyContext) -> int:
        return context.now_ns + int(self.parameters.back_off_s * NS_PER_S)

    def _requote(self, state: MarketMakerState, context: StrategyContext) -> Iterator[Intent]:
        quote = context.quote
        if quote is None or quote.bid_price >= quote.ask_price:
            return
        for side in (Side.BUY, Side.SELL):
            own = state.of(side)
            if context.now_ns < max(own.silent_until_ns, own.acted_ns + self.parameters.pause_ms * NS_PER_MS):
                continue
            intent = self._side(side, quote, context)
            if intent is not None:
                own.acted_ns = context.now_ns
                yield intent

    def _side(self, side: Side, quote: Quote, context: StrategyContext) -> Intent | None:
        live = [order for order in context.orders if order.side is side]
        price = self._price(side, quote, context)
        quantity = self._quantity(side, price, context)
        if live:
            return self._withdrawal(live[0], price, quantity, context)
        if not quantity or not context.instrument.tradable(quantity, price):
            return None
        place = buy_limit if side is Side.BUY else sell_limit
        return place(quantity, price, rule="quote-" + side.lower(), post_only=True)

    def _withdrawal(
        self, order: OpenOrder, price: Decimal, quantity: Decimal, context: StrategyContext
    ) -> Intent | None:
        if not order.working or order.limit_price is None:
            return None
        off = abs(order.limit_price - price) >= self.parameters.requote_ticks * context.instrument.tick_size
        return cancel(order.order_id, rule="requote") if off or not quantity else None

    def _price(self, side: Side, quote: Quote, context: StrategyContext) -> Decimal:
        """At least ``half_spread_bps`` from the mid, and never better than one tick inside the touch."""
        mid = (quote.bid_price + quote.ask_price) / 2
        distance = mid * self.parameters.half_spread_bps / 10_000
        tick = context.instrument.tick_size
        if side is Side.BUY:
            return context.instrument.round_price(min(mid - distance, quote.ask_price - tick), side)
        return context.instrument.round_price(max(mid + distance, quote.bid_price + tick), side)

    def _quantity(self, side: Side, price: Decimal, context: StrategyContext) -> Decimal:
        """A quote's size, or the whole position on the side that closes it, as far as the balance reaches."""
        held = context.position.quantity
        unit = context.instrument.round_quantity(self.parameters.notional / price)
        closing = held > 0 if side is Side.SELL else held < 0
        if closing and context.instrument.tradable(abs(held), price):
            return abs(held)
        if abs(held) + unit > unit * self.parameters.max_inventory and not closing:
            return Decimal(0)
        funds = context.cash / price if side is Side.BUY else context.inventory
        live = any(order.side is side for order in context.orders)
        return unit if live or funds >= unit else Decimal(0)
