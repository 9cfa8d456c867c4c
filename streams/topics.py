"""The one table of topics: name, key, record types, partitions, retention with its reason, and who may write.

Names stand without the installation's prefix (``skeet.`` by default, :func:`topic_name` adds it). ``skeet topics plan``
compares a broker with this table and ``skeet topics apply`` creates what is missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from skeet.config import KafkaSettings
from skeet.core import control, journal, market, snapshots
from skeet.core.errors import BugError
from skeet.core.record import Event
from skeet.schemas import catalogue


class PartitionedBy(StrEnum):
    """Which of the counts fixed at genesis a topic has."""

    ACCOUNT = "account"
    MARKET = "market"
    SINGLE = "single"


HOUR_MS = 3_600_000
FOREVER = -1
ROLLED_BYTES = 16 * 1024 * 1024
"""Size of a broker's segment file where records leave: the broker frees whole files only, and its own default is 1 GiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic.

    ``history`` topics are copied whole into ClickHouse and checked against it (invariant I5). ``retention_ms`` of
    :data:`FOREVER` never expires by time; ``reason`` says why it is what it is. Records of a ``by_budget`` topic leave when
    the disk budget asks for it, once they are ``kept_at_least_ms`` old, sealed in the archive and verified; never by time.
    ``max_record_bytes`` of 0 leaves the broker's own.
    """

    name: str
    key: str
    events: tuple[type[Event], ...]
    partitioned_by: PartitionedBy
    writer: str
    retention_ms: int
    reason: str
    history: bool = False
    compacted: bool = False
    by_budget: bool = False
    kept_at_least_ms: int = 0
    max_record_bytes: int = 0


MARKET_RAW = Topic(
    name="market.raw.v1",
    key="instrument_id",
    events=(market.RawFrame,),
    partitioned_by=PartitionedBy.MARKET,
    writer="feeds",
    retention_ms=24 * HOUR_MS,
    reason="a day to replay frames after a parser's mistake",
)
MARKET_TRADES = Topic(
    name="market.trades.v1",
    key="instrument_id",
    events=catalogue.MARKET_TRADES,
    partitioned_by=PartitionedBy.MARKET,
    writer="feeds",
    retention_ms=FOREVER,
    reason="as much as the disk budget holds; the rest is in ClickHouse and in the archive",
    history=True,
    by_budget=True,
)
MARKET_QUOTES = Topic(
    name="market.quotes.v1",
    key="instrument_id",
    events=catalogue.MARKET_QUOTES,
    partitioned_by=PartitionedBy.MARKET,
    writer="feeds",
    retention_ms=FOREVER,
    reason="as much as the disk budget holds; the rest is in ClickHouse and in the archive",
    history=True,
    by_budget=True,
)
MARKET_BOOKS = Topic(
    name="market.books.v1",
    key="instrument_id",
    events=catalogue.MARKET_BOOKS,
    partitioned_by=PartitionedBy.MARKET,
    writer="feeds",
    retention_ms=FOREVER,
    reason="as much as the disk budget holds; the rest is in ClickHouse and in the archive",
    history=True,
    by_budget=True,
)
MARKET_BARS = Topic(
    name="market.bars.v1",
    key="instrument_id",
    events=(market.Bar,),
    partitioned_by=PartitionedBy.MARKET,
    writer="bars agent",
    retention_ms=FOREVER,
    reason="strategies warm up from the bars of the last weeks; older ones as the disk budget says",
    history=True,
    by_budget=True,
    kept_at_least_ms=60 * 24 * HOUR_MS,
)
MARKET_REFERENCE = Topic(
    name="market.reference.v1",
    key="instrument_id",
    events=(market.Reference,),
    partitioned_by=PartitionedBy.MARKET,
    writer="reference agent",
    retention_ms=FOREVER,
    reason="decisions copy what they used; the stream only explains them, for as long as the disk budget holds it",
    by_budget=True,
)
MARKET_STATUS = Topic(
    name="market.status.v1",
    key="instrument_id",
    events=catalogue.MARKET_STATUS,
    partitioned_by=PartitionedBy.MARKET,
    writer="feeds",
    retention_ms=FOREVER,
    reason="gaps qualify the history for as long as it is kept",
    history=True,
)
MARKET_SNAPSHOTS = Topic(
    name="market.snapshots.v1",
    key="machine/partition",
    events=(snapshots.MachineSnapshot,),
    partitioned_by=PartitionedBy.MARKET,
    writer="bars and signal agents",
    retention_ms=FOREVER,
    reason="only the newest snapshots of a machine are of use",
    compacted=True,
)
INSTRUMENTS = Topic(
    name="instruments.v1",
    key="instrument_id",
    events=(market.InstrumentDefined,),
    partitioned_by=PartitionedBy.MARKET,
    writer="feeds",
    retention_ms=FOREVER,
    reason="every version is needed to replay decisions, so it is not compacted",
    history=True,
)
CLOCK = Topic(
    name="clock.v1",
    key="",
    events=(market.Tick,),
    partitioned_by=PartitionedBy.SINGLE,
    writer="clock agent",
    retention_ms=7 * 24 * HOUR_MS,
    reason="journals name ticks as long as the market records that they order; a week of them is 40 MB",
)
SIGNALS = Topic(
    name="signals.v1",
    key="instrument_id",
    events=(market.Signal,),
    partitioned_by=PartitionedBy.MARKET,
    writer="signal agents",
    retention_ms=FOREVER,
    reason="signals explain orders; those beyond the disk budget are in ClickHouse and in the archive",
    history=True,
    by_budget=True,
)
LATE = Topic(
    name="market.late.v1",
    key="instrument_id",
    events=(market.LateRecord,),
    partitioned_by=PartitionedBy.MARKET,
    writer="agents with windows",
    retention_ms=7 * 24 * HOUR_MS,
    reason="a week to see how late a venue's records come and to choose the grace by it; the records stay at their origin",
)
COMMANDS = Topic(
    name="orders.commands.v1",
    key="account_id",
    events=catalogue.COMMANDS,
    partitioned_by=PartitionedBy.ACCOUNT,
    writer="API, CLI, strategy agents, intake",
    retention_ms=FOREVER,
    reason="what was asked is evidence",
    history=True,
)
REPORTS = Topic(
    name="venue.reports.v1",
    key="account_id",
    events=catalogue.REPORTS,
    partitioned_by=PartitionedBy.ACCOUNT,
    writer="gateways",
    retention_ms=FOREVER,
    reason="the venue's facts, which gateways restore themselves from",
    history=True,
)
ACCOUNT_EVENTS = Topic(
    name="accounts.events.v1",
    key="account_id",
    events=catalogue.ACCOUNT_EVENTS,
    partitioned_by=PartitionedBy.ACCOUNT,
    writer="the desk",
    retention_ms=FOREVER,
    reason="the truth about accounts",
    history=True,
)
ACCOUNT_SNAPSHOTS = Topic(
    name="accounts.snapshots.v1",
    key="account_id",
    events=(control.AccountSnapshot,),
    partitioned_by=PartitionedBy.ACCOUNT,
    writer="the desk",
    retention_ms=FOREVER,
    reason="only the newest snapshot of an account is of use",
    compacted=True,
)
CONTROL = Topic(
    name="control.events.v1",
    key="scope",
    events=catalogue.CONTROL,
    partitioned_by=PartitionedBy.SINGLE,
    writer="operators (API, CLI), strategies role",
    retention_ms=FOREVER,
    reason="limits and switches are part of every decision",
    history=True,
)
ARTEFACTS = Topic(
    name="strategies.artefacts.v1",
    key="SHA-256/part",
    events=(control.ArtefactStored,),
    partitioned_by=PartitionedBy.SINGLE,
    writer="operators (CLI)",
    retention_ms=FOREVER,
    reason="code that traded is evidence; what is pushed again is kept once",
    compacted=True,
)
DEAD_LETTERS = Topic(
    name="dead-letters.v1",
    key="origin topic",
    events=(control.DeadLetter, control.DeadLetterRedriven),
    partitioned_by=PartitionedBy.SINGLE,
    writer="all",
    retention_ms=FOREVER,
    reason="kept until somebody looked",
)
JOURNAL = Topic(
    name="agents.journal.v1",
    key="agent id",
    events=catalogue.JOURNAL,
    partitioned_by=PartitionedBy.ACCOUNT,
    writer="agents with several inputs",
    retention_ms=7 * 24 * HOUR_MS,
    reason="an order is of use as long as the market records that it orders",
)
CHECKPOINTS = Topic(
    name="agents.checkpoints.v1",
    key="agent id",
    events=(journal.AgentCheckpointed,),
    partitioned_by=PartitionedBy.ACCOUNT,
    writer="agents with several inputs",
    retention_ms=FOREVER,
    reason="only the newest checkpoint of an agent is of use",
    compacted=True,
)
PLATFORM_EVENTS = Topic(
    name="platform.events.v1",
    key="process or group",
    events=catalogue.PLATFORM,
    partitioned_by=PartitionedBy.SINGLE,
    writer="supervisor, watchdog, archive",
    retention_ms=90 * 24 * HOUR_MS,
    reason="a season of incidents to look back on",
)

FEEDS_OWN: tuple[Topic, ...] = (MARKET_RAW, MARKET_TRADES, MARKET_QUOTES, MARKET_BOOKS, MARKET_STATUS, INSTRUMENTS)
"""What only a feed writes (or a replay in its place): they grow when it hands records to its client, or the client hangs."""

TOPICS: tuple[Topic, ...] = (
    MARKET_RAW,
    MARKET_TRADES,
    MARKET_QUOTES,
    MARKET_BOOKS,
    MARKET_BARS,
    MARKET_REFERENCE,
    MARKET_STATUS,
    MARKET_SNAPSHOTS,
    INSTRUMENTS,
    CLOCK,
    SIGNALS,
    LATE,
    COMMANDS,
    REPORTS,
    ACCOUNT_EVENTS,
    ACCOUNT_SNAPSHOTS,
    CONTROL,
    JOURNAL,
    CHECKPOINTS,
    ARTEFACTS,
    DEAD_LETTERS,
    PLATFORM_EVENTS,
)
TOPIC_BY_NAME: dict[str, Topic] = {topic.name: topic for topic in TOPICS}

ANY_TENANT = "*"
TENANT_COMMANDS = Topic(
    name=f"t.{ANY_TENANT}.commands.v1",
    key="account_id",
    events=catalogue.TENANT_COMMANDS,
    partitioned_by=PartitionedBy.ACCOUNT,
    writer="the tenant's own processes",
    retention_ms=7 * 24 * HOUR_MS,
    reason="commands expire within minutes; what was forwarded is kept in orders.commands.v1",
    max_record_bytes=64 * 1024,
)
TENANT_EVENTS = Topic(
    name=f"t.{ANY_TENANT}.events.v1",
    key="account_id",
    events=catalogue.TENANT_EVENTS,
    partitioned_by=PartitionedBy.ACCOUNT,
    writer="egress, intake",
    retention_ms=7 * 24 * HOUR_MS,
    reason="copies of accounts.events.v1, a week for a process that was away; the truth stays there for ever",
)
TENANT_TOPICS: tuple[Topic, ...] = (TENANT_COMMANDS, TENANT_EVENTS)
"""One of each per tenant: the name stands for all of them, :func:`of_tenant` for one."""

_TENANT_NAME = re.compile(r"t\.([a-z0-9][a-z0-9-]{0,31})\.(commands|events)\.v1")


def of_tenant(topic: Topic, tenant: str) -> Topic:
    """One tenant's topic out of :data:`TENANT_TOPICS`."""
    return replace(topic, name=topic.name.replace(ANY_TENANT, tenant))


