"""Windows by number of events of a key, in the order in which they came: nothing is late, no time closes them."""

from __future__ import annotations

from typing import Any

from skeet.core.windows.folding import Folding
from skeet.core.windows.outcome import Closed, Key, Span
from skeet.core.windows.rules import CountRule, CountSliding
from skeet.core.windows.state import Counted, WindowState


class ByCount:
    """Tumbling, hopping and sliding windows by count."""

    def __init__(self, rule: CountRule, folding: Folding) -> None:
        self.rule = rule
        self.folding = folding

    def add(self, state: WindowState, key: Key, ts: int, value: Any) -> tuple[Closed, ...]:
        """Count the event; the window that it completes."""
        counted = state.counted.setdefault(key, Counted())
        counted.seen += 1
        counted.recent.append((ts, value))
        if len(counted.recent) > self.rule.size:
            del counted.recent[0]
        if not self._complete(counted.seen):
            return ()
        span = Span(counted.seen - len(counted.recent), counted.seen)
        return (self.folding.closed(key, span, self.folding.of(counted.recent)),)

    def _complete(self, seen: int) -> bool:
        if isinstance(self.rule, CountSliding):
            return True
        return seen >= self.rule.size and (seen - self.rule.size) % self.rule.step == 0
