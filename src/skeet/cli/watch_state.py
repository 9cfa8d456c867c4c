"""What ``skeet watch`` knows: prices and events from Kafka, positions and orders from Postgres, lag from the groups."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from skeet.config import Settings
from skeet.core.errors import InvalidInput, SkeetError
from skeet.core.market import Reference
from skeet.core.record import Record
from skeet.projections import queries
from skeet.streams import topics
from skeet.streams.kafka import admin, consumer, group_name
from skeet.streams.reading import end_offsets, partitions_of, record_of
from skeet.streams.registry import registered_codec
from skeet.wiring import ROLES

HISTORY = 40
"""Mid prices kept per instrument, one a sampling interval: the width of the little chart."""
SAMPLE_S = 0.5
BACK_RECORDS = 50
"""How far before each partition's end the view begins, so that there is a price at once."""
EVENTS_KEPT = 8
TABLES_EVERY_S = 1.0
LAG_EVERY_S = 3.0
BATCH = 500
QUIET_EVENTS = frozenset({"ReportIgnored", "DuplicateIgnored", "ControlApplied", "RulesApplied", "StateMarked"})
REQUEST_TIMEOUT_S = 5.0
TWO = Decimal(2)


@dataclass(slots=True)
class Price:
    """Newest reference of an instrument and its last mid prices."""

    reference: Reference
    mids: deque[Decimal] = field(default_factory=lambda: deque(maxlen=HISTORY))
    sampled_at: float = 0.0

    @property
    def mid(self) -> Decimal:
        """Halfway between bid and ask; the last trade while one of them is missing."""
        reference = self.reference
        if reference.bid_mantissa and reference.ask_mantissa:
            return (reference.bid + reference.ask) / TWO
        return reference.last


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One moment, ready to be drawn. ``troubles`` names what could not be read."""

    now_ns: int
    prices: dict[str, Price]
    events: list[Record[Any]]
    positions: list[dict[str, Any]]
    balances: list[dict[str, Any]]
    orders: list[dict[str, Any]]
    lag: dict[str, int]
    troubles: dict[str, str]


class Watcher:
    """Reads until asked for the picture. Not thread-safe; close after use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._codec = registered_codec(settings)
        self._client = consumer(settings, "skeet-watch")
        places = partitions_of(settings, [topics.MARKET_REFERENCE, topics.ACCOUNT_EVENTS])
        ends = end_offsets(self._client, places)
        self._client.assign([TopicPartition(*place, max(0, end - BACK_RECORDS)) for place, end in ends.items()])
        self._admin = admin(settings)
        self._prices: dict[str, Price] = {}
        self._events: deque[Record[Any]] = deque(maxlen=EVENTS_KEPT)
        self._tables: dict[str, list[dict[str, Any]]] = {"positions": [], "balances": [], "orders": []}
        self._lag: dict[str, int] = {}
        self._troubles: dict[str, str] = {}
        self._due: dict[str, float] = {}

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def look(self, seconds: float) -> None:
        """Take in what arrives for this long, and what the stores say when it is due."""
        until = time.monotonic() + seconds
        self._when_due("Postgres", TABLES_EVERY_S, self._read_tables)
        self._when_due("lag", LAG_EVERY_S, self._ask_for_lag)
        while (left := until - time.monotonic()) > 0:
            for message in self._client.consume(BATCH, min(left, 0.1)):
                if message.error() is None:
                    self._take(message)

    def picture(self) -> Picture:
        """What is known now."""
        return Picture(
            now_ns=time.time_ns(),
            prices=dict(sorted(self._prices.items())),
            events=list(self._events),
            positions=self._tables["positions"],
            balances=self._tables["balances"],
            orders=self._tables["orders"],
            lag=self._lag,
            troubles=dict(self._troubles),
        )

    def _take(self, message: Any) -> None:
        try:
            record = record_of(self._codec, message, self._settings.kafka.topic_prefix)
        except InvalidInput:
            return
        if isinstance(record.event, Reference):
            price = self._prices.setdefault(record.event.instrument_id, Price(record.event))
            price.reference = record.event
            if time.monotonic() - price.sampled_at >= SAMPLE_S:
                price.mids.append(price.mid)
                price.sampled_at = time.monotonic()
        elif type(record.event).__name__ not in QUIET_EVENTS:
            self._events.append(record)

    def _when_due(self, what: str, every_s: float, read: Callable[[], None]) -> None:
        if time.monotonic() < self._due.get(what, 0.0):
            return
        try:
            read()
            self._troubles.pop(what, None)
        except (SkeetError, KafkaException) as error:
            self._troubles[what] = str(error)
        self._due[what] = time.monotonic() + every_s

    def _read_tables(self) -> None:
        self._tables = {
            "positions": queries.positions(self._settings),
            "balances": queries.balances(self._settings),
            "orders": queries.orders(self._settings, limit=20),
        }

    def _ask_for_lag(self) -> None:
        try:
            self._read_lag()
        except KafkaException:
            # A client that lived through a broker's death finds no groups again.
            self._admin = admin(self._settings)
            raise

    def _read_lag(self) -> None:
        """Offsets between each group's positions and the ends: a gauge, not the proof that `verify` gives."""
        groups = {group_name(self._settings, role.group): role.name for role in ROLES.values() if role.group}
        requests = [ConsumerGroupTopicPartitions(group) for group in groups]
        committed: dict[str, list[TopicPartition]] = {}
        for request in requests:  # one group a request is what brokers of every version accept
            answer = self._admin.list_consumer_group_offsets([request], request_timeout=REQUEST_TIMEOUT_S)
            found = answer[request.group_id].result(timeout=REQUEST_TIMEOUT_S).topic_partitions
            committed[groups[request.group_id]] = [place for place in found if place.offset >= 0]
        wanted = {TopicPartition(p.topic, p.partition) for places in committed.values() for p in places}
        if not wanted:
            self._lag = {}
            return
        latest = self._admin.list_offsets(
            {place: OffsetSpec.latest() for place in wanted}, request_timeout=REQUEST_TIMEOUT_S
        )
        ends = {(p.topic, p.partition): f.result(timeout=REQUEST_TIMEOUT_S).offset for p, f in latest.items()}
        self._lag = {
            role: sum(max(0, ends[p.topic, p.partition] - p.offset) for p in places)
            for role, places in committed.items()
            if places
        }