def tenant_in(name: str) -> str | None:
    """The tenant whose topic this is (name without the prefix); None for every other topic."""
    found = _TENANT_NAME.fullmatch(name)
    return found.group(1) if found else None


def subscription(topic: Topic, kafka: KafkaSettings) -> str:
    """What a consumer subscribes to: the broker's name, or the pattern of all tenants' topics."""
    name = topic_name(topic, kafka)
    if ANY_TENANT not in topic.name:
        return name
    return "^" + re.escape(name).replace(re.escape(ANY_TENANT), "[a-z0-9-]+") + "$"


def broker_name(name: str, kafka: KafkaSettings) -> str:
    """The broker's name of a topic of the table, or of a tenant, given without the prefix.

    Raises
    ------
    BugError
        no such topic: topics come from this table only.
    """
    if name not in TOPIC_BY_NAME and tenant_in(name) is None:
        raise BugError(f"{name} is no topic of ours")
    return kafka.topic_prefix + name


def topic_name(topic: Topic, kafka: KafkaSettings) -> str:
    """The broker's name of a topic in this installation."""
    return kafka.topic_prefix + topic.name


def partition_count(topic: Topic, kafka: KafkaSettings) -> int:
    """How many partitions the topic has, fixed at genesis."""
    match topic.partitioned_by:
        case PartitionedBy.ACCOUNT:
            return kafka.account_partitions
        case PartitionedBy.MARKET:
            return kafka.market_partitions
        case PartitionedBy.SINGLE:
            return 1


def topic_config(topic: Topic) -> dict[str, str]:
    """The broker-side settings of a topic. LogAppendTime: the log's time is one clock, whoever writes."""
    config = {
        "retention.ms": str(topic.retention_ms),
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "message.timestamp.type": "LogAppendTime",
    }
    if topic.by_budget or topic.retention_ms != FOREVER:
        config["segment.bytes"] = str(ROLLED_BYTES)
    if topic.compacted:
        # Only closed segments are compacted: with the broker's week, a start would read days of checkpoints.
        config |= {"segment.bytes": str(ROLLED_BYTES), "segment.ms": str(HOUR_MS)}
    if topic.max_record_bytes:
        config["max.message.bytes"] = str(topic.max_record_bytes)
    return config
