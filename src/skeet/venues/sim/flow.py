"""The background flow: who trades here when no customer does.

For every instrument a hidden fair price wanders with stochastic volatility (two factors, so that calm and storm cluster),
a slowly turning drift (trends) and a share of the leader's moves (BTC leads). House makers requote around it; house
takers arrive as a self-exciting (Hawkes) process and walk through the book, customers' orders included. The flow is a
pure function of the seed, the steps it is told to make and the books it finds: it knows no clock.

Times inside are seconds of flow time; `advance` maps them onto the wall clock interval of the step.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from skeet.venues.sim.book import HalfBook
from skeet.venues.sim.engine import Engine, Market
from skeet.venues.sim.instruments import Instrument
from skeet.venues.sim.orders import HOUSE, Side

MAX_LEVELS = 60
"""House levels kept per side; the farthest go first."""
MIN_LEVELS = 5
"""Below this many levels a side is refilled at once, so that there is always depth."""
EXCITEMENT_DECAY_PER_S = 0.8
EXCITEMENT_JUMP = 0.52
"""Each taker raises the arrival rate by this much per second; with the decay: 0.65 followers per taker."""
SLOW_VOL = (0.6, 5_400.0)
FAST_VOL = (0.6, 1_200.0)
"""Log-volatility factors: standard deviation, and mean-reversion time in seconds."""
MAX_ACTIVITY = 3.0
"""Storms raise arrivals at most this many times, however wild the price."""
DRIFT = (0.2, 300.0)
"""Trend: its size as a share of one minute's volatility, and how long it lasts in seconds."""
ANCHOR_S = 20 * 86_400.0
"""Time over which the fair price is pulled back to its start, so that months of flow stay in a plausible range."""
SIDE_PERSISTENCE = 0.55
"""Chance that a taker follows the previous one's side (orders are split in real life)."""
MAKERS_AT_TOUCH = 2
SPREAD_TICKS = (1, 1, 1, 1, 2, 2, 2, 3, 3, 5)
"""What makers quote, drawn evenly; wider when volatility is high."""
TAKER_PRESSURE = 0.08
"""How far a median taker pushes the price, as a share of one minute's volatility at the time."""
PRESSURE_DECAY_S = 12.0
"""Pressure is transient: the price overshoots and comes back, which is what quick strategies live on."""
SWEEP_LIMIT = 0.0003
"""A taker walks the book at most this far (a share of the price)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How lively one instrument is at speed 1. Sizes are medians, in lots."""

    takers_per_s: float
    requotes_per_s: float
    minute_volatility: float
    taker_lots: int
    maker_lots: int
    leader: str = ""
    leader_share: float = 0.0
    cross: tuple[str, str] | None = None


PROFILES = {
    "BTCUSDT": Profile(takers_per_s=0.8, requotes_per_s=4, minute_volatility=4.5e-4, taker_lots=800, maker_lots=12_000),
    "ETHUSDT": Profile(
        takers_per_s=0.6,
        requotes_per_s=4,
        minute_volatility=3e-4,
        taker_lots=1_500,
        maker_lots=22_000,
        leader="BTCUSDT",
        leader_share=1.0,
    ),
    "SOLUSDT": Profile(
        takers_per_s=0.25,
        requotes_per_s=2,
        minute_volatility=5e-4,
        taker_lots=3_000,
        maker_lots=40_000,
        leader="BTCUSDT",
        leader_share=1.0,
    ),
    "ETHBTC": Profile(
        takers_per_s=0.12,
        requotes_per_s=1,
        minute_volatility=1e-4,
        taker_lots=150,
        maker_lots=2_500,
        cross=("ETHUSDT", "BTCUSDT"),
    ),
}


@dataclass(slots=True)
class FairPrice:
    """The hidden state that quotes follow, all of it plain numbers so that a snapshot can hold it."""

    log_price: float
    slow_vol: float = 0.0
    fast_vol: float = 0.0
    drift: float = 0.0
    leader_seen: float = 0.0
    basis: float = 0.0
    excitement: float = 0.0
    overshoot: float = 0.0
    buying: bool = True
    unmoved_s: float = 0.0


