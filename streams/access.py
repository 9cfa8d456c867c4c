"""The one table of access: which principal may read and write which topic. What is not here is refused by the broker.

A role is its own principal (``kafka.sasl_username``), named like the role; a tenant's processes are ``t.<tenant>``. Operators
(the CLI, ``topics apply``) are the broker's super user :data:`ADMIN`. A consumer group and a transactional id belong to the
principal they are named after. ``streams/access_admin.py`` makes a broker agree with this; a test tries every field of the
matrix against a real one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from skeet.core.outside import principal_of
from skeet.streams.topics import (
    ACCOUNT_EVENTS,
    ACCOUNT_SNAPSHOTS,
    ARTEFACTS,
    CHECKPOINTS,
    CLOCK,
    COMMANDS,
    CONTROL,
    DEAD_LETTERS,
    INSTRUMENTS,
    JOURNAL,
    LATE,
    MARKET_BARS,
    MARKET_BOOKS,
    MARKET_QUOTES,
    MARKET_RAW,
    MARKET_REFERENCE,
    MARKET_SNAPSHOTS,
    MARKET_STATUS,
    MARKET_TRADES,
    PLATFORM_EVENTS,
    REPORTS,
    SIGNALS,
    TENANT_COMMANDS,
    TENANT_EVENTS,
    TOPICS,
    Topic,
    of_tenant,
)

ADMIN = "admin"
"""The operator: a super user, who needs no line here."""


class Operation(StrEnum):
    """What can be done with a topic. Each includes seeing that it exists."""

    READ = "read"
    WRITE = "write"
    EXPIRE = "expire"
    """Let the oldest records go (Kafka's DELETE on the topic)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What one principal may do.

    ``groups`` and ``transactional_ids`` are names without the installation's prefix; one that ends in ``*`` stands for
    every name that begins so. ``watches_groups``: it may look at (not join) every consumer group. ``schemas``: it keeps the
    registry's own topic, whose name carries no prefix.
    """

    principal: str
    reads: tuple[Topic, ...] = ()
    writes: tuple[Topic, ...] = ()
    expires: tuple[Topic, ...] = ()
    groups: tuple[str, ...] = ()
    transactional_ids: tuple[str, ...] = ()
    watches_groups: bool = False
    schemas: bool = False

    def allows(self, operation: Operation, topic: Topic) -> bool:
        """Whether the principal may do this."""
        match operation:
            case Operation.READ:
                return topic in self.reads
            case Operation.WRITE:
                return topic in self.writes
            case Operation.EXPIRE:
                return topic in self.expires


MARKET = (MARKET_TRADES, MARKET_QUOTES, MARKET_BOOKS, MARKET_BARS, MARKET_STATUS)
PUBLIC = (*MARKET, MARKET_REFERENCE, INSTRUMENTS, SIGNALS, LATE, CLOCK)
"""What every tenant may read: nobody's orders, nobody's accounts. Raw frames are not: a venue's terms may forbid it."""

BUDGETED = tuple(topic for topic in TOPICS if topic.by_budget)
"""What the archive seals and then lets go."""

SERVICES: tuple[Access, ...] = (
    Access(principal="registry", schemas=True),
    Access(
        principal="feed",
        reads=(MARKET_TRADES, MARKET_QUOTES, MARKET_BOOKS, MARKET_STATUS, INSTRUMENTS, PLATFORM_EVENTS),
        writes=(*MARKET, MARKET_RAW, INSTRUMENTS, DEAD_LETTERS),
    ),
    Access(
        principal="worker",
        reads=(*MARKET, CLOCK, MARKET_SNAPSHOTS),
        writes=(MARKET_BARS, MARKET_SNAPSHOTS, MARKET_REFERENCE, SIGNALS, CLOCK, DEAD_LETTERS),
        groups=("worker",),
    ),
    Access(
        principal="trade-flow",
        reads=(MARKET_TRADES, CHECKPOINTS),
        writes=(SIGNALS, LATE, CHECKPOINTS, DEAD_LETTERS),
        groups=("trade-flow",),
    ),
    Access(
        principal="desk",
        reads=(
            *(COMMANDS, REPORTS, ACCOUNT_EVENTS, ACCOUNT_SNAPSHOTS),
            *(CONTROL, INSTRUMENTS, CLOCK, MARKET_REFERENCE),
        ),
        writes=(ACCOUNT_EVENTS, ACCOUNT_SNAPSHOTS, DEAD_LETTERS),
        groups=("desk",),
        transactional_ids=("desk-*",),
    ),
    Access(
        principal="gateway",
        reads=(ACCOUNT_EVENTS, REPORTS),
        writes=(REPORTS, DEAD_LETTERS),
        groups=("gateway",),
        transactional_ids=("gateway-*",),
    ),
    Access(principal="strategies", reads=(CONTROL,), writes=(CONTROL, COMMANDS)),
    Access(
        principal="strategy",
        reads=(
            *MARKET,
            INSTRUMENTS,
            SIGNALS,
            CLOCK,
            ACCOUNT_EVENTS,
            COMMANDS,
            CONTROL,
            ARTEFACTS,
            JOURNAL,
            CHECKPOINTS,
        ),
        writes=(COMMANDS, CONTROL, DEAD_LETTERS, JOURNAL, CHECKPOINTS),
        groups=("strategy-*",),
    ),
    Access(
        principal="intake",
        reads=(ACCOUNT_EVENTS,),
        writes=(COMMANDS, DEAD_LETTERS),
        groups=("intake",),
        transactional_ids=("intake-*",),
    ),
    Access(principal="egress", reads=(ACCOUNT_EVENTS,), groups=("egress",), transactional_ids=("egress-*",)),
    Access(principal="projection-postgres", reads=(ACCOUNT_EVENTS, CONTROL), groups=("projection-postgres",)),
    Access(
        principal="projection-clickhouse",
        reads=tuple(topic for topic in TOPICS if topic.history),
        writes=(DEAD_LETTERS,),
        groups=("projection-clickhouse",),
    ),
    Access(
        principal="archive",
        reads=(*BUDGETED, PLATFORM_EVENTS),
        writes=(PLATFORM_EVENTS,),
        expires=BUDGETED,
    ),
    Access(principal="watchdog", reads=TOPICS, writes=(PLATFORM_EVENTS,), watches_groups=True),
)


def tenant_access(tenant: str) -> tuple[Access, ...]:
    """What a tenant adds: itself, and what intake and egress do on its topics."""
    commands, events = of_tenant(TENANT_COMMANDS, tenant), of_tenant(TENANT_EVENTS, tenant)
    principal = principal_of(tenant)
    return (
        Access(
            principal=principal,
            reads=(*PUBLIC, events),
            writes=(commands,),
            groups=(f"{principal}.*",),
            transactional_ids=(f"{principal}.*",),
        ),
        Access(principal="intake", reads=(commands,), writes=(events,)),
        Access(principal="egress", writes=(events,)),
        Access(principal="watchdog", reads=(commands,)),
    )
