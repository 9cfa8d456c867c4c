"""Short ways to say market records in tests."""

from __future__ import annotations

from typing import Any

from skeet.core.market import Quote, Tick, Trade
from skeet.core.record import Event, Meta, Record, TopicPosition
from skeet.core.values import NS_PER_MS, NS_PER_S, Side

SYMBOL = "SIM:BTC/USDT"
T0 = 1_700_000_040 * NS_PER_S
"""A whole minute."""


def trade(number: int, at_s: float, price: int = 100_00, size: int = 10, symbol: str = SYMBOL, **fields: Any) -> Trade:
    """Trade ``number`` at ``at_s`` seconds after T0; the price has two decimal places, the size three."""
    ts = T0 + round(at_s * 1000) * NS_PER_MS
    return Trade(
        **{
            "instrument_id": symbol,
            "ts_event": ts,
            "ts_init": ts + NS_PER_MS,
            "trade_id": str(number),
            "price_mantissa": price,
            "size_mantissa": size,
            "price_scale": 2,
            "size_scale": 3,
            "aggressor_side": Side.BUY if number % 2 else Side.SELL,
            **fields,
        }
    )


def quote(number: int, at_s: float, bid: int = 99_99, ask: int = 100_01, **fields: Any) -> Quote:
    """Quote ``number``; prices have two decimal places, sizes three."""
    ts = T0 + round(at_s * 1000) * NS_PER_MS
    return Quote(
        **{
            "instrument_id": SYMBOL,
            "ts_event": ts,
            "ts_init": ts + NS_PER_MS,
            "update_id": number,
            "bid_price_mantissa": bid,
            "bid_size_mantissa": 1000,
            "ask_price_mantissa": ask,
            "ask_size_mantissa": 1000,
            "price_scale": 2,
            "size_scale": 3,
            **fields,
        }
    )


def tick(at_s: float) -> Tick:
    """The clock at ``at_s`` seconds after T0."""
    return Tick(ts_event=T0 + round(at_s * 1000) * NS_PER_MS)


def record(event: Event, offset: int = 0, topic: str = "market.trades.v1", meta: Meta | None = None) -> Record[Any]:
    """The event as it was read; the log's time is the event's."""
    at: Any = event
    ts = meta.ts_event if meta is not None else at.ts_event
    return Record(event=event, meta=meta, at=TopicPosition(topic, 0, offset), log_ns=ts)