class InstrumentFlow:
    """Makers and takers of one instrument."""

    __slots__ = ("_cross", "_leader", "_market", "_rng", "_start", "_tick", "profile", "state")

    def __init__(self, market: Market, profile: Profile, seed: str, peers: dict[str, InstrumentFlow]) -> None:
        instrument = market.instrument
        self._market = market
        self.profile = profile
        self._tick = float(instrument.tick)
        self._rng = random.Random(seed)
        self._start = math.log(instrument.start_price)
        self._leader = peers[profile.leader] if profile.leader else None
        self._cross = (peers[profile.cross[0]], peers[profile.cross[1]]) if profile.cross else None
        self.state = FairPrice(self._start)
        if self._leader is not None:
            self.state.leader_seen = self._leader.state.log_price

    def advance(self, engine: Engine, elapsed_s: float, from_ns: int, to_ns: int) -> None:
        """Play `elapsed_s` seconds of flow into the book, stamped between `from_ns` and `to_ns`."""
        profile, state, rng = self.profile, self.state, self._rng
        ns_per_s = (to_ns - from_ns) / elapsed_s
        passed = 0.0
        while True:
            activity = self._activity()
            requotes, takers = profile.requotes_per_s * activity, profile.takers_per_s * activity
            # Thinning: the rate can only fall until the next arrival, so its present value bounds it.
            bound = requotes + takers + state.excitement
            wait = rng.expovariate(bound)
            if passed + wait > elapsed_s:
                self._pass(elapsed_s - passed)
                break
            passed += wait
            self._pass(wait)
            pick = rng.random() * bound
            ts_ns = from_ns + int(passed * ns_per_s)
            if pick < requotes:
                self._requote(engine, ts_ns)
            elif pick < requotes + takers + state.excitement:
                state.excitement += EXCITEMENT_JUMP
                self._take(engine, ts_ns)
        if self._thin():
            self._requote(engine, to_ns)

    def _pass(self, elapsed_s: float) -> None:
        self.state.excitement *= math.exp(-EXCITEMENT_DECAY_PER_S * elapsed_s)
        self.state.overshoot *= math.exp(-elapsed_s / PRESSURE_DECAY_S)
        self.state.unmoved_s += elapsed_s

    def _activity(self) -> float:
        """How lively it is, against an average hour."""
        return min(math.exp(self.state.slow_vol + self.state.fast_vol), MAX_ACTIVITY)

    def _thin(self) -> bool:
        book = self._market.book
        return len(book.bids.prices) < MIN_LEVELS or len(book.asks.prices) < MIN_LEVELS

    # --- the fair price -----------------------------------------------------------------------------------------------

    def _move(self) -> None:
        """Let the hidden price and its volatility live through the time since the last move."""
        state, gauss = self.state, self._rng.gauss
        elapsed, state.unmoved_s = state.unmoved_s, 0.0
        state.slow_vol = _revert(state.slow_vol, *SLOW_VOL, elapsed, gauss(0.0, 1.0))
        state.fast_vol = _revert(state.fast_vol, *FAST_VOL, elapsed, gauss(0.0, 1.0))
        minutes = elapsed / 60.0
        sigma = self.profile.minute_volatility * math.exp(state.slow_vol + state.fast_vol)
        if self._cross is not None:
            state.basis = _revert(state.basis, sigma, 60.0, elapsed, gauss(0.0, 1.0))
            base, quote = self._cross
            cross = base.state.log_price - base._start - (quote.state.log_price - quote._start)
            state.log_price = self._start + cross + state.basis
            return
        state.drift = _revert(
            state.drift, DRIFT[0] * self.profile.minute_volatility, DRIFT[1], elapsed, gauss(0.0, 1.0)
        )
        state.log_price += state.drift * minutes + sigma * math.sqrt(minutes) * gauss(0.0, 1.0)
        state.log_price += (self._start - state.log_price) * min(1.0, elapsed / ANCHOR_S)
        if self._leader is not None:
            now = self._leader.state.log_price
            state.log_price += self.profile.leader_share * (now - state.leader_seen)
            state.leader_seen = now

    # --- makers -------------------------------------------------------------------------------------------------------

    def _requote(self, engine: Engine, ts_ns: int) -> None:
        """Makers pull what the fair price ran over, quote the touch anew, and put some depth behind it."""
        self._move()
        rng, market = self._rng, self._market
        fair = math.exp(self.state.log_price + self.state.overshoot) / self._tick
        spread = rng.choice(SPREAD_TICKS)
        bid = max(1, math.ceil(fair - spread / 2 - 0.5))
        ask = bid + spread
        book = market.book
        _pull(market, book.bids, lambda price: price >= ask)
        _pull(market, book.asks, lambda price: price <= bid)
        for _ in range(MAKERS_AT_TOUCH):
            self._quote(engine, Side.BUY, bid, ts_ns)
            self._quote(engine, Side.SELL, ask, ts_ns)
        for _ in range(8 if self._thin() else 2):
            depth = fair * 2e-3
            self._quote(engine, Side.BUY, max(1, bid - int(depth ** rng.random())), ts_ns)
            self._quote(engine, Side.SELL, ask + int(depth ** rng.random()), ts_ns)
        _trim(market, book.bids)
        _trim(market, book.asks)
        engine.note_top(market, ts_ns)

    def _quote(self, engine: Engine, side: Side, price: int, ts_ns: int) -> None:
        level = self._market.book.side(side).levels.get(price)
        lots = max(1, int(self.profile.maker_lots * math.exp(0.8 * self._rng.gauss(0.0, 1.0))))
        if level is None or level.quantity < lots:
            engine.house_order(self._market, side, price, lots, ts_ns, rest=True)

    # --- takers -------------------------------------------------------------------------------------------------------

    def _take(self, engine: Engine, ts_ns: int) -> None:
        """One taker: side with memory and trend, size with a heavy tail, pressing the price for a while."""
        state, rng, market = self.state, self._rng, self._market
        if rng.random() > SIDE_PERSISTENCE:
            tilt = 0.25 * math.tanh(state.drift / (DRIFT[0] * self.profile.minute_volatility))
            state.buying = rng.random() < 0.5 + tilt
        size = math.exp(1.2 * rng.gauss(0.0, 1.0))
        lots = max(1, int(self.profile.taker_lots * size))
        best = (market.book.asks if state.buying else market.book.bids).best()
        if best is None:
            return
        reach = max(1, int(best.price * SWEEP_LIMIT))
        if state.buying:
            engine.house_order(market, Side.BUY, best.price + reach, lots, ts_ns, rest=False)
        else:
            engine.house_order(market, Side.SELL, max(1, best.price - reach), lots, ts_ns, rest=False)
        press = TAKER_PRESSURE * self.profile.minute_volatility * self._activity() * math.sqrt(min(size, 25.0))
        state.overshoot += press if state.buying else -press
        engine.note_top(market, ts_ns)

    # --- snapshot -----------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """Plain copy of everything that future behaviour depends on."""
        version, words, spare = self._rng.getstate()
        return {"rng": [version, list(words), spare], "state": asdict(self.state)}

    def load(self, dumped: dict[str, Any]) -> None:
        """Continue exactly where a dump was made."""
        version, words, spare = dumped["rng"]
        self._rng.setstate((version, tuple(words), spare))
        self.state = FairPrice(**dumped["state"])


