"""The door of a topic: what its readers take as a record of it, and how what they do not take is kept.

A record is let in when its bytes can be read, its type belongs to the topic, its key is its account or instrument and
decides its partition, and its fields hold what can be recorded. Everybody who reads a topic that others write asks here, so
that all agree. What is turned away becomes one dead letter with a derived id: whoever writes it again writes the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from confluent_kafka import Message

from skeet.config import KafkaSettings
from skeet.core.accounts import AccountEvent, ControlApplied, RulesApplied, StateMarked
from skeet.core.admission import MAX_ID, envelope_flaws, flaws, recordable_text
from skeet.core.commands import Command
from skeet.core.control import DeadLetter
from skeet.core.errors import MisplacedRecord
from skeet.core.ids import derive_id
from skeet.core.record import MarketEvent, Meta, Out, Record, TopicPosition
from skeet.core.values import NS_PER_MS, AccountId, EventId, PrincipalId, TenantId
from skeet.schemas.codec import Codec
from skeet.streams.partitioner import partition_of
from skeet.streams.topics import (
    ACCOUNT_EVENTS,
    COMMANDS,
    DEAD_LETTERS,
    REPORTS,
    TOPIC_BY_NAME,
    PartitionedBy,
    partition_count,
)

KEPT_BYTES = 500_000
"""More of a record's value is cut off: its size is kept, and its position says where the rest is."""
KEPT_KEY_BYTES = 1_000
KEPT_CAUSE = 2_000
OF_A_PARTITION = (ControlApplied, RulesApplied, StateMarked)
"""Account events of a whole partition."""
ACCOUNT_KEYED = frozenset({COMMANDS.name, REPORTS.name, ACCOUNT_EVENTS.name})


class ForeignRecord(MisplacedRecord):
    """Key, envelope and partition do not name one and the same account or instrument."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRecord:
    """A record as Kafka delivers it. ``at`` is without the prefix, ``log_ns`` the log's time."""

    at: TopicPosition
    key: bytes
    value: bytes
    log_ns: int


def raw_record(message: Message, prefix: str) -> RawRecord:
    """The message, with its topic's prefix taken off; a tombstone has an empty value."""
    return RawRecord(
        at=TopicPosition(str(message.topic()).removeprefix(prefix), message.partition() or 0, message.offset() or 0),
        key=message.key() or b"",
        value=message.value() or b"",
        log_ns=message.timestamp()[1] * NS_PER_MS,
    )


class Door:
    """Lets records of all topics of one installation in."""

    def __init__(self, kafka: KafkaSettings, codec: Codec) -> None:
        self._kafka = kafka
        self._codec = codec

    def message(self, message: Message) -> Record[Any]:
        """:meth:`record` of a message of the client."""
        return self.record(raw_record(message, self._kafka.topic_prefix))

    def record(self, raw: RawRecord) -> Record[Any]:
        """The record, if it may be taken for one of its topic.

        Raises
        ------
        DecodeError
            the bytes are no record of ours.
        UnknownEvent
            a newer version wrote it.
        MisplacedRecord
            it can be read, and does not belong where it stands.
        InfrastructureError
            the registry, asked for its schema, is away.
        """
        event, meta = self._codec.decode(raw.value)
        record: Record[Any] = Record(event=event, meta=meta, at=raw.at, log_ns=raw.log_ns)
        topic = TOPIC_BY_NAME.get(raw.at.topic)
        if topic is None:
            return record
        if type(event) not in topic.events:
            raise MisplacedRecord(f"{type(event).__name__} does not belong into {topic.name}")
        self._check_place(record, raw.key)
        found = _flaws(record)
        if found:
            raise MisplacedRecord(f"{type(event).__name__}: {'; '.join(found)}")
        return record

    def _check_place(self, record: Record[Any], key: bytes) -> None:
        topic = TOPIC_BY_NAME[record.at.topic]
        if isinstance(record.event, OF_A_PARTITION):  # of its pseudo-account, which is no key's
            return
        if topic.name in ACCOUNT_KEYED:
            owner, what = (record.meta.account_id if record.meta else ""), "account_id"
        elif isinstance(record.event, MarketEvent) and topic.partitioned_by is PartitionedBy.MARKET:
            owner, what = record.event.instrument_id, "instrument_id"
        else:
            return
        if not owner or owner.startswith("~") or len(owner) > MAX_ID:
            raise MisplacedRecord(f"{what} is {recordable_text(owner, MAX_ID)!r}; expected an id")
        if key != owner.encode():
            raise ForeignRecord(f"the key is {key[:KEPT_KEY_BYTES]!r}; expected {what} {recordable_text(owner)!r}")
        belongs = partition_of(key, partition_count(topic, self._kafka))
        if belongs != record.at.partition:
            raise ForeignRecord(f"{recordable_text(owner)} belongs to partition {belongs}; use the murmur2 partitioner")


def _flaws(record: Record[Any]) -> tuple[str, ...]:
    """What is wrong with the content. Of a command only the envelope counts here: for the rest the account refuses it, with
    all reasons. Account events are not judged: the desk made them recordable, and to leave one out would be a hole."""
    if isinstance(record.event, AccountEvent):
        return ()
    if isinstance(record.event, Command) and record.meta is not None:
        return envelope_flaws(record.meta)
    return flaws(record.event, record.meta)


def dead_letter(role: str, raw: RawRecord, cause: Exception | str) -> Out[DeadLetter]:
    """The record as a dead letter of the role, ready to be written; equal however often it is made."""
    text = cause if isinstance(cause, str) else f"{type(cause).__name__}: {cause}"
    letter = DeadLetter(
        role=role,
        topic=raw.at.topic,
        partition=raw.at.partition,
        offset=raw.at.offset,
        key=raw.key[:KEPT_KEY_BYTES],
        value=raw.value[:KEPT_BYTES],
        cause=recordable_text(text, KEPT_CAUSE),
        size=len(raw.value),
    )
    return Out(topic=DEAD_LETTERS.name, key=raw.at.topic, event=letter, meta=letter_meta(role, raw))


def letter_id(role: str, at: TopicPosition) -> EventId:
    """The id of the role's dead letter about the record that stands there."""
    return derive_id("dead-letter", role, at.topic, at.partition, at.offset)


def letter_meta(role: str, raw: RawRecord) -> Meta:
    """The envelope of a dead letter: its id is derived from who turned the record away, and where it stands."""
    identity = letter_id(role, raw.at)
    return Meta(
        event_id=identity,
        tenant_id=TenantId(""),
        account_id=AccountId(""),
        principal_id=PrincipalId(role),
        correlation_id=identity,
        causation_id=identity,
        cause_at=str(raw.at),
        ts_event=raw.log_ns,
        ts_init=raw.log_ns,
    )


def account_of(raw: RawRecord, cause: Exception, partitions: int) -> str:
    """The account that a poisoned record was for: its key, if that is all that is known and belongs here; else nobody's.

    A record whose key and envelope disagree is about no account in particular, and one in another account's partition
    could be judged by two desks.
    """
    if raw.at.topic not in ACCOUNT_KEYED or len(raw.key) > MAX_ID or isinstance(cause, ForeignRecord):
        return ""
    try:
        account_id = raw.key.decode()
    except UnicodeDecodeError:
        return ""
    return account_id if account_id and partition_of(raw.key, partitions) == raw.at.partition else ""
