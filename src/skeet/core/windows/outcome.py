"""What comes out of windows: results of those that closed, and events that came too late."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from skeet.core.values import LateReason

Key: TypeAlias = str | int
"""All keys of one state are of one of these types: results are ordered by it."""


class Span(NamedTuple):
    """``[start, end)``: nanoseconds since the epoch, or numbers of a key's events (the first is 0)."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A window that closed, once and for ever: whatever comes later does not change it. ``results`` are by fold's name."""

    key: Key
    span: Span
    results: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """An event behind the watermark by more than the grace, and the closed windows that it would have belonged to."""

    key: Key
    ts: int
    value: Any
    reason: LateReason
    missed: tuple[Span, ...]
    watermark: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one event, tick or batch caused.

    ``closed`` is ordered by end, start and key. As windows that end earlier never close later, the order is the same over
    any number of calls, however the events are divided among them. ``late`` is in the order of the events.
    """

    closed: tuple[Closed, ...] = ()
    late: tuple[Late, ...] = ()


NOTHING = Outcome()
