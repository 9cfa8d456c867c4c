"""A strategy's fast path: the same commands and memory as its handlers, and a wrong one is found."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from skeet.core.control import StrategyHalted
from skeet.core.market import Quote, Tick, Trade
from skeet.core.record import Event
from skeet.core.strategy import Batch, Intent, Strategy, StrategyContext, buy_limit
from skeet.core.strategy.batches import MIN_ROWS
from skeet.core.values import Side, exact_arithmetic
from skeet.strategies.agreement import TOPICS, BatchesDisagree, assert_batches_agree, processor_time, random_market
from skeet.strategies.testing import INSTRUMENT, Bench

EXAMPLE = Path(__file__).parents[2] / "examples" / "flow_pressure.py"
MARKET = random_market(seed=7)


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("flow_pressure", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["flow_pressure"] = module
    spec.loader.exec_module(module)
    return module


@dataclass
class Memory:
    seen: list[Any] = field(default_factory=list)
    count: int = 0


OnBatch = Callable[[Memory, Batch[Any], StrategyContext], int]


class Every(Strategy[Memory]):
    """Remembers what it sees of every trade, and buys at each fiftieth; the fast path is a test's."""

    def __init__(self, on_batch: OnBatch) -> None:
        super().__init__(None)
        self._on_batch = on_batch

    def initial(self) -> Memory:
        return Memory()

    def on_trade(self, state: Memory, trade: Trade, context: StrategyContext) -> Iterator[Intent]:
        state.count += 1
        state.seen.append([trade.price_mantissa, context.now_ns, context.quote, len(context.orders)])
        del state.seen[:-20]
        if state.count % 50 == 0:
            yield buy_limit(Decimal("0.01"), trade.price, rule="fiftieth")

    def on_batch(self, state: Memory, batch: Batch[Any], context: StrategyContext) -> int:
        return self._on_batch(state, batch, context)


def right(state: Memory, batch: Batch[Any], context: StrategyContext) -> int:
    """What ``on_trade`` does with the trades before the next fiftieth."""
    taken = min(len(batch), 49 - state.count % 50)
    prices = batch.column("price_mantissa")
    for row in range(taken):
        state.seen.append([prices[row], batch.now_ns[row], batch.quotes[row], len(context.orders)])
    del state.seen[:-20]
    state.count += taken
    return taken


class EveryQuote(Every):
    """With a handler of quotes, so that they end stretches of trades and are offered themselves."""

    def on_quote(self, state: Memory, quote: Quote, context: StrategyContext) -> Iterator[Intent]:
        assert context.quote is quote
        state.seen.append([quote.bid_price_mantissa, context.now_ns])
        yield from ()

    def on_batch(self, state: Memory, batch: Batch[Any], context: StrategyContext) -> int:
        if batch.kind is Trade:
            return right(state, batch, context)
        assert all(quote is event for quote, event in zip(batch.quotes, batch.events, strict=True))
        state.seen += [list(pair) for pair in zip(batch.column("bid_price_mantissa"), batch.now_ns, strict=True)]
        return len(batch)


def test_the_example_gives_the_same_commands_in_any_chunks(example: ModuleType) -> None:
    strategy = example.FlowPressure(example.Parameters(pressure=Decimal(10)))
    assert assert_batches_agree(strategy, MARKET) > 20


def test_the_fast_path_is_the_faster_one(example: ModuleType) -> None:
    """Threefold as measured; here only that it is none the slower, on any machine."""
    trades = [event for event in MARKET if isinstance(event, Trade)]
    alone, together = processor_time(example.FlowPressure(example.Parameters(pressure=Decimal(100))), trades)
    assert 0 < together < alone


