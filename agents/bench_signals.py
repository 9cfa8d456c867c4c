"""Tick signals of many instruments on whole chunks: EMA, signed-volume imbalance and RSI, compiled.

What ``skeet bench engine`` measures the batch transport with: a real fold with state for each instrument and real signals,
in columns from the fetched bytes to the sent ones. Values are doubles and never amounts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from skeet.core.errors import InvalidInput
from skeet.core.market import Signal, Trade
from skeet.schemas.codec import Codec
from skeet.schemas.columns.building import ListValues, columns_of, texts_by_id
from skeet.schemas.columns.columns import Columns, Doubles, Longs
from skeet.schemas.columns.decoding import ColumnDecoder
from skeet.schemas.columns.encoding import ColumnEncoder
from skeet.schemas.columns.interning import NO_ID
from skeet.streams.batches.chunk import Chunk
from skeet.streams.batches.emission import Outputs

EVERY = 100
"""Trades of an instrument from one of its signals to the next."""
EMA_WEIGHT = 0.02
IMBALANCE_KEPT = 0.98
RSI_PERIOD = 14
NAMES = ("ema", "imbalance", "rsi", "trades")
ROOM = 1024
"""Instruments that the state begins with room for; it doubles."""


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fold(ids: Any, prices: Any, sizes: Any, buys: Any, state: Any, counts: Any, found_in: Any) -> int:
    rows, values = found_in
    found = 0
    for row in range(ids.size):
        instrument, price = ids[row], prices[row]
        if counts[instrument] == 0:
            state[0, instrument] = price
        else:
            change = price - state[4, instrument]
            state[0, instrument] += EMA_WEIGHT * (price - state[0, instrument])
            state[2, instrument] += (max(change, 0.0) - state[2, instrument]) / RSI_PERIOD
            state[3, instrument] += (max(-change, 0.0) - state[3, instrument]) / RSI_PERIOD
        signed = sizes[row] if buys[row] else -sizes[row]
        state[1, instrument] = IMBALANCE_KEPT * state[1, instrument] + signed
        state[4, instrument] = price
        counts[instrument] += 1
        if counts[instrument] % EVERY == 0:
            gain, loss = state[2, instrument], state[3, instrument]
            rows[found] = row
            values[found, 0] = state[0, instrument]
            values[found, 1] = state[1, instrument]
            values[found, 2] = 100.0 * gain / (gain + loss) if gain + loss > 0 else 50.0
            values[found, 3] = counts[instrument]
            found += 1
    return found


class TickSignals:
    """The agent's handler: trades in, a signal for every hundredth trade of an instrument out."""

    def __init__(self, codec: Codec, out: str) -> None:
        self._decoder = ColumnDecoder(codec, Trade)
        self._encoder = ColumnEncoder(codec, Signal)
        self._out = out
        self._state = np.zeros((5, ROOM))
        self._counts = np.zeros(ROOM, np.int64)

    def __call__(self, chunk: Chunk, outputs: Outputs) -> None:
        """Fold the chunk's trades, add its signals."""
        trades = self._decoder.decode(chunk.buffer, chunk.value_starts, chunk.value_lengths)
        rows, values = self._folded(trades)
        if len(rows):
            self._add(chunk, trades, rows, values, outputs)

    def _folded(self, trades: Columns) -> tuple[Longs, Doubles]:
        instruments = trades.texts("instrument_id")
        ids = instruments.ids
        assert ids is not None and instruments.known is not None
        if (ids == NO_ID).any():
            raise InvalidInput(f"more than {len(instruments.known)} instruments; this fold has no place for another")
        while len(instruments.known) > len(self._counts):
            self._state = np.concatenate([self._state, np.zeros_like(self._state)], axis=1)
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        buy = trades.symbol_names("aggressor_side").index("BUY")
        rows, values = np.empty(len(ids), np.int64), np.empty((len(ids), len(NAMES)))
        found = _fold(
            ids,
            trades.longs("price_mantissa") / 10.0 ** trades.longs("price_scale"),
            trades.longs("size_mantissa") / 10.0 ** trades.longs("size_scale"),
            trades.symbols("aggressor_side") == buy,
            self._state,
            self._counts,
            (rows, values),
        )
        return rows[:found], values[:found]

    def _add(self, chunk: Chunk, trades: Columns, rows: Longs, values: Doubles, outputs: Outputs) -> None:
        instruments = trades.texts("instrument_id")
        assert instruments.ids is not None and instruments.known is not None
        ids, count = instruments.ids[rows], len(rows)
        at = [f"{chunk.topic}/{chunk.partition}/{offset}" for offset in chunk.offsets[trades.index[rows]].tolist()]
        parameters = {"key": ["every"] * count, "value": [str(EVERY)] * count}
        signals = columns_of(
            Signal,
            count,
            {
                "instrument_id": texts_by_id(instruments.known, ids),
                "ts_event": trades.longs("ts_event")[rows],
                "ts_init": trades.longs("ts_init")[rows],
                "name": "tick",
                "version": "1",
                "interval": "tick",
                "parameters": ListValues(ends=np.arange(1, count + 1), items=parameters),
                "values": ListValues(
                    ends=np.arange(1, count + 1) * len(NAMES),
                    items={"key": list(NAMES) * count, "value": values.reshape(-1)},
                ),
                "causation_id": at,
                "cause_at": at,
            },
        )
        keys = [instruments.known[number].encode() for number in ids.tolist()]
        for key, record in zip(keys, self._encoder.encode(signals), strict=True):
            outputs.add(self._out, key, record)