class Flow:
    """The flow of all instruments, in listing order (leaders first)."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self._engine = engine
        self.instruments: dict[str, InstrumentFlow] = {}
        for symbol, market in engine.markets.items():
            profile = PROFILES.get(symbol) or _default_profile(market.instrument)
            self.instruments[symbol] = InstrumentFlow(market, profile, f"{seed}/{symbol}", self.instruments)

    def advance(self, elapsed_s: float, from_ns: int, to_ns: int, only: Sequence[str] = ()) -> None:
        """Play `elapsed_s` seconds of the flow (of all instruments, or `only` some), stamped within (from_ns, to_ns]."""
        if elapsed_s <= 0:
            return
        for symbol, each in self.instruments.items():
            if not only or symbol in only:
                each.advance(self._engine, elapsed_s, from_ns, to_ns)


def _default_profile(instrument: Instrument) -> Profile:
    lots = max(
        1, 50 * instrument.min_notional // max(1, instrument.value(instrument.start_price // instrument.tick, 1))
    )
    return Profile(takers_per_s=0.2, requotes_per_s=1, minute_volatility=7e-4, taker_lots=lots, maker_lots=lots * 15)


def _revert(value: float, deviation: float, time_s: float, elapsed_s: float, noise: float) -> float:
    """One exact step of an Ornstein–Uhlenbeck process around zero."""
    keep = math.exp(-elapsed_s / time_s)
    return value * keep + deviation * math.sqrt(1.0 - keep * keep) * noise


def _pull(market: Market, half: HalfBook, crossed: Callable[[int], bool]) -> None:
    prices = []
    for level in half.from_best():
        if not crossed(level.price):
            break
        prices.append(level.price)
    for price in prices:
        _clear(market, half, price)


def _trim(market: Market, half: HalfBook) -> None:
    excess = len(half.prices) - MAX_LEVELS
    if excess > 0:
        for price in half.prices[:excess] if half.is_bid else half.prices[-excess:]:
            _clear(market, half, price)


def _clear(market: Market, half: HalfBook, price: int) -> None:
    """Take the house's orders at one price out; customers' stay."""
    for order in [each for each in half.levels[price].orders.values() if each.account == HOUSE]:
        market.book.remove(order)