def test_unusual_trades_are_left_to_the_handler(example: ModuleType) -> None:
    """A venue that changes its scale, and sizes that int64 would not hold together."""
    odd = [
        replace(event, size_scale=7, size_mantissa=event.size_mantissa // 10)
        if isinstance(event, Trade) and number % 97 == 0
        else replace(event, size_mantissa=2**61)
        if isinstance(event, Trade) and number % 193 == 0
        else event
        for number, event in enumerate(MARKET)
    ]
    strategy = example.FlowPressure(example.Parameters(pressure=Decimal(10)))
    assert assert_batches_agree(strategy, odd, rounds=8) > 20


@pytest.mark.parametrize("kind", [Every, EveryQuote])
def test_a_row_shows_what_its_handler_would_see(kind: type[Every]) -> None:
    """Late times, quotes between trades, orders, seconds of the log: the helper compares the machine's whole state."""
    assert assert_batches_agree(kind(right), MARKET) > 20


def takes_the_fiftieth(state: Memory, batch: Batch[Any], context: StrategyContext) -> int:
    rest = [[e.price_mantissa, at, q, len(context.orders)] for e, at, q in zip(batch.events, batch.now_ns, batch.quotes, strict=True)]  # fmt: skip
    state.seen = [*state.seen, *rest][-20:]
    state.count += len(batch)
    return len(batch)


def forgets_a_row(state: Memory, batch: Batch[Any], context: StrategyContext) -> int:
    taken = right(state, batch, context)
    state.seen = state.seen[:-1] if taken else state.seen
    return taken


def sees_the_first_quote_only(state: Memory, batch: Batch[Any], context: StrategyContext) -> int:
    taken = right(state, batch, context)
    for row in range(1, min(taken, 20) + 1):
        state.seen[-row][2] = context.quote
    return taken


def counts_with_numpy(state: Memory, batch: Batch[Any], context: StrategyContext) -> int:
    taken = right(state, batch, context)
    state.count = np.int64(state.count)  # type: ignore[assignment]
    return taken


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (takes_the_fiftieth, "the handlers give SubmitOrder.* caused by market.trades.v1/.* with on_batch it is no command"),
        (forgets_a_row, r"state\.user\.seen.* after the handlers is "),
        (sees_the_first_quote_only, r"state\.user\.seen\[.*\]\[2\].* after the handlers is "),
        (counts_with_numpy, "state.user.count after the handlers is int .*; with on_batch it is int64 "),
    ],
)  # fmt: skip
def test_a_wrong_fast_path_is_found_and_named(wrong: OnBatch, named: str) -> None:
    with pytest.raises(BatchesDisagree, match=rf"^round \d+ of seed 0, \d+ records from .*{named}"):
        assert_batches_agree(Every(wrong), MARKET)


def step_together(bench: Bench, events: list[Event]) -> tuple[Any, ...]:
    records = [bench.record(event, TOPICS[type(event)]) for event in events]
    with exact_arithmetic():
        return bench.machine.step_all(bench.state, records)[1]


def trades(count: int, instrument_id: str = INSTRUMENT.instrument_id) -> list[Event]:
    only = [event for event in MARKET if isinstance(event, Trade)]
    return [replace(event, instrument_id=instrument_id) for event in only[:count]]


def raises(state: Memory, batch: Batch[Any], context: StrategyContext) -> int:
    raise ZeroDivisionError


@pytest.mark.parametrize("on_batch", [raises, lambda *_: -1, lambda _, batch, __: len(batch) + 1, lambda *_: 1.0])
def test_an_error_in_on_batch_halts_as_one_in_a_handler_does(on_batch: OnBatch) -> None:
    bench = Bench(Every(on_batch))
    (out,) = step_together(bench, trades(MIN_ROWS))
    assert isinstance(out.event, StrategyHalted)
    assert out.event.handler == "on_batch"
    assert bench.state.halted
    assert step_together(bench, trades(MIN_ROWS)) == ()


def offered(events: list[Event], takes: int = 0) -> list[int]:
    lengths: list[int] = []

    def on_batch(state: Memory, batch: Batch[Any], context: StrategyContext) -> int:
        lengths.append(len(batch))
        return takes

    step_together(Bench(Every(on_batch)), events)
    return lengths


def test_what_the_strategy_could_notice_ends_an_offer() -> None:
    ten, tick = trades(10), Tick(ts_event=1)
    assert offered([*ten, tick, *ten], takes=10) == [10, 10]
    assert offered([*ten, *trades(1, "SIM:ETH/USDT"), *ten], takes=10) == [10, 10]
    assert offered([*ten[:7], tick, *ten[:7]]) == [], "a few are not worth columns"
    quotes: list[Event] = [event for event in MARKET if isinstance(event, Quote)]
    assert offered([*ten, *quotes[:5], *ten], takes=20) == [20], "quotes without a handler do not"


def test_the_rest_is_offered_again_behind_the_row_that_was_left() -> None:
    assert offered(trades(30), takes=5) == [30, 24, 18, 12]


def test_columns_hold_integers_and_numbers_of_enumerations_and_cannot_be_changed() -> None:
    rows: list[Any] = trades(3)
    batch = Batch(Trade, rows, [None] * 3, memoryview(b"")).rest(1)
    assert list(batch.column("price_mantissa")) == [row.price_mantissa for row in rows[1:]]
    assert [list(Side)[number] for number in batch.column("aggressor_side")] == [r.aggressor_side for r in rows[1:]]
    assert list(batch.column("backfilled")) == [0, 0]
    with pytest.raises(TypeError):
        batch.column("trade_id")
    with pytest.raises(TypeError):
        batch.column("price_mantissa")[0] = 1
    assert not np.asarray(batch.column("price_mantissa")).flags.writeable
