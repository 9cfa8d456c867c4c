"""The tree of one order, from the log: causes upwards by position, consequences downwards by order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from skeet.cli.output import plain
from skeet.config import Settings
from skeet.core.errors import InvalidInput
from skeet.core.market import Tick
from skeet.core.record import Event, Record
from skeet.core.reports import SubmitAcknowledged
from skeet.core.values import NS_PER_MS
from skeet.schemas.codec import Codec
from skeet.streams import topics
from skeet.streams.reading import Partition, messages_until_end, partitions_of, record_of
from skeet.streams.topics import topic_name

MAX_CAUSES = 10
"""A chain of causes is four long; one that does not end is a mistake in the data."""

MAX_OFFSET = 2**63 - 1

SHOWN = (
    "instrument_id", "name", "interval", "rule", "side", "order_type", "quantity", "limit_price", "price", "size", "close",
    "status", "liquidity", "fee", "fee_asset", "filled_quantity", "reference_bid", "reference_ask", "venue_order_id", "trade_id",
    "code", "reason", "evidence",
)  # fmt: skip
"""Fields worth reading on one line, in this order."""


@dataclass(slots=True, kw_only=True)
class Hop:
    """One step: a record, or a moment that a record names. ``delta_ms`` is since the hop above (None: the first)."""

    kind: str
    ts_ns: int
    at: str = ""
    event_id: str = ""
    delta_ms: float | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    children: list[Hop] = field(default_factory=list)

    def add(self, child: Hop) -> Hop:
        """Hang a step below this one; returns it."""
        child.delta_ms = (child.ts_ns - self.ts_ns) / NS_PER_MS
        self.children.append(child)
        return child


class Tracer:
    """Finds the records of an order."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec

    def trace(self, order_id: str) -> Hop | None:
        """The first cause with everything below it; None when no record names the order."""
        records = self._records_of(order_id)
        if not records:
            return None
        command = next((record for record in records if record.event_id == order_id), None)
        chain = [*self._causes(command), command] if command is not None else []
        root = received(chain[0]) if chain else Hop(kind="the command is no longer in the log", ts_ns=records[0].log_ns)
        bottom = root
        for record in chain:
            bottom = bottom.add(_hop(record))
        _hang([record for record in records if record is not command], bottom)
        return root

    def _records_of(self, order_id: str) -> list[Record[Any]]:
        """Commands, events and reports that name the order, in the log's order of time."""
        found: list[Record[Any]] = []
        places = partitions_of(self._settings, [topics.COMMANDS, topics.ACCOUNT_EVENTS, topics.REPORTS])
        for message in messages_until_end(self._settings, places):
            # The id stands as text in every record that concerns the order: most records are never decoded.
            if order_id.encode() in (message.value() or b""):
                try:
                    record = record_of(self._codec, message, self._settings.kafka.topic_prefix)
                except InvalidInput:  # bytes that only look like a record of the order
                    continue
                if _names(record, order_id):
                    found.append(record)
        return sorted(found, key=lambda record: (record.log_ns, record.at))

    def _causes(self, record: Record[Any] | None) -> list[Record[Any]]:
        """What led to the record, first cause first."""
        causes: list[Record[Any]] = []
        position = _cause_of(record) if record is not None else ""
        while position and len(causes) < MAX_CAUSES:
            cause = self._at(position)
            if cause is None:
                break
            causes.insert(0, cause)
            position = _cause_of(cause)
        return causes

    def _at(self, position: str) -> Record[Any] | None:
        name, _, place_text = position.partition("/")
        partition, _, offset = place_text.partition("/")
        topic = topics.TOPIC_BY_NAME.get(name)
        if topic is None or not (partition.isdecimal() and offset.isdecimal()):
            return None  # a command may name any cause
        if int(partition) >= topics.partition_count(topic, self._settings.kafka) or int(offset) > MAX_OFFSET:
            return None
        place: Partition = (topic_name(topic, self._settings.kafka), int(partition))
        for message in messages_until_end(self._settings, [place], {place: int(offset)}):
            if message.offset() != int(offset):
                return None  # expired
            try:
                return record_of(self._codec, message, self._settings.kafka.topic_prefix)
            except InvalidInput:
                return None
        return None


def _names(record: Record[Any], order_id: str) -> bool:
    return record.event_id == order_id or getattr(record.event, "order_id", "") == order_id


def _cause_of(record: Record[Any]) -> str:
    cause = record.meta.cause_at if record.meta is not None else getattr(record.event, "cause_at", "")
    return str(cause or getattr(record.event, "source_at", ""))


def received(record: Record[Any]) -> Hop:
    """When what started it all reached SKEET: a frame, a call from outside, or a second of the clock."""
    if record.meta is not None:
        return Hop(kind="asked from outside", ts_ns=record.meta.ts_init)
    if isinstance(record.event, Tick):
        return Hop(kind="clock", ts_ns=record.event.ts_event)
    return Hop(kind="frame received", ts_ns=record.event.ts_init)


def _hop(record: Record[Any]) -> Hop:
    return Hop(
        kind=type(record.event).__name__,
        ts_ns=record.log_ns,
        at=str(record.at),
        event_id=record.event_id,
        fields=dict(_fields(record.event)),
    )


def _fields(event: Event) -> Iterator[tuple[str, Any]]:
    for name in SHOWN:
        value = plain(getattr(event, name, None))
        if value not in (None, "", [], {}):
            yield name, value
    breaches = getattr(event, "breaches", ())
    if breaches:
        yield "breaches", "; ".join(f"{breach.control}: {breach.detail}" for breach in breaches)


def _hang(records: list[Record[Any]], command: Hop) -> None:
    """Put each record under the one it names as its cause; the venue's own facts under what was last sent."""
    hops = {command.at: command}
    sent = command
    for record in records:
        cause = record.meta.cause_at if record.meta is not None else ""
        parent = hops.get(cause, sent if record.at.topic == topics.REPORTS.name else command)
        if isinstance(record.event, SubmitAcknowledged) and record.event.written_ns:
            parent = _socket(sent, record.event)
        hop = hops[str(record.at)] = parent.add(_hop(record))
        if record.at.topic == topics.REPORTS.name and hop.kind in ("SubmitAttempted", "SubmitAcknowledged"):
            sent = hop


def _socket(sent: Hop, event: SubmitAcknowledged) -> Hop:
    """The two moments that an acknowledgement names, below the attempt; returns the answer."""
    written = sent.add(Hop(kind="socket write", ts_ns=event.written_ns))
    return written.add(Hop(kind="answer", ts_ns=event.answered_ns))
