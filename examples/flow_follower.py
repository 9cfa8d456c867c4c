"""A strategy with windows of its own: it buys when almost everybody bought in the last 250 ms, and sells when they stop.

    skeet strategy start follow-btc --strategy examples/flow_follower.py:FlowFollower --account alice --instrument SIM:BTC/USDT

The windows are part of the strategy's state, so a restart and a replay go on with them as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from pydantic import BaseModel, Field

from skeet.core.market import Trade
from skeet.core.strategy import Intent, Strategy, StrategyContext, buy_market, sell_market
from skeet.core.values import NS_PER_MS, NS_PER_S, Side, rescale
from skeet.core.windows import Closed, Count, Hopping, Sum, Windows, WindowState

SCALE = 8
FLOW = Windows(
    Hopping(size_ns=250 * NS_PER_MS, step_ns=50 * NS_PER_MS),
    {"buy": Sum("buy"), "volume": Sum("size"), "trades": Count()},
    grace_ns=20 * NS_PER_MS,
    idle_after_ns=NS_PER_S,
)


class Parameters(BaseModel):
    """Checked when the strategy is started."""

    quantity: Decimal = Field(Decimal("0.01"), gt=0, description="what to buy, in base units")
    share: Decimal = Field(
        Decimal("0.9"), gt=0.5, le=1, description="share of buyers in the volume that counts as a rush"
    )
    trades: int = Field(5, ge=1, description="trades that a window must hold to count")


@dataclass(slots=True)
class State:
    """The open windows."""

    windows: WindowState


class FlowFollower(Strategy[State]):
    """Follows rushes of buyers."""

    Parameters = Parameters
    parameters: Parameters

    def initial(self) -> State:
        """No window yet."""
        return State(FLOW.initial())

    def on_trade(self, state: State, trade: Trade, context: StrategyContext) -> Iterator[Intent]:
        """Put the trade into its windows; act on those that it closes."""
        size = rescale(trade.size_mantissa, trade.size_scale, SCALE)
        fields = {"size": size, "buy": size if trade.aggressor_side is Side.BUY else 0}
        outcome = FLOW.add(state.windows, trade.instrument_id, trade.ts_event, fields)
        yield from self._act(outcome.closed, context)

    def on_timer(self, state: State, context: StrategyContext) -> Iterator[Intent]:
        """When nobody trades, the clock closes what is open."""
        yield from self._act(FLOW.tick(state.windows, context.now_ns).closed, context)

    def _act(self, closed: tuple[Closed, ...], context: StrategyContext) -> Iterator[Intent]:
        if not closed or context.orders:
            return
        flow = closed[-1].results
        rush = flow["trades"] >= self.parameters.trades and flow["buy"] >= self.parameters.share * flow["volume"]
        if rush and not context.position.quantity:
            yield buy_market(self.parameters.quantity, rule="rush")
        elif not rush and context.position.quantity > 0:
            yield sell_market(context.position.quantity, rule="over")
