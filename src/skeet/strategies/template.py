"""What ``skeet strategy new NAME`` writes: a strategy that works, its test, its parameters."""

from __future__ import annotations

from pathlib import Path

from skeet.core.errors import InvalidInput

STRATEGY = '''"""{title}: buys when the price fell by `dip_bps` below its own average, sells when it is back.

Handlers may change `state` and yield what they want done; everything to remember lives in the state.
No clock, no randomness, no files: the same events must always make the same orders.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from pydantic import BaseModel, Field

from skeet.core.market import Bar, Trade
from skeet.core.strategy import Intent, Strategy, StrategyContext, buy_market, sell_market


class Parameters(BaseModel):
    """Checked when the strategy is started; see parameters.json."""

    notional: Decimal = Field(Decimal(500), gt=0, description="value of a position, in the quote asset")
    dip_bps: Decimal = Field(Decimal(10), gt=0, description="how far below the average to buy, in 1/10,000")
    smoothing: Decimal = Field(Decimal("0.05"), gt=0, le=1, description="weight of the newest price in the average")


@dataclass(slots=True)
class State:
    """What it remembers from one event to the next."""

    average: Decimal = Decimal(0)


class {class_name}(Strategy[State]):
    """Buys dips; see the module's text."""

    Parameters = Parameters
    parameters: Parameters

    def initial(self) -> State:
        """The state before the first event."""
        return State()

    def warm_up(self) -> dict[str, int]:
        """Past bars to start from."""
        return {{"1m": 30}}

    def on_start(self, state: State, bars: tuple[Bar, ...], context: StrategyContext) -> Iterator[Intent]:
        """Average over the warm-up bars."""
        for bar in bars:
            self._smooth(state, bar.close)
        yield from ()

    def on_trade(self, state: State, trade: Trade, context: StrategyContext) -> Iterator[Intent]:
        """Compare every trade with the average."""
        self._smooth(state, trade.price)
        if context.orders:
            return
        held = context.position.quantity
        dip = state.average * (1 - self.parameters.dip_bps / 10_000)
        if not held and trade.price <= dip:
            context.log("dip", price=str(trade.price), average=str(round(state.average, 2)))
            yield buy_market(self.parameters.notional / trade.price, rule="dip")
        elif held > 0 and trade.price >= state.average:
            yield sell_market(held, rule="back")

    def _smooth(self, state: State, price: Decimal) -> None:
        weight = self.parameters.smoothing if state.average else Decimal(1)
        state.average += weight * (price - state.average)
'''

TEST = '''"""Given market events, when the strategy sees them, then these orders."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

from skeet.agents.strategy_loading import load_strategy, parse_parameters
from skeet.strategies.testing import Bench

FOLDER = Path(__file__).parent


def bench() -> Bench:
    strategy = load_strategy("strategy.py:{class_name}", FOLDER)
    return Bench(strategy(parse_parameters(strategy, json.loads((FOLDER / "parameters.json").read_text()))))


def test_buys_a_dip_and_sells_when_the_price_is_back() -> None:
    trader = bench()
    trader.start([trader.made_bar("100") for _ in range(30)])
    assert trader.trade("100") == []

    (bought,) = trader.trade("99")
    assert (bought.side, bought.rule) == ("BUY", "dip")
    trader.fill(price=Decimal(99))
    assert trader.position > 0

    (sold,) = trader.trade("100")
    assert (sold.side, sold.quantity) == ("SELL", trader.position)


def test_does_not_ask_twice_while_an_order_is_open() -> None:
    trader = bench()
    trader.start([trader.made_bar("100")])
    assert len(trader.trade("99")) == 1
    assert trader.trade("98") == []
'''

PARAMETERS = """{
  "notional": "500",
  "dip_bps": "10",
  "smoothing": "0.05"
}
"""


def write_strategy(name: str, folder: Path) -> list[Path]:
    """Write ``folder/name/`` with strategy, test and parameters; returns the files.

    Raises
    ------
    InvalidInput
        the name cannot be a Python name, or the folder exists already: nothing is overwritten.
    """
    if not name.isidentifier() or name != name.lower():
        raise InvalidInput(f"strategy name is {name!r}: use lower case letters, digits and underscores, as in buy_dips")
    place = folder / name
    if place.exists():
        raise InvalidInput(f"{place} exists already; choose another name or remove it")
    place.mkdir(parents=True)
    class_name = "".join(part.capitalize() for part in name.split("_"))
    title = name.replace("_", " ").capitalize()
    texts = {
        "strategy.py": STRATEGY.format(title=title, class_name=class_name),
        f"test_{name}.py": TEST.replace("{class_name}", class_name),
        "parameters.json": PARAMETERS,
    }
    for file, text in texts.items():
        (place / file).write_text(text)
    return [place / file for file in texts]
