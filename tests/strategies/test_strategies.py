"""The strategies that ship, and the one that `skeet strategy new` writes."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from skeet.agents.strategy_loading import code_version, load_strategy, parse_parameters
from skeet.core.commands import CancelOrder, SubmitOrder
from skeet.core.errors import InvalidInput
from skeet.core.values import Side, TimeInForce
from skeet.strategies.ema_cross import EmaCross, EmaCrossParameters
from skeet.strategies.market_maker import MarketMaker, MarketMakerParameters
from skeet.strategies.template import write_strategy
from skeet.strategies.testing import Bench


def ema_cross(**parameters: object) -> Bench:
    chosen = {
        "interval": "1s",
        "fast": 3,
        "slow": 8,
        "entry_imbalance": 0.1,
        "exit_imbalance": -0.1,
        "pause_ms": 0,
        "slack_bps": 0,
    }
    bench = Bench(EmaCross(EmaCrossParameters.model_validate(chosen | parameters)))
    bench.start()
    bench.quote("99.99", "100.01")
    return bench


def cross(bench: Bench, fast: float, slow: float) -> list[SubmitOrder | CancelOrder]:
    return bench.signal("ema_cross", {"fast": fast, "slow": slow}, {"fast": "3", "slow": "8"}, "1s")


def test_ema_cross_enters_only_when_trend_and_imbalance_agree() -> None:
    bench = ema_cross()
    assert bench.signal("book_imbalance", {"imbalance": 0.5}) == []
    (order,) = cross(bench, 2.0, 1.0)
    assert isinstance(order, SubmitOrder)
    assert (order.side, order.limit_price, order.time_in_force) == (Side.BUY, Decimal("100.01"), TimeInForce.IOC)
    assert cross(bench, 2.0, 1.0) == [], "an order is on its way"


def test_ema_cross_leaves_when_the_trend_turns_with_exactly_what_it_holds() -> None:
    bench = ema_cross()
    bench.signal("book_imbalance", {"imbalance": 0.5})
    cross(bench, 2.0, 1.0)
    bench.fill()
    held = bench.position
    (order,) = cross(bench, 1.0, 2.0)
    assert isinstance(order, SubmitOrder)
    assert (order.side, order.quantity) == (Side.SELL, held)
    bench.fill()
    assert bench.position == 0


def test_ema_cross_ignores_other_periods_and_intervals() -> None:
    bench = ema_cross()
    bench.signal("book_imbalance", {"imbalance": 0.5})
    assert bench.signal("ema_cross", {"fast": 2.0, "slow": 1.0}, {"fast": "12", "slow": "26"}, "1s") == []
    assert bench.signal("ema_cross", {"fast": 2.0, "slow": 1.0}, {"fast": "3", "slow": "8"}, "1m") == []


def test_ema_cross_sells_a_position_that_is_too_old() -> None:
    bench = ema_cross(max_hold_s=2.0, exit_imbalance=-1)
    bench.signal("book_imbalance", {"imbalance": 0.5})
    cross(bench, 2.0, 1.0)
    bench.fill()
    assert bench.tick(1.0) == []
    assert len(bench.tick(1.0)) == 1


def market_maker(**parameters: object) -> Bench:
    chosen = {"notional": "500", "half_spread_bps": "1", "pause_ms": 0}
    return Bench(MarketMaker(MarketMakerParameters.model_validate(chosen | parameters)), inventory=Decimal(10))


def test_market_maker_quotes_both_sides_post_only_around_the_mid() -> None:
    buy, sell = market_maker().quote("99.95", "100.05")
    assert isinstance(buy, SubmitOrder)
    assert isinstance(sell, SubmitOrder)
    assert (buy.limit_price, sell.limit_price) == (Decimal("99.99"), Decimal("100.01"))
    assert buy.post_only
    assert sell.post_only


def test_market_maker_never_has_two_orders_on_a_side_and_cancels_before_it_replaces() -> None:
    bench = market_maker()
    bench.quote("99.95", "100.05")
    assert bench.quote("101.95", "102.05") == [], "orders that are not at the venue yet are left alone"
    resting = [order.order_id for order in bench.orders]
    (first,) = bench.accept(resting[0])
    (second,) = bench.accept(resting[1])
    assert isinstance(first, CancelOrder)
    assert isinstance(second, CancelOrder)
    assert bench.quote("103.95", "104.05") == [], "a withdrawal is asked for once"
    (replacement,) = bench.canceled(first.order_id)
    assert isinstance(replacement, SubmitOrder)
    assert replacement.limit_price == Decimal("103.98")


def test_market_maker_offers_a_position_back_whole_and_stops_buying_at_its_limit() -> None:
    bench = market_maker()
    bench.quote("99.95", "100.05")
    buy, sell = bench.orders
    bench.fill(buy.order_id)
    assert bench.position == buy.quantity
    bench.canceled(sell.order_id)
    sides = [(order.side, order.quantity) for order in bench.orders]
    assert sides == [(Side.SELL, buy.quantity)]


def test_market_maker_is_silent_on_a_side_after_a_denial() -> None:
    bench = market_maker(back_off_s=2)
    bench.quote("99.95", "100.05")
    denied = bench.orders[0]
    assert bench.deny("too much", denied.order_id) == []
    assert bench.tick(1) == []
    assert [c.side for c in bench.tick(1.5) if isinstance(c, SubmitOrder)] == [Side.BUY]


def test_new_strategy_passes_its_own_test_and_loads_by_name(tmp_path: Path) -> None:
    write_strategy("buy_dips", tmp_path)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "buy_dips")],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    strategy = load_strategy("buy_dips", tmp_path)
    assert strategy.__name__ == "BuyDips"
    parameters = parse_parameters(strategy, {"notional": "7"})
    assert code_version(strategy, parameters) != code_version(strategy, parse_parameters(strategy, {}))
    with pytest.raises(InvalidInput, match="exists already"):
        write_strategy("buy_dips", tmp_path)


def test_wrong_parameters_and_names_are_refused_with_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"parameter 'fast' is 1.*EmaCross takes interval, fast, slow"):
        parse_parameters(EmaCross, {"fast": 1})
    with pytest.raises(InvalidInput, match="ema-cross, market-maker"):
        load_strategy("no_such_thing", tmp_path)
