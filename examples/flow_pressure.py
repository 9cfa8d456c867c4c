"""A strategy with a fast path: it adds up what buyers and sellers take, and acts when one side is ahead by enough.

    skeet strategy start pressure-btc --strategy examples/flow_pressure.py:FlowPressure --account alice --instrument SIM:BTC/USDT

``on_trade`` alone is the whole strategy. ``on_batch`` only adds up, with numpy, the trades after which nothing is to be done yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from skeet.core.market import Trade
from skeet.core.strategy import Batch, Intent, Strategy, StrategyContext, buy_market, sell_market
from skeet.core.values import Side, rescale

SCALE = 8
SIGNS = {Side.BUY: 1, Side.SELL: -1}
SIGN_OF_NUMBER = np.array([SIGNS.get(side, 0) for side in Side])
"""A column of sides holds their numbers."""
LARGEST = 2**62


class Parameters(BaseModel):
    """Checked when the strategy is started."""

    quantity: Decimal = Field(Decimal("0.01"), gt=0, description="what to buy, in base units")
    pressure: Decimal = Field(
        Decimal(25), gt=0, lt=10**9, description="by how much one side must be ahead, in base units"
    )


@dataclass(slots=True)
class State:
    """What buyers took more than sellers since it last decided, in units of 10^-8."""

    flow: int = 0


class FlowPressure(Strategy[State]):
    """Goes with the side that takes more."""

    Parameters = Parameters
    parameters: Parameters

    def initial(self) -> State:
        """Nobody is ahead."""
        return State()

    def on_trade(self, state: State, trade: Trade, context: StrategyContext) -> Iterator[Intent]:
        """Add the trade; decide and begin anew when one side is far enough ahead."""
        state.flow += SIGNS.get(trade.aggressor_side, 0) * rescale(trade.size_mantissa, trade.size_scale, SCALE)
        if abs(state.flow) < self._enough:
            return
        buyers, state.flow = state.flow > 0, 0
        held = context.position.quantity
        if buyers and not held and not context.orders:
            yield buy_market(self.parameters.quantity, rule="pressure")
        elif not buyers and held > 0 and not context.orders:
            yield sell_market(held, rule="relief")

    def on_batch(self, state: State, batch: Batch[Any], context: StrategyContext) -> int:
        """The trades before the first one that puts a side far enough ahead."""
        if batch.kind is not Trade:
            return 0
        sizes, scales = np.asarray(batch.column("size_mantissa")), np.asarray(batch.column("size_scale"))
        scale = int(scales[0])
        if scale > SCALE or (scales != scale).any():
            return 0
        unit = int(10 ** (SCALE - scale))
        if int(sizes.max()) * unit * len(batch) + abs(state.flow) > LARGEST:
            return 0
        signs = SIGN_OF_NUMBER[np.asarray(batch.column("aggressor_side"))]
        flow = state.flow + np.cumsum(signs * sizes * unit)
        enough = np.abs(flow) >= self._enough
        taken = int(enough.argmax()) if enough.any() else len(batch)
        if taken:
            state.flow = int(flow[taken - 1])  # numpy's own numbers cannot be written down
        return taken

    @property
    def _enough(self) -> int:
        return int(self.parameters.pressure.scaleb(SCALE))
