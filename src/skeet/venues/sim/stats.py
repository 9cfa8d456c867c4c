"""Does the background flow behave like a market? The figures that say so, measured over simulated hours.

What is measured is what the literature calls stylised facts (Cont 2001, "Empirical properties of asset returns"): fat
tails, volatility that clusters, arrivals that cluster; and that the book is tight and never empty.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from skeet.venues.sim.commands import NS_PER_S
from skeet.venues.sim.engine import Engine
from skeet.venues.sim.flow import Flow
from skeet.venues.sim.instruments import default_instruments

ARRIVAL_WINDOW_S = 10
LAG_MIN = 10


@dataclass(slots=True)
class Sample:
    """What one seed's session yields. Prices in ticks."""

    minute_closes: list[float] = field(default_factory=list)
    arrivals: list[int] = field(default_factory=list)
    spreads: list[int] = field(default_factory=list)
    empty_sides: int = 0
    trades: int = 0
    seconds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowStatistics:
    """Pooled over samples. `dispersion`: variance over mean of taker arrivals per 10 s (1 for a Poisson process)."""

    symbol: str
    hours: float
    excess_kurtosis: float
    volatility_clustering: float
    dispersion: float
    median_spread_ticks: float
    empty_sides: int
    trades_per_s: float
    minute_volatility: float

    def failures(self) -> list[str]:
        """Which of the promised properties do not hold."""
        promised = {
            "excess kurtosis of 1-minute returns > 1": self.excess_kurtosis > 1,
            f"autocorrelation of absolute returns at lag {LAG_MIN} > 0.1": self.volatility_clustering > 0.1,
            "dispersion of arrivals > 2": self.dispersion > 2,
            "median spread <= 3 ticks": self.median_spread_ticks <= 3,
            "depth on both sides at all times": self.empty_sides == 0,
        }
        return [name for name, holds in promised.items() if not holds]


def simulate(symbol: str, seed: int, hours: float) -> Sample:
    """Play one seed's flow for `hours` of flow time and look at it once a second. Takes about 1.5 s an hour."""
    listed = default_instruments()
    # Leaders and the legs of a cross come along, because they move it.
    needed = {"BTCUSDT", symbol} if symbol != "ETHBTC" else {"BTCUSDT", "ETHUSDT", symbol}
    engine = Engine({name: each for name, each in listed.items() if name in needed})
    flow, market, sample = Flow(engine, seed), engine.markets[symbol], Sample()
    sample.seconds = int(hours * 3600)
    flow.advance(20.0, -20 * NS_PER_S, 0)
    engine.take()
    window = 0
    for second in range(sample.seconds):
        flow.advance(1.0, second * NS_PER_S, (second + 1) * NS_PER_S)
        mine = [trade for trade in engine.take().trades if trade.symbol == symbol]
        sample.trades += len(mine)
        window += len({trade.ts_ns for trade in mine})
        top = market.book.top()
        sample.empty_sides += (top.bid == 0) + (top.ask == 0)
        sample.spreads.append(top.ask - top.bid)
        if second % ARRIVAL_WINDOW_S == ARRIVAL_WINDOW_S - 1:
            sample.arrivals.append(window)
            window = 0
        if second % 60 == 59:
            sample.minute_closes.append(float(market.last_price))
    return sample


def pool(symbol: str, samples: Sequence[Sample]) -> FlowStatistics:
    """The figures of several sessions together; returns never span two sessions."""
    sessions = [_log_returns(sample.minute_closes) for sample in samples]
    returns = [each for session in sessions for each in session]
    arrivals = [each for sample in samples for each in sample.arrivals]
    seconds = sum(sample.seconds for sample in samples)
    return FlowStatistics(
        symbol=symbol,
        hours=seconds / 3600,
        excess_kurtosis=excess_kurtosis(returns),
        volatility_clustering=pooled_autocorrelation(
            [[abs(each) for each in session] for session in sessions], LAG_MIN
        ),
        dispersion=statistics.pvariance(arrivals) / statistics.fmean(arrivals),
        median_spread_ticks=statistics.median(spread for sample in samples for spread in sample.spreads),
        empty_sides=sum(sample.empty_sides for sample in samples),
        trades_per_s=sum(sample.trades for sample in samples) / seconds,
        minute_volatility=statistics.pstdev(returns),
    )


def excess_kurtosis(values: Sequence[float]) -> float:
    """Fourth standardised moment minus 3; 0 for a normal distribution."""
    mean, variance = statistics.fmean(values), statistics.pvariance(values)
    return statistics.fmean((value - mean) ** 4 for value in values) / variance**2 - 3.0


def pooled_autocorrelation(sessions: Sequence[Sequence[float]], lag: int) -> float:
    """Autocorrelation at a lag over several sessions, with one mean and one variance for all of them."""
    everything = [value for session in sessions for value in session]
    mean, variance = statistics.fmean(everything), statistics.pvariance(everything)
    products = [
        (early - mean) * (late - mean)
        for session in sessions
        for early, late in zip(session, session[lag:], strict=False)
    ]
    return statistics.fmean(products) / variance


def _log_returns(prices: Sequence[float]) -> list[float]:
    return [math.log(late / early) for early, late in pairwise(prices)]
