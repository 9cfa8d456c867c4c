"""What windows must hold, computed anew from the sorted set of all events that were not late: slow and plain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from skeet.core.windows import Candle, Hopping, Key, Rule, Session, Sliding, Span, Tumbling

Event = tuple[Key, int, dict[str, int]]
Row = tuple[Key, Span, dict[str, Any]]


def results_of(events: list[tuple[int, dict[str, int]]]) -> dict[str, Any]:
    """All of our aggregations, in plain Python, of events in order of time."""
    prices, sizes = [v["price"] for _, v in events], [v["size"] for _, v in events]
    notional = sum(p * s for p, s in zip(prices, sizes, strict=True))
    return {
        "count": len(events),
        "sum": sum(sizes),
        "min": min(prices),
        "max": max(prices),
        "first": prices[0],
        "last": prices[-1],
        "mean": Fraction(sum(prices), len(prices)),
        "vwap": Fraction(notional, sum(sizes)) if sum(sizes) else None,
        "candle": Candle(prices[0], max(prices), min(prices), prices[-1], sum(sizes)),
    }


def naive(rule: Rule, events: Iterable[Event], missed: Iterable[tuple[int, Span]] = ()) -> list[Row]:
    """Every window of these events, ordered by end, start and key. ``missed``: windows that the event
    with this number (its field ``n``) does not count in."""
    by_key: dict[Key, list[tuple[int, dict[str, int]]]] = defaultdict(list)
    for key, ts, value in events:
        by_key[key].append((ts, value))
    left_out = set(missed)
    rows: list[Row] = []
    for key, held in by_key.items():
        held.sort(key=lambda event: event[0])
        for span in _spans(rule, [ts for ts, _ in held]):
            inside = [
                (ts, value) for ts, value in held if span.start <= ts < span.end and (value["n"], span) not in left_out
            ]
            if inside:
                rows.append((key, span, results_of(inside)))
    return sorted(rows, key=lambda row: (row[1].end, row[1].start, row[0]))


def _spans(rule: Rule, times: list[int]) -> list[Span]:
    match rule:
        case Tumbling() | Hopping():
            found = set()
            for ts in times:
                # From the definition: every k with k × step + offset <= ts < k × step + offset + size.
                k = (ts - rule.offset_ns - rule.size_ns) // rule.step_ns + 1
                while k * rule.step_ns + rule.offset_ns <= ts:
                    start = k * rule.step_ns + rule.offset_ns
                    found.add(Span(start, start + rule.size_ns))
                    k += 1
            return sorted(found)
        case Sliding(size_ns=size):
            return [Span(ts + 1 - size, ts + 1) for ts in times]
        case Session(gap_ns=gap, max_ns=longest):
            sessions: list[list[int]] = []
            for ts in times:
                if sessions and ts - sessions[-1][-1] < gap and (longest is None or ts - sessions[-1][0] < longest):
                    sessions[-1].append(ts)
                else:
                    sessions.append([ts])
            ends = [each[-1] + gap if longest is None else min(each[-1] + gap, each[0] + longest) for each in sessions]
            return [Span(each[0], end) for each, end in zip(sessions, ends, strict=True)]
        case _:
            raise AssertionError(rule)
