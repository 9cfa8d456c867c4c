"""The envelope: who caused a record, when, and where it stands in the log.

Market records are lean: they carry their own times and derive their id from their natural key. Everything else carries
a :class:`Meta`. On the wire the fields of ``Meta`` come first, then those of the event, in one flat Avro record.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from skeet.core.ids import derive_id
from skeet.core.values import AccountId, EventId, PrincipalId, TenantId

E = TypeVar("E", bound="Event", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events, commands and reports; knows nothing but that it is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketEvent(Event):
    """A lean record of one instrument.

    ``ts_event`` is the venue's time and ``ts_init`` ours (when the frame was received), both in ns since the epoch; what
    is computed from other records inherits ``ts_init`` from its cause.
    """

    instrument_id: str
    ts_event: int
    ts_init: int

    @property
    def natural_key(self) -> tuple[str | int, ...]:
        """What makes this record unique among its type; subclasses name it."""
        raise NotImplementedError

    @property
    def event_id(self) -> EventId:
        """Derived from type and natural key: equal however often the venue's frame is read."""
        return derive_id(type(self).__name__, *self.natural_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """Envelope of a full event.

    ``correlation_id`` names what started it all, ``causation_id`` the record just before and ``cause_at`` where that
    record stands (``topic/partition/offset``, the topic without its prefix; empty when it came from outside the log).
    ``ts_event`` is the time of the thing itself (the venue's where it has one, the desk's for decisions). ``ts_init`` is
    when the outside thing that started it all (a frame, a CLI call) reached SKEET, by our wall clock: derived records
    inherit it from their cause, so that it is equal on reprocessing and ``sent_ns - ts_init`` is tick-to-order latency.
    ``stream_version`` counts the events of one account from 1; 0 on records that are in no account's stream.
    """

    event_id: EventId
    tenant_id: TenantId
    account_id: AccountId
    principal_id: PrincipalId
    correlation_id: EventId
    causation_id: EventId
    cause_at: str
    ts_event: int
    ts_init: int
    stream_version: int = 0

    def with_times(self, *, ts_event: int, ts_init: int) -> Meta:
        """The same envelope at other times."""
        return replace(self, ts_event=ts_event, ts_init=ts_init)


@dataclass(frozen=True, slots=True, order=True)
class TopicPosition:
    """Where a record stands. ``topic`` is without its prefix."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Generic[E]):
    """An event as it was read: with its envelope (None on lean market records), place, and the log's append time."""

    event: E
    meta: Meta | None
    at: TopicPosition
    log_ns: int

    @property
    def event_id(self) -> EventId:
        """Id of the event, derived for market records."""
        if self.meta is not None:
            return self.meta.event_id
        event: Any = self.event
        return event.event_id  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class Out(Generic[E]):
    """An event to be written: topic (without prefix), key, envelope. ``partition`` only where the key does not decide."""

    topic: str
    key: str
    event: E
    meta: Meta | None = None
    partition: int | None = None
