"""What windows remember: a plain value that can be written down and read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from skeet.core.errors import DecodeError
from skeet.core.strategy.memory import memory_from_bytes, memory_to_bytes
from skeet.core.windows.outcome import Key
from skeet.core.windows.watermark import Watermark

Accumulators = list[Any]
"""One for each fold, in the folds' order."""
Pending = tuple[int, int, Key, Any]
"""Time, arrival number, key and value of an event that is not yet final."""


@dataclass(slots=True)
class OpenSession:
    """A session of final events, which are folded already."""

    first: int
    last: int
    accumulators: Accumulators


@dataclass(slots=True)
class Counted:
    """A key's count of events, and the latest of them (as many as a window holds)."""

    seen: int = 0
    recent: list[tuple[int, Any]] = field(default_factory=list)


@dataclass(slots=True)
class WindowState:
    """Everything that :class:`Windows` remembers of its streams; made by ``Windows.initial``, updated in place.

    ``aligned`` holds accumulators by beginning, then key. ``pending`` is a heap of events that are not yet final,
    ``history`` a key's final events that later windows still hold, and
    ``expiries`` a heap of when sessions may end, with when and whose they began. ``late_events`` and ``missed_windows`` count since the
    beginning.
    """

    watermark: Watermark = field(default_factory=Watermark)
    aligned: dict[int, dict[Key, Accumulators]] = field(default_factory=dict)
    pending: list[Pending] = field(default_factory=list)
    arrivals: int = 0
    history: dict[Key, list[tuple[int, Any]]] = field(default_factory=dict)
    sessions: dict[Key, OpenSession] = field(default_factory=dict)
    expiries: list[tuple[int, int, Key]] = field(default_factory=list)
    counted: dict[Key, Counted] = field(default_factory=dict)
    late_events: int = 0
    missed_windows: int = 0


def state_to_bytes(state: WindowState) -> bytes:
    """Canonical bytes of the state.

    Raises
    ------
    InvalidInput
        a value, or a user fold's accumulator, is of a type that cannot be written down; the message says where.
    """
    return memory_to_bytes(state)


def state_from_bytes(content: bytes) -> WindowState:
    """The state that these bytes are of.

    Raises
    ------
    DecodeError
        they are of something else.
    """
    found = memory_from_bytes(content)
    if not isinstance(found, WindowState):
        raise DecodeError(f"a state of windows is a {type(found).__name__}")
    return found
