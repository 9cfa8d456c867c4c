"""The one table of topics: name, key, record types, partitions, retention with its reason, and who may write.

Names stand without the installation's prefix (``skeet.`` by default, :func:`topic_name` adds it). ``skeet topics plan``
compares a broker with this table and ``skeet topics apply`` creates what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from skeet.config import KafkaSettings
from skeet.core import control, journal, market
from skeet.core.record import Event
from skeet.schemas import catalogue


class PartitionedBy(StrEnum):
    """Which of the counts fixed at genesis a topic has."""

    ACCOUNT = "account"
    MARKET = "market"
    SINGLE = "single"


HOUR_MS = 3_600_000
FOREVER = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic.

    ``history`` topics are copied whole into ClickHouse and checked against it (invariant I5). ``retention_ms`` of
    :data:`FOREVER` never expires; ``reason`` says why it is what it is.
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
    retention_ms=7 * 24 * HOUR_MS,
    reason="market history beyond a week is read from ClickHouse",
    history=True,
)
MARKET_QUOTES = Topic(
    name="market.quotes.v1",
    key="instrument_id",
    events=catalogue.MARKET_QUOTES,
    partitioned_by=PartitionedBy.MARKET,
    writer="feeds",
    retention_ms=7 * 24 * HOUR_MS,
    reason="market history beyond a week is read from ClickHouse",
    history=True,
)
MARKET_BOOKS = Topic(
    name="market.books.v1",
    key="instrument_id",
    events=catalogue.MARKET_BOOKS,
    partitioned_by=PartitionedBy.MARKET,
    writer="feeds",
    retention_ms=7 * 24 * HOUR_MS,
    reason="market history beyond a week is read from ClickHouse",
    history=True,
)
MARKET_BARS = Topic(
    name="market.bars.v1",
    key="instrument_id",
    events=(market.Bar,),
    partitioned_by=PartitionedBy.MARKET,
    writer="bars agent",
    retention_ms=60 * 24 * HOUR_MS,
    reason="strategies warm up from the bars of the last weeks",
    history=True,
)
MARKET_REFERENCE = Topic(
    name="market.reference.v1",
    key="instrument_id",
    events=(market.Reference,),
    partitioned_by=PartitionedBy.MARKET,
    writer="reference agent",
    retention_ms=7 * 24 * HOUR_MS,
    reason="decisions copy what they used; the stream itself only explains them",
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
    retention_ms=60 * 24 * HOUR_MS,
    reason="signals explain orders; older ones are in ClickHouse",
    history=True,
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

TOPICS: tuple[Topic, ...] = (
    MARKET_RAW,
    MARKET_TRADES,
    MARKET_QUOTES,
    MARKET_BOOKS,
    MARKET_BARS,
    MARKET_REFERENCE,
    MARKET_STATUS,
    INSTRUMENTS,
    CLOCK,
    SIGNALS,
    COMMANDS,
    REPORTS,
    ACCOUNT_EVENTS,
    ACCOUNT_SNAPSHOTS,
    CONTROL,
    JOURNAL,
    CHECKPOINTS,
    DEAD_LETTERS,
    PLATFORM_EVENTS,
)
TOPIC_BY_NAME: dict[str, Topic] = {topic.name: topic for topic in TOPICS}


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
