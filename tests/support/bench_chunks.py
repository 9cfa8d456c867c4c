"""Trades in chunks, and outputs that go nowhere: what the folds of the measurements are tried with."""

from __future__ import annotations

import random

import numpy as np

from skeet.core.market import Signal, Trade
from skeet.core.values import Side
from skeet.schemas.codec import numbered_codec
from skeet.streams.batches.chunk import Chunk

CODEC = numbered_codec((Trade, Signal))


class Collected:
    """Outputs that go nowhere."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes, bytes]] = []

    def add(self, topic: str, key: bytes, value: bytes) -> None:
        self.records.append((topic, key, value))


def trades(count: int, instruments: int) -> list[Trade]:
    rng = random.Random(5)
    return [
        Trade(
            instrument_id=f"SIM:X{rng.randrange(instruments)}/USDT",
            ts_event=n,
            ts_init=n + 1,
            trade_id=str(n),
            price_mantissa=rng.randrange(10_000, 20_000),
            size_mantissa=rng.randrange(1, 1000),
            price_scale=2,
            size_scale=3,
            aggressor_side=rng.choice([Side.BUY, Side.SELL]),
        )
        for n in range(count)
    ]


def chunk_of(first: int, some: list[Trade]) -> Chunk:
    records = [CODEC.encode(trade) for trade in some]
    lengths = np.array([len(record) for record in records])
    none = np.zeros(len(some), np.int64)
    return Chunk(
        topic="trades",
        partition=1,
        first=first,
        next_offset=first + len(some),
        raw=b"".join(records),
        places=np.array([np.cumsum(lengths) - lengths, lengths, none, none - 1, none]),
        positions=np.array([np.arange(first, first + len(some)), none]),
        size=int(lengths.sum()),
    )
