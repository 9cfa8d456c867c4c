"""Windows that depend on a key's own events: events wait until nothing earlier can come, and are folded in order of time.

An event is final once the watermark, less the grace, is past it: whatever comes then with an earlier time is late. So sessions
never have to be merged or cut again: an event that bridges two is there before either is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any

from skeet.core.windows.folding import Folding, in_order
from skeet.core.windows.outcome import Closed, Key, Span
from skeet.core.windows.rules import OrderedRule, Session, Sliding
from skeet.core.windows.state import OpenSession, WindowState

Final = tuple[int, Any]
"""Time and value."""


class Ordered:
    """Sliding windows and sessions."""

    def __init__(self, rule: OrderedRule, folding: Folding) -> None:
        self.rule = rule
        self.folding = folding

    def add(self, state: WindowState, key: Key, ts: int, value: Any, bound: int) -> tuple[tuple[Span, ...], int]:
        """Let the event wait. Returns the window that it misses if it is behind the bound, and how many it is in."""
        if ts < bound:
            return (self._own(ts),), 0
        heappush(state.pending, (ts, state.arrivals, key, value))
        state.arrivals += 1
        return (), 1

    def close(self, state: WindowState, bound: int) -> tuple[Closed, ...]:
        """Fold what became final; take out what ends at the bound or before."""
        finals: dict[Key, list[Final]] = {}
        while state.pending and state.pending[0][0] < bound:
            ts, _, key, value = heappop(state.pending)
            finals.setdefault(key, []).append((ts, value))
        if isinstance(self.rule, Sliding):
            found = [each for key, events in finals.items() for each in self._slide(self.rule, state, key, events)]
        else:
            found = [each for key, events in finals.items() for each in self._extend(self.rule, state, key, events)]
            found.extend(self._expire(self.rule, state, bound))
        return in_order(found) if found else ()

    def _own(self, ts: int) -> Span:
        if isinstance(self.rule, Sliding):
            return Span(ts + 1 - self.rule.size_ns, ts + 1)
        return Span(ts, ts + self.rule.gap_ns)

    def _slide(self, rule: Sliding, state: WindowState, key: Key, events: list[Final]) -> Iterator[Closed]:
        history = state.history.get(key, []) + events
        first = end = 0
        for ts, _ in events:
            while history[first][0] <= ts - rule.size_ns:
                first += 1
            # Equal times are in each other's windows, whichever came first.
            while end < len(history) and history[end][0] <= ts:
                end += 1
            yield self.folding.closed(key, self._own(ts), self.folding.of(history[first:end]))
        state.history[key] = history[first:]

    def _extend(self, rule: Session, state: WindowState, key: Key, events: list[Final]) -> Iterator[Closed]:
        for ts, value in events:
            session = state.sessions.get(key)
            if session is not None and ts >= _end(rule, session):
                yield self._closed(rule, key, session)
                session = None
            if session is None:
                session = state.sessions[key] = OpenSession(ts, ts, self.folding.init())
                heappush(state.expiries, (_end(rule, session), ts, key))
            session.last = ts
            self.folding.add(session.accumulators, ts, value)

    def _expire(self, rule: Session, state: WindowState, bound: int) -> Iterator[Closed]:
        while state.expiries and state.expiries[0][0] <= bound:
            _, first, key = heappop(state.expiries)
            session = state.sessions.get(key)
            if session is None or session.first != first:
                continue
            if _end(rule, session) > bound:
                heappush(state.expiries, (_end(rule, session), first, key))
                continue
            yield self._closed(rule, key, state.sessions.pop(key))

    def _closed(self, rule: Session, key: Key, session: OpenSession) -> Closed:
        return self.folding.closed(key, Span(session.first, _end(rule, session)), session.accumulators)


def _end(rule: Session, session: OpenSession) -> int:
    end = session.last + rule.gap_ns
    return end if rule.max_ns is None else min(end, session.first + rule.max_ns)
