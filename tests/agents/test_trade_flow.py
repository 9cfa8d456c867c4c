"""Trade flow on chunks: exact sums, signals that name their windows, late trades with their origin, dead letters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from market_records import SYMBOL, T0, trade

from skeet.agents.trade_flow import TradeFlow, scaled
from skeet.config import SignalSettings
from skeet.core.control import DeadLetter
from skeet.core.market import LateRecord, Signal, Trade
from skeet.core.record import Out
from skeet.core.values import NS_PER_MS, LateReason, Side
from skeet.core.windows import WindowState
from skeet.schemas.codec import numbered_codec
from skeet.streams.batches.chunk import Chunk
from skeet.streams.windows.tail import chunk_of

CODEC = numbered_codec()
SETTINGS = SignalSettings(flow_window_ms=250, flow_step_ms=250, flow_grace_ms=100)


@dataclass(frozen=True)
class Message:
    """What a client would deliver."""

    bytes_: bytes
    at: int
    log_ms: int
    symbol: str = SYMBOL

    def topic(self) -> str:
        return "t.market.trades.v1"

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return self.at

    def timestamp(self) -> tuple[int, int]:
        return 2, self.log_ms

    def value(self) -> bytes:
        return self.bytes_

    def key(self) -> bytes:
        return self.symbol.encode()


def chunk(*records: Trade | bytes, first: int = 0) -> Chunk:
    encoded = [each if isinstance(each, bytes) else CODEC.encode(each) for each in records]
    messages: list[Any] = [Message(each, first + n, 2_000_000_000_000) for n, each in enumerate(encoded)]
    return chunk_of(messages)


def flow() -> TradeFlow:
    return TradeFlow(CODEC, SETTINGS, "t.")


def run(*records: Trade | bytes, state: WindowState | None = None) -> list[Any]:
    machine = flow()
    return [out.event for out in machine.fold(state or machine.initial(), chunk(*records), 0)]


def of(kind: type[Any], found: list[Any]) -> list[Any]:
    return [each for each in found if isinstance(each, kind)]


def test_a_closed_window_is_a_signal_with_exact_sums() -> None:
    found = run(trade(1, 0.0, 100_00, 10), trade(2, 0.2, 100_03, 20), trade(3, 0.36))
    (signal,) = of(Signal, found)
    assert (signal.name, signal.interval, signal.instrument_id) == ("trade_flow", "250ms", SYMBOL)
    assert signal.ts_event == T0 + 250 * NS_PER_MS
    assert signal.cause_at == "market.trades.v1/3/2"
    assert signal.values == {
        "buy_volume": 0.01,
        "sell_volume": 0.02,
        "imbalance": pytest.approx(-1 / 3, abs=0),
        "trades": 2.0,
        "vwap": 100.02,
    }


def test_a_window_computed_again_is_the_same_signal_under_the_same_id() -> None:
    records = [trade(n, n * 0.07) for n in range(30)]
    whole = of(Signal, run(*records))
    machine = flow()
    state = machine.initial()
    again = [out.event for n, each in enumerate(records) for out in machine.fold(state, chunk(each, first=n), 0)]
    assert again == whole
    assert [each.event_id for each in again] == [each.event_id for each in whole]
    assert len({each.event_id for each in whole}) == len(whole) > 5


def test_a_late_trade_is_put_out_with_its_origin_and_what_it_missed() -> None:
    late = trade(3, 0.1)
    (record,) = of(LateRecord, run(trade(1, 0.0), trade(2, 0.4), late))
    assert (record.origin, record.payload) == ("market.trades.v1/3/2", CODEC.encode(late))
    assert (record.reason, record.windows_missed) == (LateReason.WINDOW_CLOSED, 1)
    assert (record.missed_from, record.missed_until) == (T0, T0 + 250 * NS_PER_MS)
    assert (record.rule, record.watermark) == ("trade_flow/250ms", T0 + 400 * NS_PER_MS)


def test_records_before_the_first_are_only_skipped() -> None:
    machine = flow()
    state = machine.initial()
    machine.fold(state, chunk(trade(1, 0.0), trade(2, 0.1), trade(3, 0.2)), 2)
    outs: tuple[Out[Any], ...] = machine.fold(state, chunk(trade(4, 0.4), first=3), 3)
    assert [out.event.values["trades"] for out in outs] == [1.0]


def test_what_is_no_trade_is_a_dead_letter_by_its_own_offset_and_the_rest_goes_on() -> None:
    future = trade(4, 1e9)
    found = run(trade(1, 0.0), b"\0", trade(2, 0.1, price=2**62, price_scale=0), future, trade(3, 0.4))
    letters = of(DeadLetter, found)
    assert [(each.topic, each.partition, each.offset) for each in letters] == [
        ("market.trades.v1", 3, 1),
        ("market.trades.v1", 3, 2),
        ("market.trades.v1", 3, 3),
    ]
    assert "does not fit 8 decimal places" in letters[1].cause
    assert "60 s ahead of the log" in letters[2].cause
    assert [each.values["trades"] for each in of(Signal, found)] == [1.0]


def test_trades_of_several_scales_meet_at_one() -> None:
    found = run(trade(1, 0.0, 100_00, 10), trade(2, 0.1, 100, 2, price_scale=0, size_scale=2), trade(3, 0.4))
    (signal,) = of(Signal, found)
    assert (signal.values["vwap"], signal.values["buy_volume"], signal.values["sell_volume"]) == (100.0, 0.01, 0.02)


def test_numbers_are_scaled_exactly_or_not_at_all() -> None:
    mantissas = np.array([15, 1, -(2**62), 12_000_000_000, 5, 7], np.int64)
    scales = np.array([1, 8, 7, 10, 9, 40], np.int64)
    found, fits = scaled(mantissas, scales)
    assert fits.tolist() == [True, True, False, True, False, False]
    assert found[fits].tolist() == [150_000_000, 1, 120_000_000]


def test_a_trade_without_a_known_side_is_in_no_volume_of_a_side() -> None:
    (signal,) = of(Signal, run(trade(1, 0.0, aggressor_side=Side.UNKNOWN), trade(2, 0.4)))
    assert (signal.values["buy_volume"], signal.values["sell_volume"], signal.values["imbalance"]) == (0.0, 0.0, 0.0)
    assert signal.values["trades"] == 1.0
