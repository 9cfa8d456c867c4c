"""Where a feed's frames and events enter the log.

For each frame the raw bytes go to ``market.raw.v1`` and its events to their own topics, all keyed by the instrument, so
that one partition holds one instrument's stream in the order of arrival. A frame nobody can read is kept in the raw topic
and in the dead letters, counted, and hurts nothing else.

Nothing here knows a venue: parsing is done by whoever calls (:mod:`skeet.roles.feed`, :mod:`skeet.roles.replay`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from skeet.agents.feed_batches import BatchEncoder, Delivered, produce_batch
from skeet.config import Settings
from skeet.core.admission import recordable_text
from skeet.core.control import DeadLetter
from skeet.core.errors import InfrastructureError
from skeet.core.ids import derive_id
from skeet.core.market import RawFrame
from skeet.core.record import Event, MarketEvent, Meta
from skeet.core.values import AccountId, PrincipalId, TenantId
from skeet.metrics import Source, counter
from skeet.schemas.codec import Codec
from skeet.streams.crash_points import FEED_BETWEEN_SENDS, reach
from skeet.streams.door import KEPT_BYTES, KEPT_CAUSE
from skeet.streams.kafka import producer
from skeet.streams.topics import (
    DEAD_LETTERS,
    FEEDS_OWN,
    MARKET_BARS,
    MARKET_RAW,
    topic_name,
)

if TYPE_CHECKING:
    from skeet.schemas.columns.columns import Columns

ROLE = "feed"
PUBLISHED = "records_published"
"""The count in ``/livez`` that the watchdog compares with the ends of the feed's topics."""
FLUSH_DEADLINE_S = 30.0
FULL_QUEUE_WAIT_S = 0.05
QUEUE_MESSAGES = 200_000
"""Records that wait for the broker in this process, about 100 MB; beyond it reading waits (the socket fills, not memory)."""
RAW_LINGER_MS = 50.0
"""Frames as received are read by nobody who trades. Gathered for so long, they cost the broker a fraction of a request for each;
a feed that is killed loses so much of them beside what its socket held."""
WRITTEN_TOPICS = (*FEEDS_OWN, MARKET_BARS)
OWN_KINDS = frozenset(event.__name__ for topic in FEEDS_OWN for event in topic.events)


