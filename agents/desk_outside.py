"""What the desk looks at beside its inputs: control, clock, instruments, reference prices.

Read outside the group by one consumer: every desk process sees all of it, and commits nothing. A reference that is not
there yet, or old, denies orders; so reading it late is safe.
"""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, Message, TopicPartition

from skeet.config import Settings
from skeet.core.controls import Control, Limits, apply_control, apply_unreadable
from skeet.core.errors import InfrastructureError, InvalidInput, UnknownEvent
from skeet.core.market import InstrumentDefined, Reference, Tick
from skeet.core.record import Out, Record
from skeet.core.risk import MAX_CLOCK_AHEAD_NS, Context, RiskRules, SeenReference
from skeet.core.values import NS_PER_MS
from skeet.process import logger
from skeet.schemas.codec import Codec
from skeet.streams.door import Door, RawRecord, dead_letter, raw_record
from skeet.streams.kafka import consumer
from skeet.streams.reading import Partition, end_offsets, partitions_of
from skeet.streams.topics import CLOCK, CONTROL, INSTRUMENTS, MARKET_REFERENCE, Topic

RECENT_MS = 60_000
"""References and ticks older than this are of no use to a decision, so reading begins here."""
START_DEADLINE_S = 60.0
POLL_LIMIT = 1_000
BROKER_TIMEOUT_S = 10.0


class Outside:
    """The newest of everything a decision may know beside the account itself."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self._client: Consumer = consumer(settings, f"desk-outside-{settings.slot}", enable_partition_eof=True)
        self.rules = risk_rules(settings)
        self._door = Door(settings.kafka, codec)
        self._instruments: dict[str, InstrumentDefined] = {}
        self._references: dict[str, SeenReference] = {}
        self._clock_ns = 0
        self._letters: list[Out[Any]] = []
        self.control = Control()
        self.control_records: list[Record[Any]] = []
        """All of the control topic, in order; what cannot be read stands in it as a DeadLetter."""

    def start(self) -> None:
        """Read to the ends captured now.

        Raises
        ------
        InfrastructureError
            the ends were not reached in time.
        """
        partitions = partitions_of(self._settings, [CONTROL, INSTRUMENTS, CLOCK, MARKET_REFERENCE])
        positions = self._beginnings([CONTROL, INSTRUMENTS]) + self._recent([CLOCK, MARKET_REFERENCE])
        self._client.assign(positions)
        pending = {partition: end for partition, end in end_offsets(self._client, partitions).items() if end > 0}
        deadline = time.monotonic() + START_DEADLINE_S
        while pending:
            if time.monotonic() > deadline:
                raise InfrastructureError(f"not read to the end in {START_DEADLINE_S:.0f} s: {sorted(pending)}")
            for message in self._client.consume(POLL_LIMIT, 0.1):
                self._take(message, pending)

    def poll(self) -> None:
        """Take in what arrived since; never waits."""
        for message in self._client.consume(POLL_LIMIT, 0):
            self._take(message, {})

    def context(self, log_ns: int, instrument_id: str = "") -> Context:
        """What a decision about an input of that log time may know. The time is the higher of log and clock."""
        return Context(
            now_ns=max(log_ns, self._clock_ns),
            control=self.control,
            rules=self.rules,
            instrument=self._instruments.get(instrument_id),
            reference=self._references.get(instrument_id),
        )

    def take_letters(self) -> list[Out[Any]]:
        """Dead letters of what was left out beside control, to be written with the next transaction. A restart reads the last
        minute of prices and clock again, and makes their letters again, under equal ids."""
        taken, self._letters = self._letters, []
        return taken

    def return_letters(self, letters: list[Out[Any]]) -> None:
        """They were not written: the transaction was aborted."""
        self._letters = [*letters, *self._letters]

    def close(self) -> None:
        """Stop reading."""
        self._client.close()

    def _beginnings(self, topics: list[Topic]) -> list[TopicPartition]:
        return [TopicPartition(t, p, OFFSET_BEGINNING) for t, p in partitions_of(self._settings, topics)]

    def _recent(self, topics: list[Topic]) -> list[TopicPartition]:
        since_ms = time.time_ns() // NS_PER_MS - RECENT_MS
        wanted = [TopicPartition(t, p, since_ms) for t, p in partitions_of(self._settings, topics)]
        found = self._client.offsets_for_times(wanted, timeout=BROKER_TIMEOUT_S)
        return [TopicPartition(f.topic, f.partition, f.offset if f.offset >= 0 else OFFSET_END) for f in found]

    def _take(self, message: Message, pending: dict[Partition, int]) -> None:
        error: KafkaError | None = message.error()
        place = (message.topic(), message.partition())
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                pending.pop(place, None)
            elif error.fatal():
                raise InfrastructureError(f"desk's outside view: {error.str()}")
            return
        if message.offset() + 1 >= pending.get(place, 0):  # where somebody writes all the time, no end is ever reported
            pending.pop(place, None)
        raw = raw_record(message, self._settings.kafka.topic_prefix)
        try:
            self._apply(self._door.record(raw))
        except InvalidInput as cause:
            if raw.at.topic == CONTROL.name:
                self._take_unreadable_control(raw, cause)
            else:
                logger().warning("unreadable record left out", at=str(raw.at), cause=str(cause))
                self._letters.append(dead_letter("desk", raw, cause))

    def _take_unreadable_control(self, raw: RawRecord, cause: InvalidInput) -> None:
        """A control record that decides nothing, for nobody confirmed it; or, if a newer version wrote it, anything."""
        letter = dead_letter("desk", raw, cause)
        logger().error("control record cannot be acted on", at=str(raw.at), cause=letter.event.cause)
        self.control = apply_unreadable(self.control, str(raw.at), raw.at.offset, newer=isinstance(cause, UnknownEvent))
        self.control_records.append(Record(event=letter.event, meta=letter.meta, at=raw.at, log_ns=raw.log_ns))

    def _apply(self, record: Record[Any]) -> None:
        match record.event:
            case Reference() as reference:
                seen = SeenReference(reference=reference, at=str(record.at), log_ns=record.log_ns)
                self._references[reference.instrument_id] = seen
            case Tick() as tick:
                # The log stamped the tick when it came: a clock that is wrong must not make every command expire.
                self._clock_ns = max(self._clock_ns, min(tick.ts_event, record.log_ns + MAX_CLOCK_AHEAD_NS))
            case InstrumentDefined() as instrument:
                known = self._instruments.get(instrument.instrument_id)
                if known is None or instrument.version >= known.version:
                    self._instruments[instrument.instrument_id] = instrument
            case event:
                self.control = apply_control(self.control, event, record.at.offset)
                self.control_records.append(record)


def risk_rules(settings: Settings) -> RiskRules:
    """The settings as risk reads them."""
    limits = Limits(
        max_quantity=Decimal(settings.risk.max_quantity),
        max_notional=Decimal(settings.risk.max_notional),
        version=0,
    )
    return RiskRules(
        limits=limits,
        reference_max_age_ns=settings.risk.reference_max_age_ms * NS_PER_MS,
        collar_bps=settings.risk.collar_bps,
    )
