"""Long while the fast average is above the slow one and the book leans our way, flat otherwise.

Follows the worker's ``ema_cross`` and ``book_imbalance`` signals. It buys when the trend is up and the imbalance is at
least ``entry_imbalance``; it sells when the trend turned, the imbalance fell to ``exit_imbalance``, or the position is
older than ``max_hold_s``. ``style`` says how: ``take`` the other side's price at once, or ``join`` our own side and wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from skeet.core.accounts import CommandDenied, OrderDenied, OrderEvent, OrderRejected
from skeet.core.market import Bar, Quote, Signal
from skeet.core.strategy import Intent, Strategy, StrategyContext, buy_limit, cancel, sell_limit
from skeet.core.values import NS_PER_MS, NS_PER_S, Side, TimeInForce


class EmaCrossParameters(BaseModel):
    """Parameters. Periods must be among the worker's (``SKEET_SIGNALS__EMA_PAIRS``)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interval: Literal["1s", "1m"] = Field("1m", description="bars of the averages")
    fast: int = Field(12, ge=2, description="period of the fast average, in bars")
    slow: int = Field(26, ge=3, description="period of the slow average, in bars")
    notional: Decimal = Field(Decimal(1000), gt=0, description="value of a position, in the quote asset")
    entry_imbalance: float = Field(
        0.0, ge=-1, le=1, description="buy only when the book leans at least this far to the bid"
    )
    exit_imbalance: float = Field(-0.6, ge=-1, le=1, description="sell when it leans this far to the ask")
    max_hold_s: float = Field(0.0, ge=0, description="sell a position after this long; 0: never for its age")
    style: Literal["take", "join"] = Field("take", description="take the other side's price, or join our own and wait")
    slack_bps: Decimal = Field(
        Decimal(2), ge=0, le=100, description="how far through the other side's price a take may go"
    )
    patience_s: float = Field(2.0, gt=0, description="a joined order that did not fill is withdrawn after this long")
    pause_ms: int = Field(500, ge=0, description="shortest time between two orders")


@dataclass(slots=True)
class EmaCrossState:
    """What it remembers: the newest signals, and when it entered and last asked."""

    trend_up: bool = False
    imbalance: float = 0.0
    entered_ns: int = 0
    asked_ns: int = 0
    bars_without_signal: int = 0


class EmaCross(Strategy[EmaCrossState]):
    """EMA cross with an imbalance filter; long or flat."""

    Parameters = EmaCrossParameters
    parameters: EmaCrossParameters

    def initial(self) -> EmaCrossState:
        """No trend known: flat until the first signal."""
        return EmaCrossState()

    def on_bar(self, state: EmaCrossState, bar: Bar, context: StrategyContext) -> Iterator[Intent]:
        """Warn when nobody computes the averages that it follows."""
        if bar.interval == self.parameters.interval:
            state.bars_without_signal += 1
            if state.bars_without_signal == 3 * self.parameters.slow:
                context.log(
                    "no ema_cross signal arrives: add the pair to SKEET_SIGNALS__EMA_PAIRS",
                    fast=self.parameters.fast,
                    slow=self.parameters.slow,
                )
        yield from ()

    def on_signal(self, state: EmaCrossState, signal: Signal, context: StrategyContext) -> Iterator[Intent]:
        """Take the signal in and act on it."""
        if signal.name == "book_imbalance":
            state.imbalance = signal.values["imbalance"]
        elif signal.name == "ema_cross" and self._ours(signal):
            state.trend_up = signal.values["fast"] > signal.values["slow"]
            state.bars_without_signal = 0
        else:
            return
        yield from self._act(state, context)

    def on_timer(self, state: EmaCrossState, context: StrategyContext) -> Iterator[Intent]:
        """Positions grow old and joined orders stay unfilled without any signal."""
        yield from self._act(state, context)

    def on_order_update(self, state: EmaCrossState, update: OrderEvent, context: StrategyContext) -> Iterator[Intent]:
        """A venue that refuses is left alone for a while."""
        if isinstance(update, OrderRejected):
            state.asked_ns = context.now_ns + NS_PER_S
        yield from ()

    def on_denial(
        self, state: EmaCrossState, denial: OrderDenied | CommandDenied, context: StrategyContext
    ) -> Iterator[Intent]:
        """Risk said no: say why, and wait before asking again."""
        context.log("denied", reasons=[breach.detail for breach in denial.breaches])
        state.asked_ns = context.now_ns + 2 * NS_PER_S
        yield from ()

    def _ours(self, signal: Signal) -> bool:
        mine = {"fast": str(self.parameters.fast), "slow": str(self.parameters.slow)}
        return signal.interval == self.parameters.interval and signal.parameters == mine

    def _act(self, state: EmaCrossState, context: StrategyContext) -> Iterator[Intent]:
        quote, chosen = context.quote, self.parameters
        if context.orders:
            yield from self._withdraw_stale(state, context)
            return
        if quote is None or context.now_ns - state.asked_ns < chosen.pause_ms * NS_PER_MS:
            return
        held = context.position.quantity
        if held <= 0 and state.trend_up and state.imbalance >= chosen.entry_imbalance:
            price = self._price(Side.BUY, quote)
            quantity = chosen.notional / price
            if context.instrument.tradable(quantity, price) and context.cash >= chosen.notional * Decimal("1.01"):
                state.asked_ns = state.entered_ns = context.now_ns
                yield buy_limit(quantity, price, rule="enter", time_in_force=self._time_in_force)
        elif held > 0 and self._leaves(state, context):
            price = self._price(Side.SELL, quote)
            state.asked_ns = context.now_ns
            yield sell_limit(held, price, rule="exit", time_in_force=self._time_in_force)

    def _price(self, side: Side, quote: Quote) -> Decimal:
        """Our own side's price, or the other side's and a little through it, because it moves while we ask."""
        buying = side is Side.BUY
        if self.parameters.style == "join":
            return quote.bid_price if buying else quote.ask_price
        slack = self.parameters.slack_bps / 10_000
        return quote.ask_price * (1 + slack) if buying else quote.bid_price * (1 - slack)

    def _leaves(self, state: EmaCrossState, context: StrategyContext) -> bool:
        old = self.parameters.max_hold_s
        too_old = bool(old) and context.now_ns - state.entered_ns >= old * NS_PER_S
        return too_old or not state.trend_up or state.imbalance <= self.parameters.exit_imbalance

    def _withdraw_stale(self, state: EmaCrossState, context: StrategyContext) -> Iterator[Intent]:
        if context.now_ns - state.asked_ns >= self.parameters.patience_s * NS_PER_S:
            for order in context.orders:
                if order.working:
                    yield cancel(order.order_id, rule="stale")

    @property
    def _time_in_force(self) -> TimeInForce:
        return TimeInForce.IOC if self.parameters.style == "take" else TimeInForce.GTC
