"""What a check found: how much it compared, over which range, and the differences it can name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

MAX_KEPT = 20
"""Differences named per check; the rest is counted."""


class CannotVerify(Exception):
    """A store or the log could not be read at all; the message names which and the remedy."""


@dataclass(slots=True, kw_only=True)
class Check:
    """One invariant's result.

    ``compared`` counts what was compared, by kind; a kind in ``must_not_be_empty`` with nothing in it proves nothing.
    ``not_judged`` says why there is no judgement (empty: there is one).
    """

    name: str
    title: str
    compared: dict[str, int] = field(default_factory=dict)
    must_not_be_empty: tuple[str, ...] = ()
    covers: str = ""
    not_judged: str = ""
    duration_s: float = 0.0
    differences: list[str] = field(default_factory=list)
    difference_count: int = 0

    def differs(self, text: str) -> None:
        """Record a difference; the first ones are kept in words."""
        self.difference_count += 1
        if len(self.differences) < MAX_KEPT:
            self.differences.append(text)

    def same(self, what: str, stored: object, expected: object) -> bool:
        """Record a difference between what a store holds and what the log says; whether they are equal."""
        if stored == expected:
            return True
        self.differs(f"{what}: stored {stored!r}, the log says {expected!r}")
        return False

    def count(self, kind: str, number: int = 1) -> None:
        """Count things compared."""
        self.compared[kind] = self.compared.get(kind, 0) + number

    @property
    def empty(self) -> tuple[str, ...]:
        """The kinds that had to hold something and did not."""
        if self.not_judged:
            return ()
        return tuple(kind for kind in self.must_not_be_empty if not self.compared.get(kind))

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the block's time to the check's."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.duration_s += time.perf_counter() - begun


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All checks of one run."""

    checks: tuple[Check, ...]
    records: int
    duration_s: float

    @property
    def first_difference(self) -> str:
        """The first difference of the first check that has one; empty when all agree."""
        return next((f"{c.name} {c.differences[0]}" for c in self.checks if c.differences), "")

    @property
    def exit_code(self) -> int:
        """0: everything compared agrees. 1: a difference. 2: a compared set is empty, so nothing was proven."""
        if self.first_difference:
            return 1
        return 2 if any(check.empty for check in self.checks) else 0
