"""Frames as Binance prints them, made by a seed: what bursts are measured with where there is no recording.

The shape is that of recorded sessions (BTC/USDT and ETH/USDT, spot, August 2024): of 100 frames 24 trades, 68 book tickers
and 8 depth frames; 44 levels in a depth frame on average, half of them have 16 or fewer, one in a thousand 700 and more, the
largest 1,076. Ids chain without a hole from the REST book on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT")
TRADE, TICKER, DEPTH = "trade", "bookTicker", "depthUpdate"
MIXES: Mapping[str, tuple[float, float, float]] = {"trades": (1.0, 0.0, 0.0), "mix": (0.24, 0.68, 0.08)}
"""Shares of trades, book tickers and depth frames."""
MEDIAN_LEVELS, LEVELS_SIGMA, MOST_LEVELS = 18.0, 1.36, 1_076
"""A log-normal number of levels, cut at the most that was seen."""
FIRST_MS = 1_723_161_253_000
FIRST_TRADE_ID, FIRST_UPDATE_ID = 3_735_683_259, 50_093_239_189


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedSession:
    """A REST book for each symbol, and the frames that follow it."""

    books: Mapping[str, str]
    frames: Sequence[str]


@dataclass(slots=True)
class _Market:
    symbol: str
    price: int
    trade_id: int = FIRST_TRADE_ID
    update_id: int = FIRST_UPDATE_ID
    """The book's newest update: book tickers show some of them."""
    last_diff: int = FIRST_UPDATE_ID
    """The last update that a depth frame told."""


def generated(mix: str, count: int, seed: int = 1) -> GeneratedSession:
    """So many frames of the four :data:`SYMBOLS`; the same for the same arguments.

    Raises
    ------
    KeyError
        ``mix`` is none of :data:`MIXES`.
    """
    draw = Random(f"{mix}/{count}/{seed}")
    markets = [_Market(symbol, 6_183_763 // 4**number) for number, symbol in enumerate(SYMBOLS)]
    books = {market.symbol: _book(market, draw) for market in markets}
    kinds = draw.choices((TRADE, TICKER, DEPTH), MIXES[mix], k=count)
    largest = kinds.index(DEPTH) if DEPTH in kinds else -1
    frames = [_frame(kind, draw.choice(markets), draw, number, number == largest) for number, kind in enumerate(kinds)]
    return GeneratedSession(books=books, frames=frames)


def _frame(kind: str, market: _Market, draw: Random, number: int, largest: bool) -> str:
    at_ms = FIRST_MS + number // 20
    market.price = max(1_000, market.price + draw.randrange(-3, 4))
    if kind == TRADE:
        market.trade_id += 1
        side = draw.choice(("true", "false"))
        return (
            f'{{"e":"trade","E":{at_ms + 1},"s":"{market.symbol}","t":{market.trade_id},"p":"{_price(market.price)}",'
            f'"q":"{_size(draw)}","T":{at_ms},"m":{side},"M":true}}'
        )
    market.update_id += draw.randrange(1, 12)
    if kind == TICKER:
        bid, ask = _price(market.price), _price(market.price + 1)
        return (
            f'{{"u":{market.update_id},"s":"{market.symbol}","b":"{bid}","B":"{_size(draw)}",'
            f'"a":"{ask}","A":"{_size(draw)}"}}'
        )
    return _depth(market, draw, at_ms, largest)


def _depth(market: _Market, draw: Random, at_ms: int, largest: bool) -> str:
    first, market.last_diff = market.last_diff + 1, market.update_id
    levels = min(MOST_LEVELS, max(1, round(MEDIAN_LEVELS * math.exp(draw.gauss(0.0, LEVELS_SIGMA)))))
    levels = MOST_LEVELS if largest else levels
    bids = draw.randrange(levels + 1)
    return (
        f'{{"e":"depthUpdate","E":{at_ms},"s":"{market.symbol}","U":{first},"u":{market.update_id},'
        f'"b":[{_levels(market.price, -1, bids, draw)}],"a":[{_levels(market.price, 1, levels - bids, draw)}]}}'
    )


def _book(market: _Market, draw: Random) -> str:
    bids, asks = _levels(market.price, -1, 100, draw), _levels(market.price, 1, 100, draw)
    return f'{{"lastUpdateId":{market.update_id},"bids":[{bids}],"asks":[{asks}]}}'


def _levels(price: int, step: int, count: int, draw: Random) -> str:
    return ",".join(_level(price + step * distance, draw) for distance in range(1, count + 1))


def _level(price: int, draw: Random) -> str:
    size = "0.00000000" if draw.random() < 0.4 else _size(draw)
    return f'["{_price(max(1, price))}","{size}"]'


def _price(hundredths: int) -> str:
    return f"{hundredths // 100}.{hundredths % 100:02}000000"


def _size(draw: Random) -> str:
    units = draw.randrange(1, 5_000_000)
    return f"{units // 100_000}.{units % 100_000:05}000"
