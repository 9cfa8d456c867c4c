"""The compiled fold of `skeet bench engine` against the plain one that its stock side does, over chunks of any size."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from bench_chunks import CODEC, Collected, chunk_of, trades

from skeet.agents.bench_sides import _signals_of
from skeet.agents.bench_signals import EVERY, ROOM, TickSignals
from skeet.core.errors import InvalidInput
from skeet.core.market import Signal, Trade


def emitted(all_trades: list[Trade], size: int) -> list[tuple[bytes, Signal]]:
    signals, outputs = TickSignals(CODEC, "signals"), Collected()
    for first in range(0, len(all_trades), size):
        target: Any = outputs
        signals(chunk_of(first, all_trades[first : first + size]), target)
    found = []
    for topic, key, value in outputs.records:
        signal, _ = CODEC.decode(value)
        assert topic == "signals"
        assert isinstance(signal, Signal)
        found.append((key, signal))
    return found


@pytest.mark.parametrize("size", [1000, 137, 1])
def test_signals_of_chunks_are_those_of_single_trades(size: int) -> None:
    some = trades(1500, 3)
    ours = {(s.instrument_id, s.values["trades"]): s.values for _, s in emitted(some, size)}
    plain = _signals_of([dataclasses.asdict(trade) for trade in some])
    assert len(plain) == len(ours) > 10
    for instrument, (*values, number) in plain:
        found = ours[instrument, number]
        assert [found["ema"], found["imbalance"], found["rsi"]] == pytest.approx(values, rel=1e-12)


def test_a_signal_names_the_trade_that_completed_it() -> None:
    some = trades(500, 1)
    key, signal = emitted(some, 70)[0]
    assert key == b"SIM:X0/USDT"
    assert signal.cause_at == f"trades/1/{EVERY - 1}"
    assert signal.ts_event == some[EVERY - 1].ts_event


def test_more_instruments_than_there_was_room_for() -> None:
    some = [
        dataclasses.replace(trade, instrument_id=f"SIM:{n % (ROOM + 10)}")
        for n, trade in enumerate(trades(EVERY * (ROOM + 10), 1))
    ]
    assert {signal.instrument_id for _, signal in emitted(some, 20_000)} == {f"SIM:{n}" for n in range(ROOM + 10)}


def test_instrument_without_an_id_is_refused_and_changes_no_other() -> None:
    nameless = dataclasses.replace(trades(1, 1)[0], instrument_id="X" * 300)
    agent = TickSignals(CODEC, "signals")
    with pytest.raises(InvalidInput, match="no place for another"):
        agent(chunk_of(0, [nameless]), Collected())  # type: ignore[arg-type]
    assert not agent._counts.any()
