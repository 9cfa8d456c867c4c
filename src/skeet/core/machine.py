"""The two shapes of pure machines that the house runs; live, replay and backtest share them."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from skeet.core.record import Out, Record

S = TypeVar("S")


class Agent(Protocol[S]):
    """A pure fold with outputs: bars, signals, reference, strategies.

    ``step`` takes no clock and does no I/O; the same records in the same order give the same outputs, with equal ids.
    """

    @property
    def version(self) -> str:
        """Changes whenever the outputs could."""
        ...

    def initial(self) -> S:
        """The state before the first record."""
        ...

    def step(self, state: S, record: Record[Any]) -> tuple[S, tuple[Out[Any], ...]]:
        """The next state and what is to be published, in order. The state given may be updated in place."""
        ...
