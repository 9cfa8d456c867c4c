"""Which faults a chaos run makes, and when: a pure function of the seed.

Every fault of the chosen kinds is in the table below; a round is one shuffle of all of them, and rounds follow each other
until the time is up. So fifteen minutes meet every kind of process, and two runs of one seed meet the same faults.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from skeet.core.errors import InvalidInput
from skeet.streams.crash_points import CATALOGUE


class FaultKind(StrEnum):
    """What is done: a process killed, frozen and continued, killed at a named point, answers dropped, all at once."""

    KILL = "kill"
    PAUSE = "pause"
    POINT = "point"
    EXCHANGE = "exchange"
    EVERYTHING = "everything"


STRATEGY = "strategy"
"""The target that stands for the process of one strategy instance."""
MACHINE = "machine"
"""Every process and the supervisor, then `skeet up`."""
ROLES = "roles"
"""Every process but the supervisor, which starts them again in whatever order they ended."""

MISBEHAVIOURS = {
    "answers lost": "drop_next",
    "answers 504": "unavailable_next",
    "orders refused with 429": "limit_next",
    "reports sent twice": "repeat_next",
    "market frames lost": "lose_frames_next",
}
"""What the exchange does wrong so many times, and the name under which it is told to."""

FIRST_AT_S = 5.0
PERIOD_S = (8.0, 14.0)
"""From one fault to the next, at least; a recovery that takes longer moves the next one."""

SESSION_OUTLIVED_S = (12.0, 16.0)
"""Longer than the session timeout of a group (10 s): the partitions of a frozen member are taken from it."""
BRIEF_S = (3.0, 7.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A fault without its time. ``amount`` is drawn from the range: seconds of a pause, the passage of a point, answers to
    drop; (0, 0) where there is none."""

    kind: FaultKind
    target: str
    amount: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is to happen, and not before ``at_s`` seconds of the run."""

    at_s: float
    kind: FaultKind
    target: str
    amount: float = 0.0

    @property
    def text(self) -> str:
        """In words: ``pause desk 13.2 s``."""
        match self.kind:
            case FaultKind.PAUSE:
                return f"pause {self.target} {self.amount:.1f} s"
            case FaultKind.POINT:
                return f"crash at {self.target}:{self.amount:.0f}"
            case FaultKind.EXCHANGE:
                return f"{self.amount:.0f} {self.target}"
            case FaultKind.EVERYTHING:
                return "kill everything" + (", the supervisor too" if self.target == MACHINE else "")
            case FaultKind.KILL:
                return f"kill {self.target}"


KILLED = (
    *("kafka", "registry", "postgres", "clickhouse", "sim", "supervisor"),
    *("feed", "worker", "desk", "gateway", "strategies", STRATEGY, "projection-postgres", "projection-clickhouse"),
    *("intake", "egress", "archive"),
)
OUTLIVING = ("desk", "gateway", STRATEGY, "worker", "projection-postgres", "projection-clickhouse")
BRIEFLY = ("kafka", "postgres", "clickhouse", "sim", "feed", "registry", "strategies")

ON_THE_WAY = tuple(point for point in CATALOGUE if point.role not in ("intake", "archive"))
"""Points that the demo passes within moments: no process of a tenant's own sends it commands, which intake would forward,
and the archive seals only what has become old."""

TEMPLATES: tuple[Template, ...] = (
    *(Template(kind=FaultKind.KILL, target=name) for name in KILLED),
    *(Template(kind=FaultKind.PAUSE, target=name, amount=SESSION_OUTLIVED_S) for name in OUTLIVING),
    *(Template(kind=FaultKind.PAUSE, target=name, amount=BRIEF_S) for name in BRIEFLY),
    *(Template(kind=FaultKind.POINT, target=point.name, amount=(1, 3)) for point in ON_THE_WAY),
    *(Template(kind=FaultKind.EXCHANGE, target=name, amount=(1, 5)) for name in MISBEHAVIOURS),
    *(Template(kind=FaultKind.EVERYTHING, target=name) for name in (MACHINE, ROLES)),
)

RARE_POINTS = frozenset({"registry", "supervisor", "strategies"})
"""Roles whose points are passed because the run makes them pass, once."""


def schedule(seed: int, minutes: float, kinds: Sequence[FaultKind] = tuple(FaultKind)) -> tuple[Fault, ...]:
    """The faults of a run, in order. Pure.

    Raises
    ------
    InvalidInput
        no kind is left.
    """
    if not kinds:
        raise InvalidInput(f"--faults names no kind; expected some of {', '.join(FaultKind)}")
    return tuple(_until(minutes * 60, random.Random(seed), [each for each in TEMPLATES if each.kind in kinds]))


def _until(end_s: float, chance: random.Random, templates: Sequence[Template]) -> Iterator[Fault]:
    at_s = FIRST_AT_S
    while True:
        for template in _shuffled(chance, templates):
            amount = _drawn(chance, template)
            if at_s >= end_s:
                return
            yield Fault(at_s=round(at_s, 1), kind=template.kind, target=template.target, amount=amount)
            at_s += _between(chance, PERIOD_S) + (amount if template.kind is FaultKind.PAUSE else 0.0)


def _shuffled(chance: random.Random, templates: Sequence[Template]) -> list[Template]:
    order = list(templates)
    chance.shuffle(order)
    return order


def _drawn(chance: random.Random, template: Template) -> float:
    drawn = _between(chance, template.amount)
    if template.kind is FaultKind.PAUSE:
        return round(drawn, 1)
    if template.kind is FaultKind.POINT and template.target.partition(".")[0] in RARE_POINTS:
        return 1.0
    return float(round(drawn))


def _between(chance: random.Random, limits: tuple[float, float]) -> float:
    return limits[0] + (limits[1] - limits[0]) * chance.random()


def parse_kinds(text: str) -> tuple[FaultKind, ...]:
    """``kill,pause`` as kinds, in the table's order.

    Raises
    ------
    InvalidInput
        names the unknown one.
    """
    words = {word.strip() for word in text.split(",") if word.strip()}
    if unknown := words - set(FaultKind):
        raise InvalidInput(f"--faults has {min(unknown)!r}; expected some of {', '.join(FaultKind)}")
    return tuple(kind for kind in FaultKind if kind in words)