class FeedPublisher:
    """Writes frames and events in order, each through an idempotent producer. Not thread-safe.

    Parameters
    ----------
    linger_ms
        how long events wait to fill a batch: the settings' value on a live feed, more where only throughput counts.
    """

    def __init__(self, settings: Settings, codec: Codec, linger_ms: float | None = None) -> None:
        self._codec = codec
        self._topics = {event: topic_name(topic, settings.kafka) for topic in WRITTEN_TOPICS for event in topic.events}
        self._dead_letters = topic_name(DEAD_LETTERS, settings.kafka)
        linger_ms = settings.kafka.linger_ms if linger_ms is None else linger_ms
        self._events = feed_producer(settings, linger_ms)
        self._frames = feed_producer(settings, max(linger_ms, RAW_LINGER_MS))
        self._settings = settings
        self._bad_frames: Producer | None = None
        """Of frames nobody can read: it reports where they came to stand, which the other two are spared."""
        self._failure: KafkaError | None = None
        self._keys: dict[str, bytes] = {}
        self._batches = BatchEncoder(codec)
        self.written: Counter[str] = Counter()
        """Records handed to the producer, by event type."""
        self._letters = counter("skeet_dead_letters_total", ROLE)
        self._source = Source(
            "skeet_records_published_total", lambda: {(ROLE,): float(self.written.total())}
        ).register()

    def handed(self) -> int:
        """Records handed to the producer, of the topics that only a feed writes."""
        return sum(count for kind, count in self.written.items() if kind in OWN_KINDS)

    def frame(self, raw: RawFrame, events: Iterable[MarketEvent]) -> None:
        """Queue a frame as received, then its events."""
        self._write(raw)
        reach(FEED_BETWEEN_SENDS)
        for event in events:
            self._write(event)

    def events(self, events: Iterable[MarketEvent]) -> None:
        """Queue events that came of no frame (REST answers, the state of the connection)."""
        for number, event in enumerate(events):
            if number:
                reach(FEED_BETWEEN_SENDS)
            self._write(event)

    def batch(self, columns: Columns, keys: Sequence[str], of: Sequence[int]) -> None:
        """Queue the rows, which are events of one type; row *i* is of instrument ``keys[of[i]]``.

        Same bytes, topics and order as :meth:`events`, at a tenth of the cost; loads the compiler when first used.
        """
        encoded = [self._key(each) for each in keys]
        messages = self._batches.messages(columns, [encoded[number] for number in of])
        client = self._frames if columns.event_class is RawFrame else self._events
        room = partial(self._wait_for_room, client)
        produce_batch(client, self._topics[columns.event_class], messages, self._failed, room)
        self.written[columns.event_class.__name__] += len(messages)

    def load_batches(self, events: Iterable[type[MarketEvent]]) -> None:
        """Have the kernels of :meth:`batch` ready; may be called in another thread, before the first batch."""
        for event in events:
            self._batches.load(event)

    def unreadable(self, raw: RawFrame, cause: str) -> None:
        """Queue a frame that no parser could read: raw, and, once that has its position, as a dead letter naming it."""
        if self._bad_frames is None:
            self._bad_frames = producer(self._settings, "skeet-feed-dead-letters")
        client = self._bad_frames

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._failure = error
                return
            letter = frame_letter(raw, cause, message.partition() or 0, message.offset() or 0)
            value = self._codec.encode(letter, _letter_meta(raw))
            self._produce(client, self._dead_letters, MARKET_RAW.name.encode(), value)

        value = self._codec.encode(raw)
        self._produce(client, self._topics[RawFrame], self._key(raw.instrument_id), value, delivered)
        self.written[RawFrame.__name__] += 1
        self.written[DeadLetter.__name__] += 1
        self._letters.inc()

    def poll(self) -> None:
        """Let the producer report failures; cheap.

        Raises
        ------
        InfrastructureError
            a record queued earlier was not acknowledged.
        """
        for client in self._clients():
            client.poll(0)
        if self._failure is not None:
            raise InfrastructureError(f"Kafka did not acknowledge a record of the feed: {self._failure}")

    def flush(self) -> None:
        """Return once everything queued is acknowledged.

        Raises
        ------
        InfrastructureError
            it was not, within :data:`FLUSH_DEADLINE_S`.
        """
        # Of frames nobody can read, it serves the letters' callbacks too, and waits for both.
        left = sum(client.flush(FLUSH_DEADLINE_S) for client in self._clients())
        self.poll()
        if left:
            raise InfrastructureError(f"Kafka did not acknowledge {left} records in {FLUSH_DEADLINE_S:.0f} s")

    def close(self) -> None:
        """:meth:`flush`, then let go of the broker. Nothing may be written afterwards."""
        try:
            self.flush()
        finally:
            self._source.unregister()
            for client in self._clients():
                client.close()

    def _clients(self) -> list[Producer]:
        return [self._events, self._frames, *([] if self._bad_frames is None else [self._bad_frames])]

    def _write(self, event: MarketEvent) -> None:
        kind = type(event)
        client = self._frames if kind is RawFrame else self._events
        self._produce(client, self._topics[kind], self._key(event.instrument_id), self._codec.encode(event))
        self.written[kind.__name__] += 1

    def _key(self, instrument_id: str) -> bytes:
        key = self._keys.get(instrument_id)
        if key is None:
            key = self._keys[instrument_id] = instrument_id.encode()
        return key

    def _produce(
        self, client: Producer, topic: str, key: bytes, value: bytes, delivered: Delivered | None = None
    ) -> None:
        while True:
            try:
                client.produce(topic, value, key, on_delivery=delivered or self._failed)
                return
            except BufferError:
                self._wait_for_room(client)
            except KafkaException as error:
                raise InfrastructureError(f"{topic}: {error}") from error

    def _wait_for_room(self, client: Producer) -> None:
        client.poll(FULL_QUEUE_WAIT_S)
        self.poll()

    def _failed(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failure = error


def feed_producer(settings: Settings, linger_ms: float) -> Producer:
    """A producer that calls back for failures only (a Python call per delivered record costs as much as producing it)."""
    return producer(
        settings,
        "skeet-feed",
        linger_ms=linger_ms,
        queue_buffering_max_messages=QUEUE_MESSAGES,
        delivery_report_only_error=True,
    )


def frame_letter(raw: RawFrame, cause: str, partition: int, offset: int) -> DeadLetter:
    """The dead letter of a frame that stands at this place of ``market.raw.v1``; its value is the frame as received."""
    return DeadLetter(
        role=ROLE,
        topic=MARKET_RAW.name,
        partition=partition,
        offset=offset,
        key=raw.instrument_id.encode(),
        value=raw.payload[:KEPT_BYTES],
        cause=recordable_text(cause, KEPT_CAUSE),
        size=len(raw.payload),
    )


def _letter_meta(raw: RawFrame) -> Meta:
    identity = derive_id("dead-letter", *raw.natural_key)
    return Meta(
        event_id=identity,
        tenant_id=TenantId(""),
        account_id=AccountId(""),
        principal_id=PrincipalId(ROLE),
        correlation_id=raw.event_id,
        causation_id=raw.event_id,
        cause_at="",
        ts_event=raw.ts_event,
        ts_init=raw.ts_init,
    )


def event_topics() -> dict[type[Event], str]:
    """Topic (without prefix) of each event type a feed writes."""
    return {event: topic.name for topic in WRITTEN_TOPICS for event in topic.events}
