"""What a host runs: pure machines with the topics they read. Knows nothing of Faust or Kafka clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from skeet.core.machine import Agent
from skeet.core.record import Out, Record
from skeet.streams.journaling import JournalWriter
from skeet.streams.topics import Topic

Partition = tuple[str, int]
"""The broker's topic name, and the partition."""

Restored = tuple[Any, tuple[Out[Any], ...]]
"""A state, and outputs that turned out to be missing from the log."""

Restore = Callable[[Mapping[Partition, int]], Restored]
"""Given where reading will start, the state as of there. Blocking; called in a thread whenever partitions were assigned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """Where an agent with a journal goes on: its state, outputs missing from the log, positions, and who writes on.

    ``positions`` (next offsets) win over committed ones.
    """

    state: Any
    outs: tuple[Out[Any], ...]
    positions: Mapping[Partition, int]
    journal: JournalWriter


Resume = Callable[[Mapping[Partition, int]], Resumed]
"""Given where reading would start, where it starts. Blocking; called in a thread whenever partitions were assigned."""


StepAll = Callable[[Any, Sequence[Record[Any]]], tuple[Any, tuple[Out[Any], ...]]]
"""Several records at once: state and outputs are those of ``step`` on one after the other."""


class Paced(Protocol):
    """A machine that conflates: it has something to say although no record arrives."""

    def due(self, state: Any, now_ns: int) -> tuple[Any, tuple[Out[Any], ...]]:
        """What is to be published by now; called about 40 times a second."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One machine and its inputs.

    Records of ``barriers`` topics (the clock) are given to it only once it has read every record that its inputs held when
    the barrier arrived: a machine that is behind never takes an old clock tick for silence.

    With ``step_all`` it is given those that wait together; only where it is the single stage of a plan with a journal.
    """

    name: str
    machine: Agent[Any]
    inputs: tuple[Topic, ...]
    barriers: tuple[Topic, ...] = ()
    restore: Restore | None = None
    paced: Paced | None = None
    step_all: StepAll | None = None
