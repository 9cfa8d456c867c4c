"""The background flow is a function of its seed, behaves like a market, and trades with customers fairly."""

from __future__ import annotations

import pytest

from skeet.venues.sim.account_events import OrderFilled
from skeet.venues.sim.bars import MINUTE_MS
from skeet.venues.sim.commands import NS_PER_S
from skeet.venues.sim.engine import Engine
from skeet.venues.sim.flow import Flow
from skeet.venues.sim.history import past_bars
from skeet.venues.sim.instruments import default_instruments
from skeet.venues.sim.orders import OrderKind, OrderRequest, Side, Trade
from skeet.venues.sim.stats import pool, simulate
from skeet.venues.sim.units import UNIT

SEEDS = (1, 2, 3, 4)
POOLED_HOURS = 24


def play(seed: int, seconds: int, step_s: float = 1.0) -> tuple[Engine, list[Trade]]:
    engine = Engine(default_instruments())
    flow, trades = Flow(engine, seed), []
    for number in range(int(seconds / step_s)):
        flow.advance(step_s, int(number * step_s * NS_PER_S), int((number + 1) * step_s * NS_PER_S))
        trades += engine.take().trades
    return engine, trades


@pytest.mark.timeout(600)
def test_flow_behaves_like_a_market_over_a_pooled_day() -> None:
    statistics = pool("BTCUSDT", [simulate("BTCUSDT", seed, POOLED_HOURS / len(SEEDS)) for seed in SEEDS])
    assert statistics.hours == POOLED_HOURS
    assert statistics.failures() == [], statistics


def test_same_seed_makes_the_same_trades_and_another_seed_others() -> None:
    once, again, other = (play(seed, 120)[1] for seed in (5, 5, 6))
    assert once == again
    assert once != other


def test_trades_of_an_instrument_are_in_time_order_with_contiguous_ids() -> None:
    _, trades = play(5, 300)
    for symbol in default_instruments():
        mine = [trade for trade in trades if trade.symbol == symbol]
        assert [trade.trade_id for trade in mine] == list(range(1, len(mine) + 1))
        assert [trade.ts_ns for trade in mine] == sorted(trade.ts_ns for trade in mine)
        assert len(mine) > 5


def test_customer_at_the_best_price_is_filled_by_the_flow() -> None:
    engine, _ = play(5, 30)
    flow, market = Flow(engine, 6), engine.markets["BTCUSDT"]
    engine.open_account("ann", 0)
    engine.transfer("ann", "k", "USDT", 1_000_000 * UNIT, 0)
    best = market.book.top().bid
    request = OrderRequest(
        account="ann",
        symbol="BTCUSDT",
        side=Side.BUY,
        kind=OrderKind.LIMIT_MAKER,
        client_order_id="c",
        price=best * market.instrument.tick,
        quantity=UNIT // 100,
    )
    engine.place(request, 0)
    for number in range(600):
        flow.advance(1.0, number * NS_PER_S, (number + 1) * NS_PER_S)
        fills = [event for event in engine.take().events if isinstance(event, OrderFilled)]
        if fills:
            break
    assert fills and all(fill.is_maker for fill in fills)


def test_history_ends_at_the_start_price_and_has_every_minute() -> None:
    instruments = list(default_instruments().values())[:2]
    end_ms = 1_700_000_040_000 // MINUTE_MS * MINUTE_MS
    history = past_bars(instruments, 7, 3_000, end_ms)
    assert history == past_bars(instruments, 7, 3_000, end_ms)
    for instrument in instruments:
        bars = history[instrument.symbol]
        assert [bar.open_ms for bar in bars] == list(range(end_ms - 3_000 * MINUTE_MS, end_ms, MINUTE_MS))
        assert bars[-1].close == instrument.start_price // instrument.tick
        assert all(bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in bars)
        assert all(0 < bar.taker_volume < bar.volume and bar.trades > 0 for bar in bars)
