"""What the supervisor should do next, as pure functions: start order, back-off, stop order. No process is touched here."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from skeet.config import ScaleSettings
from skeet.streams.access import ADMIN, SERVICES
from skeet.wiring import PLATFORM, ROLES, Role

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
STABLE_AFTER_S = 10.0
"""A process that was ready for this long starts its back-off anew: back-off is for what ends again at once. With a minute
here, a gateway that was killed every half minute stayed away for 30 s each time."""

ACCESS_STEP = "access"
"""The step between a secured Kafka and whoever connects to it: credentials and ACLs are in place."""

TOPICS_STEP = "topics"
"""The step between Kafka and the roles: topics, schemas and genesis are in place."""

ON_DEMAND = frozenset({"strategy"})
"""Roles that other roles start."""


class State(StrEnum):
    """The life of one supervised process."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """One process to keep running.

    ``once``: a step that is done when it ends with 0 (its dependants wait for that). ``after``: names that must be ready
    before its first start. ``group``: the consumer group the watchdog follows, empty for none. ``principal``: who
    it is to a secured Kafka, empty for nobody, None where Kafka is not secured.
    """

    name: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    once: bool = False
    niceness: int = 0
    group: str = ""
    principal: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    role: str = ""
    slot: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)


def platform_specs(
    external: frozenset[str],
    group_prefix: str,
    *,
    simulated: bool = True,
    scale: ScaleSettings | None = None,
    health_port: int = 0,
    secured: bool = False,
) -> tuple[ProcessSpec, ...]:
    """The processes of this machine: every role, less the parts given by address, plus the topics step.

    A role of which there are several gives processes ``desk-0``, ``desk-1`` …; who waits for the role waits for all of
    them. With a ``health_port`` other than 0 each process answers on the next one, in the order of the table. ``secured``:
    each is its role's principal, and credentials and ACLs come first.
    """
    left_out = external | ON_DEMAND | (frozenset() if simulated else frozenset({"sim"}))
    counts = {name: (scale or ScaleSettings()).of(name) for name in ROLES if name not in left_out}
    topics = ProcessSpec(name=TOPICS_STEP, command=_skeet("topics", "apply"), after=("kafka", "registry"), once=True)
    specs = [_spec(ROLES[name], group_prefix, slot, counts) for name, count in counts.items() for slot in range(count)]
    if health_port:
        ports = {spec.name: str(health_port + index) for index, spec in enumerate(specs)}
        specs = [replace(s, environment={**s.environment, "SKEET_HEALTH__PORT": ports[s.name]}) for s in specs]
    if not secured:
        return (*specs, topics)
    access = ProcessSpec(
        name=ACCESS_STEP, command=_skeet("access", "apply"), after=("kafka",), once=True, principal=ADMIN
    )
    return (*(_secured(spec) for spec in (*specs, topics)), access)


def _secured(spec: ProcessSpec) -> ProcessSpec:
    after = (*spec.after, ACCESS_STEP) if "kafka" in spec.after else spec.after
    return replace(spec, after=after, principal=principal_of_process(spec.role or spec.name))


def principal_of_process(role: str) -> str:
    """Who a role (or the topics step) is to a secured Kafka; empty for one that does not use it."""
    if role in ("kafka", TOPICS_STEP):
        return ADMIN
    return role if any(access.principal == role for access in SERVICES) else ""


def names_of(role: str, count: int) -> tuple[str, ...]:
    """The processes of a role: its name alone, or numbered where there are several."""
    return (role,) if count == 1 else tuple(f"{role}-{slot}" for slot in range(count))


def _spec(role: Role, group_prefix: str, slot: int, counts: Mapping[str, int]) -> ProcessSpec:
    needs_topics = role.name not in PLATFORM and "registry" in role.after
    after = tuple(name for other in role.after for name in names_of(other, counts.get(other, 1)))
    return ProcessSpec(
        name=names_of(role.name, counts[role.name])[slot],
        role=role.name,
        slot=slot,
        environment={"SKEET_SLOT": str(slot)} if counts[role.name] > 1 else {},
        command=_skeet("run", role.name),
        after=(*after, TOPICS_STEP) if needs_topics else after,
        niceness=role.niceness,
        group=group_prefix + role.group if role.group else "",
        # PostgreSQL's SIGTERM waits for every client to leave; SIGINT is its fast, clean stop.
        stop_signal=signal.SIGINT if role.name == "postgres" else signal.SIGTERM,
    )


def _skeet(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "skeet", *words)


def startable(specs: Sequence[ProcessSpec], states: Mapping[str, State]) -> list[str]:
    """Names that wait and may start."""
    return [spec.name for spec in specs if states[spec.name] is State.WAITING and may_start(spec.name, specs, states)]


def may_start(name: str, specs: Sequence[ProcessSpec], states: Mapping[str, State]) -> bool:
    """Whether everything it depends on (of what is supervised at all) is ready, and what that depends on.

    Asked at restarts too: after a crash of everything, a dozen processes that start and end again because Kafka is not
    there yet would take the processor that Kafka needs to get there.
    """
    return all(states.get(other, State.READY) is State.READY for other in _needs(name, specs))


def _needs(name: str, specs: Sequence[ProcessSpec]) -> set[str]:
    """Dependencies, and theirs."""
    after = {spec.name: spec.after for spec in specs}
    found: set[str] = set()
    left = list(after[name])
    while left:
        other = left.pop()
        if other not in found:
            found.add(other)
            left += after.get(other, ())
    return found


def backoff_s(failures: int) -> float:
    """How long to wait before the start after this many failures in a row (1 is the first)."""
    return min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** (max(1, failures) - 1))


def failures_after(failures: int, ready_for_s: float) -> int:
    """Failures in a row, counting one more end of a process that had been ready for so long."""
    return 1 if ready_for_s >= STABLE_AFTER_S else failures + 1


def stop_waves(specs: Sequence[ProcessSpec]) -> list[list[str]]:
    """Names in the order of stopping: whoever depends on something stops before it; one wave stops together."""
    by_name = {spec.name: spec for spec in specs}

    def depth(name: str) -> int:
        return 1 + max((depth(other) for other in by_name[name].after if other in by_name), default=0)

    depths = {name: depth(name) for name in by_name}
    return [
        [name for name, level in depths.items() if level == wave]
        for wave in range(max(depths.values(), default=0), 0, -1)
    ]
