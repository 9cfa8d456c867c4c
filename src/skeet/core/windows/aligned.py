"""Windows that begin at the same times for every key: events go into accumulators as they come, in whatever order."""

from __future__ import annotations

from typing import Any

from skeet.core.windows.folding import Folding
from skeet.core.windows.outcome import Closed, Key, Span
from skeet.core.windows.rules import AlignedRule
from skeet.core.windows.state import WindowState


class Aligned:
    """Tumbling and hopping windows."""

    def __init__(self, rule: AlignedRule, folding: Folding) -> None:
        self.rule = rule
        self.folding = folding

    def add(self, state: WindowState, key: Key, ts: int, value: Any, bound: int) -> tuple[tuple[Span, ...], int]:
        """Put the event into its open windows. Returns the closed ones that it misses, and how many it is in."""
        missed: list[Span] = []
        taken = 0
        for start in self.rule.starts(ts):
            if start + self.rule.size_ns <= bound:
                missed.append(Span(start, start + self.rule.size_ns))
                continue
            keys = state.aligned.setdefault(start, {})
            accumulators = keys.get(key)
            if accumulators is None:
                accumulators = keys[key] = self.folding.init()
            self.folding.add(accumulators, ts, value)
            taken += 1
        return tuple(missed), taken

    def close(self, state: WindowState, bound: int) -> tuple[Closed, ...]:
        """Take out what ends at the bound or before."""
        size = self.rule.size_ns
        if not state.aligned or min(state.aligned) + size > bound:
            return ()
        found: list[Closed] = []
        for start in sorted(start for start in state.aligned if start + size <= bound):
            span, keys = Span(start, start + size), state.aligned.pop(start)
            found.extend(self.folding.closed(key, span, keys[key]) for key in sorted(keys))
        return tuple(found)
