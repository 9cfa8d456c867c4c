"""An EMA of each instrument's prices that survives: what ``skeet bench peers`` measures against other stream processors.

The state goes to a topic once a second and at the end, whole, with the positions that it stands for; a chunk counts as
finished when its snapshot is acknowledged. Values are doubles and never amounts.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
from numba import njit

from skeet.agents.bench_signals import EMA_WEIGHT, ROOM
from skeet.core.errors import InvalidInput
from skeet.core.market import Trade
from skeet.schemas.codec import Codec
from skeet.schemas.columns.columns import Columns
from skeet.schemas.columns.decoding import ColumnDecoder
from skeet.schemas.columns.interning import NO_ID, Texts
from skeet.streams.batches.chunk import Chunk
from skeet.streams.batches.emission import Outputs

SNAPSHOT_S = 1.0
"""From one snapshot to the next; the peers' own default is 5 s (Quix Streams) and 10 s (bytewax)."""
_EMA, _COMPARED = 0, 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fold(ids: Any, prices: Any, state: Any, counts: Any, compare_at: int) -> None:
    for row in range(ids.size):
        instrument = ids[row]
        if counts[instrument] == 0:
            state[_EMA, instrument] = prices[row]
        else:
            state[_EMA, instrument] += EMA_WEIGHT * (prices[row] - state[_EMA, instrument])
        counts[instrument] += 1
        if counts[instrument] == compare_at:
            state[_COMPARED, instrument] = state[_EMA, instrument]


class Averages:
    """The agent's handler: trades in, snapshots of the state out.

    Parameters
    ----------
    compare_at
        the average of each instrument after so many of its trades is kept for :meth:`compared`.
    """

    def __init__(self, codec: Codec, out: str, compare_at: int) -> None:
        self._decoder = ColumnDecoder(codec, Trade)
        self._out = out
        self._compare_at = compare_at
        self._state = np.zeros((2, ROOM))
        self._counts = np.zeros(ROOM, np.int64)
        self._known: Texts | None = None
        self._positions: dict[str, int] = {}
        self._written = time.monotonic()

    def __call__(self, chunk: Chunk, outputs: Outputs) -> None:
        """Fold the chunk's trades; add a snapshot when one is due."""
        self._fold(self._decoder.decode(chunk.buffer, chunk.value_starts, chunk.value_lengths))
        self._positions[f"{chunk.topic}/{chunk.partition}"] = int(chunk.offsets[-1]) + 1
        if time.monotonic() - self._written >= SNAPSHOT_S:
            self.snapshot(outputs)

    def snapshot(self, outputs: Outputs) -> None:
        """Every instrument's state and the positions that it stands for."""
        self._written = time.monotonic()
        positions = json.dumps(self._positions)
        for number, instrument in enumerate(self._instruments()):
            value = f'{{"ema":{float(self._state[_EMA, number])!r},"trades":{self._counts[number]},"at":{positions}}}'
            outputs.add(self._out, instrument.encode(), value.encode())

    def compared(self) -> dict[str, float]:
        """The average of each instrument that had so many trades, after exactly so many."""
        had = self._counts >= self._compare_at
        return {
            instrument: float(self._state[_COMPARED, number])
            for number, instrument in enumerate(self._instruments())
            if had[number]
        }

    def _instruments(self) -> list[str]:
        known = self._known
        return [] if known is None else [known[number] for number in range(len(known))]

    def _fold(self, trades: Columns) -> None:
        instruments = trades.texts("instrument_id")
        ids, known = instruments.ids, instruments.known
        assert ids is not None and known is not None
        if (ids == NO_ID).any():
            raise InvalidInput(f"more than {len(known)} instruments; this fold has no place for another")
        self._known = known
        while len(known) > len(self._counts):
            self._state = np.concatenate([self._state, np.zeros_like(self._state)], axis=1)
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        prices = trades.longs("price_mantissa") / 10.0 ** trades.longs("price_scale")
        _fold(ids, prices, self._state, self._counts, self._compare_at)
