"""The past of a fresh exchange: 1-minute bars from the flow's own model, drawn at once instead of event by event.

The bars end at the instrument's start price, where the flow takes over, so that the series has no seam. Minutes are
drawn as ten steps of the fair price, which gives highs and lows; numbers of trades follow the volatility, as they do in
the flow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from zlib import crc32

import numpy as np
import numpy.typing as npt

from skeet.venues.sim.bars import MINUTE_MS, Bar
from skeet.venues.sim.flow import FAST_VOL, MAX_ACTIVITY, PROFILES, SLOW_VOL
from skeet.venues.sim.instruments import Instrument

HISTORY_SYMBOLS = ("BTCUSDT", "ETHUSDT")
_STEPS = 10
Floats = npt.NDArray[np.float64]


def past_bars(instruments: Sequence[Instrument], seed: int, minutes: int, end_ms: int) -> dict[str, list[Bar]]:
    """`minutes` bars up to `end_ms` (exclusive, a whole minute) for each instrument; a leader must come before its
    followers. The same arguments always give the same bars."""
    paths: dict[str, Floats] = {}
    bars: dict[str, list[Bar]] = {}
    for instrument in instruments:
        profile = PROFILES[instrument.symbol]
        rng = np.random.Generator(np.random.PCG64([seed, crc32(instrument.symbol.encode())]))
        volatility = np.exp(_reverting(rng, minutes, *SLOW_VOL) + _reverting(rng, minutes, *FAST_VOL))
        sigma = profile.minute_volatility * volatility[:, None] / math.sqrt(_STEPS)
        path = np.cumsum((sigma * rng.standard_normal((minutes, _STEPS))).ravel())
        if profile.leader in paths:
            path = path + profile.leader_share * paths[profile.leader]
        paths[instrument.symbol] = path
        counts = np.maximum(1, rng.poisson(profile.takers_per_s * 3 * 60 * np.minimum(volatility, MAX_ACTIVITY)))
        lots = rng.lognormal(math.log(profile.taker_lots), 0.5, minutes)
        start = instrument.start_price // instrument.tick
        prices = np.maximum(1, np.rint(start * np.exp(path - path[-1]))).astype(np.int64).reshape(minutes, _STEPS)
        bars[instrument.symbol] = _bars(prices, counts, lots, end_ms - minutes * MINUTE_MS)
    return bars


def _reverting(rng: np.random.Generator, minutes: int, deviation: float, time_s: float) -> Floats:
    """An Ornstein–Uhlenbeck path around zero, one value a minute."""
    keep = math.exp(-60.0 / time_s)
    noise = rng.standard_normal(minutes) * deviation * math.sqrt(1.0 - keep * keep)
    value, path = 0.0, np.empty(minutes)
    for minute, each in enumerate(noise.tolist()):
        value = value * keep + each
        path[minute] = value
    return path


def _bars(prices: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], lots: Floats, first_ms: int) -> list[Bar]:
    closes = prices[:, -1]
    opens = np.concatenate((prices[:1, 0], closes[:-1]))
    highs = np.maximum(prices.max(axis=1), opens)
    lows = np.minimum(prices.min(axis=1), opens)
    volumes = np.maximum(10, counts * lots).astype(np.int64)
    # Takers buy a little more than half in a rising minute.
    taken = (volumes * np.clip(0.5 + 40 * (closes - opens) / opens, 0.1, 0.9)).astype(np.int64)
    columns = (opens, highs, lows, closes, volumes, counts, taken, (highs + lows) // 2)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        Bar(first_ms + n * MINUTE_MS, opened, high, low, close, volume, volume * middle, trades, buys, buys * middle)
        for n, (opened, high, low, close, volume, trades, buys, middle) in enumerate(rows)
    ]
