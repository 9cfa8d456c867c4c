"""Strategies as pure code: what a trader writes, what it sees, what it asks for, and the machine that runs it.

A strategy has no clock, no randomness and does no I/O: the same records in the same order make the same commands with the
same ids, live, in a replay and in a backtest.
"""

from skeet.core.strategy.api import Strategy, StrategyContext
from skeet.core.strategy.batches import Batch
from skeet.core.strategy.instrument import TradedInstrument
from skeet.core.strategy.intents import (
    Cancel,
    Intent,
    Place,
    buy_limit,
    buy_market,
    cancel,
    sell_limit,
    sell_market,
)
from skeet.core.strategy.orders import BookState, OpenOrder

__all__ = [
    "Batch",
    "BookState",
    "Cancel",
    "Intent",
    "OpenOrder",
    "Place",
    "Strategy",
    "StrategyContext",
    "TradedInstrument",
    "buy_limit",
    "buy_market",
    "cancel",
    "sell_limit",
    "sell_market",
]
