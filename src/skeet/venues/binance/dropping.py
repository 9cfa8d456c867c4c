"""Frames lost on purpose, by a seed: what gap detection is tried with (``skeet feed replay --drop-seed``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from random import Random

from skeet.venues.binance.capture import CapturedFrame

SEQUENCED = ("@trade", "@depth")
"""Streams in which a missing frame can be noticed; a lost book ticker leaves no trace."""


class FrameDropper:
    """Says of each frame whether it is lost.

    Only trade and depth frames after the book is in sync are; never the first or the last of a stream, because nothing
    would frame the hole. The same seed loses the same frames.

    Parameters
    ----------
    totals
        how many frames each stream has in the whole session (:func:`skeet.venues.binance.capture.stream_counts`).
    """

    def __init__(self, seed: int, rate: float, totals: Mapping[str, int]) -> None:
        self._random = Random(seed)
        self._rate = rate
        self._totals = totals
        self._seen: Counter[str] = Counter()
        self._begun: set[str] = set()

    def drops(self, frame: CapturedFrame, *, in_sync: bool) -> bool:
        """Whether this frame is lost; to be asked of every frame of the session, once, in order."""
        stream = frame.stream
        self._seen[stream] += 1
        if not in_sync or not any(kind in stream for kind in SEQUENCED):
            return False
        if stream not in self._begun:
            self._begun.add(stream)
            return False
        return self._seen[stream] < self._totals[stream] and self._random.random() < self._rate
