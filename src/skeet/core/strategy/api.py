"""What a trader writes: a class with parameters, a state, and handlers that return intents.

::

    @dataclass(slots=True)
    class State:
        last: Decimal = Decimal(0)

    class BuyDips(Strategy[State]):
        Parameters = BuyDipsParameters          # a pydantic model

        def initial(self) -> State:
            return State()

        def on_trade(self, state, trade, context):
            if trade.price < state.last * Decimal("0.999") and not context.position.quantity:
                yield buy_market(self.parameters.quantity, rule="dip")
            state.last = trade.price

Handlers may change ``state`` in place and return (or yield) intents. Everything a strategy remembers lives in its state:
the object itself is shared by runs and holds parameters only. Arithmetic inside handlers is ordinary ``Decimal`` with 34
digits; prices and quantities of intents are rounded to the instrument's steps afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Generic, TypeVar

from skeet.core.accounts import CommandDenied, OrderDenied, OrderEvent, OrderFilled
from skeet.core.market import Bar, BookDelta, BookSnapshot, Quote, Signal, Trade
from skeet.core.positions import Position
from skeet.core.record import MarketEvent
from skeet.core.strategy.batches import Batch
from skeet.core.strategy.instrument import TradedInstrument
from skeet.core.strategy.intents import Intent
from skeet.core.strategy.orders import OpenOrder

S = TypeVar("S")
Intents = Iterable[Intent]
NOTHING: Intents = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyContext:
    """What a strategy may look at, as of the event being handled; read-only.

    ``position`` and ``orders`` are this instance's own book; ``cash`` and ``inventory`` the account's free balance of the
    quote and base asset. ``now_ns`` is event time. ``quote`` is the newest best bid and ask (None until the first).
    ``log("text", name=value)`` writes a log line; it changes nothing.
    """

    position: Position
    orders: tuple[OpenOrder, ...]
    cash: Decimal
    inventory: Decimal
    instrument: TradedInstrument
    now_ns: int
    quote: Quote | None
    log: Callable[..., None]


class Strategy(Generic[S]):
    """Base of all strategies. Override ``initial`` and the handlers you need: only their topics are read.

    ``Parameters`` is a pydantic model; the instance given to ``__init__`` is ``self.parameters``.
    """

    Parameters: ClassVar[type[Any]]

    def __init__(self, parameters: Any) -> None:
        self.parameters = parameters

    def initial(self) -> S:
        """The state before the first event."""
        raise NotImplementedError(f"{type(self).__name__} must say its initial state")

    def warm_up(self) -> Mapping[str, int]:
        """How many past bars of which interval ``on_start`` wants, as in ``{"1m": 200}``."""
        return {}

    def on_start(self, state: S, bars: tuple[Bar, ...], context: StrategyContext) -> Intents:
        """Once, before anything else, with the warm-up bars in order of time."""
        return NOTHING

    def on_trade(self, state: S, trade: Trade, context: StrategyContext) -> Intents:
        """Every trade of the instrument."""
        return NOTHING

    def on_quote(self, state: S, quote: Quote, context: StrategyContext) -> Intents:
        """Every change of best bid or ask."""
        return NOTHING

    def on_book(self, state: S, update: BookSnapshot | BookDelta, context: StrategyContext) -> Intents:
        """Every book snapshot and delta."""
        return NOTHING

    def on_bar(self, state: S, bar: Bar, context: StrategyContext) -> Intents:
        """Every closed bar, of each interval."""
        return NOTHING

    def on_signal(self, state: S, signal: Signal, context: StrategyContext) -> Intents:
        """Every signal computed on the instrument."""
        return NOTHING

    def on_timer(self, state: S, context: StrategyContext) -> Intents:
        """Once a second of event time."""
        return NOTHING

    def on_order_update(self, state: S, update: OrderEvent, context: StrategyContext) -> Intents:
        """One of this strategy's orders was authorised, submitted, accepted, canceled, rejected, expired …"""
        return NOTHING

    def on_denial(self, state: S, denial: OrderDenied | CommandDenied, context: StrategyContext) -> Intents:
        """Risk refused one of this strategy's commands; all reasons are in ``denial.breaches``."""
        return NOTHING

    def on_fill(self, state: S, fill: OrderFilled, context: StrategyContext) -> Intents:
        """One of this strategy's orders traded; position and orders in the context include it."""
        return NOTHING

    def on_batch(self, state: S, batch: Batch[MarketEvent], context: StrategyContext) -> int:
        """An optional fast path: take rows from the front of the batch into ``state``, and return how many.

        Only such rows may be taken for which the class's own handler would ask for nothing, and the state must be what the
        handler would leave. Stop before the first other row: that one is given to its handler, and the rest is offered again. So
        commands are the handlers' alone, and the same however records happen to wait together.

        The context is that of the first row; of it only ``quote`` and ``now_ns`` change along the rows (``batch.quotes``,
        ``batch.now_ns``). Offered are at least eight rows of one class that has a handler; look at ``batch.kind``. An error halts.
        """
        return 0


def overrides(strategy: type[Strategy[Any]], handler: str) -> bool:
    """Whether a strategy has its own version of a handler."""
    return getattr(strategy, handler) is not getattr(Strategy, handler)
