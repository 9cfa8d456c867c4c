"""The composition root: which roles exist, and where each begins.

A role is one process: ``skeet run ROLE`` calls its ``main(settings) -> int`` in the foreground. Modules are named, not
imported, so that a lean role never loads another's libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from skeet.config import Settings
from skeet.core.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A kind of process.

    ``entry`` is ``module:function`` taking the settings and returning an exit code. ``after`` names the roles that must
    be ready first. ``group`` is its consumer group without the prefix (empty: none), which the watchdog follows.
    ``niceness``: who yields the processor to the order path, and who is on everybody's. Nobody waits for ``optional`` ones: ``skeet up`` runs as many as
    ``SKEET_SCALE__…`` says, none by default.
    """

    name: str
    entry: str
    summary: str
    after: tuple[str, ...] = ()
    group: str = ""
    niceness: int = 0
    optional: bool = False

    def load(self) -> Callable[[Settings], int]:
        """Import the role's entry."""
        module, _, function = self.entry.partition(":")
        loaded: Callable[[Settings], int] = getattr(import_module(module), function)
        return loaded


YIELDS = 10
GOES_BEFORE = -5
"""Who is on an order's way, before whoever is not. Users' strategies stand between the two (``agents/strategy_priority.py``). Like
the next only where the system allows it."""
GOES_FIRST = -10
"""An order waits for the broker a dozen times, and where Linux groups by session it would get no more of a busy machine than
any other process does."""
PLATFORM = ("kafka", "registry", "postgres", "clickhouse")
"""Embedded parts; each is replaced by a real server by setting its address."""

ROLES: dict[str, Role] = {
    role.name: role
    for role in (
        Role(name="kafka", entry="skeet.local.kafka:main", summary="Apache Kafka broker (KRaft)", niceness=GOES_FIRST),
        Role(name="registry", entry="skeet.local.registry:main", summary="schema registry", after=("kafka",)),
        Role(name="postgres", entry="skeet.local.postgres:main", summary="PostgreSQL"),
        Role(
            name="clickhouse",
            entry="skeet.local.clickhouse:main",
            summary="ClickHouse engine behind its HTTP protocol",
            niceness=YIELDS,
        ),
        Role(name="sim", entry="skeet.venues.sim.role:main", summary="the simulated exchange"),
        Role(
            name="feed",
            entry="skeet.roles.feed:main",
            summary="market data into topics",
            after=("sim", "registry"),
            niceness=GOES_BEFORE,
        ),
        Role(
            name="worker",
            entry="skeet.agents.worker:main",
            summary="Faust worker: bars, reference, signals, clock",
            after=("registry",),
            group="worker",
            niceness=GOES_BEFORE,
        ),
        Role(
            name="trade-flow",
            entry="skeet.agents.trade_flow_worker:main",
            summary="windows over trades: who bought and sold in the last moments",
            after=("registry",),
            group="trade-flow",
            optional=True,
        ),
        Role(
            name="desk",
            entry="skeet.agents.desk:main",
            summary="the single writer of accounts",
            after=("registry",),
            group="desk",
            niceness=GOES_BEFORE,
        ),
        Role(
            name="gateway",
            entry="skeet.roles.gateway:main",
            summary="orders to venues",
            after=("registry", "sim"),
            group="gateway",
            niceness=GOES_BEFORE,
        ),
        Role(
            name="strategies",
            entry="skeet.agents.strategies:main",
            summary="a process for each running strategy",
            after=("registry", "desk", "gateway", "feed", "worker"),
        ),
        Role(
            name="strategy",
            entry="skeet.agents.strategy_process:main",
            summary="one strategy instance (started by strategies)",
        ),
        Role(
            name="intake",
            entry="skeet.agents.intake:main",
            summary="commands of tenants' own processes",
            after=("registry",),
            group="intake",
        ),
        Role(
            name="egress",
            entry="skeet.agents.egress:main",
            summary="account events for tenants' own processes",
            after=("registry",),
            group="egress",
        ),
        Role(
            name="projection-postgres",
            entry="skeet.projections.postgres:main",
            summary="account state into Postgres",
            after=("registry", "postgres"),
            group="projection-postgres",
            niceness=YIELDS,
        ),
        Role(
            name="projection-clickhouse",
            entry="skeet.projections.clickhouse:main",
            summary="history into ClickHouse",
            after=("registry", "clickhouse"),
            group="projection-clickhouse",
            niceness=YIELDS,
        ),
        Role(
            name="archive",
            entry="skeet.projections.archive:main",
            summary="watches the disks; seals market records and lets them leave the log",
            after=("registry",),
            niceness=YIELDS,
        ),
    )
}

OPTIONAL = frozenset(role.name for role in ROLES.values() if role.optional)


def role(name: str) -> Role:
    """The role of this name.

    Raises
    ------
    InvalidInput
        no such role; the message lists them.
    """
    try:
        return ROLES[name]
    except KeyError:
        raise InvalidInput(f"role is {name!r}; expected one of {', '.join(ROLES)}") from None
