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
from skeet.core.controls import Control, Limits, apply_control
from skeet.core.errors import DecodeError, InfrastructureError, UnknownEvent
from skeet.core.market import InstrumentDefined, Reference, Tick
from skeet.core.record import Record
from skeet.core.risk import Context, RiskRules, SeenReference
from skeet.core.values import NS_PER_MS
from skeet.process import logger
from skeet.schemas.codec import Codec
from skeet.streams.kafka import consumer
from skeet.streams.reading import Partition, end_offsets, partitions_of, record_of
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
        self._instruments: dict[str, InstrumentDefined] = {}
        self._references: dict[str, SeenReference] = {}
        self._clock_ns = 0
        self.control = Control()
        self.control_records: list[Record[Any]] = []
        """All of the control topic, in order."""

    def start(self) -> None:
        """Read to the ends captured now.

        Raises
        ------
        InfrastructureError
            the ends were not reached in time, or the control topic holds what this version cannot read.
        """
        partitions = partitions_of(self._settings, [CONTROL, INSTRUMENTS, CLOCK, MARKET_REFERENCE])
        positions = self._beginnings([CONTROL, INSTRUMENTS]) + self._recent([CLOCK, MARKET_REFERENCE])
        self._client.assign(positions)
        pending = {partition for partition, end in end_offsets(self._client, partitions).items() if end > 0}
        deadline = time.monotonic() + START_DEADLINE_S
        while pending:
            if time.monotonic() > deadline:
                raise InfrastructureError(f"not read to the end in {START_DEADLINE_S:.0f} s: {sorted(pending)}")
            for message in self._client.consume(POLL_LIMIT, 0.1):
                self._take(message, pending)

    def poll(self) -> None:
        """Take in what arrived since; never waits."""
        for message in self._client.consume(POLL_LIMIT, 0):
            self._take(message, set())

    def context(self, log_ns: int, instrument_id: str = "") -> Context:
        """What a decision about an input of that log time may know. The time is the higher of log and clock."""
        return Context(
            now_ns=max(log_ns, self._clock_ns),
            control=self.control,
            rules=self.rules,
            instrument=self._instruments.get(instrument_id),
            reference=self._references.get(instrument_id),
        )

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

    def _take(self, message: Message, pending: set[Partition]) -> None:
        error: KafkaError | None = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                pending.discard((message.topic(), message.partition()))
            elif error.fatal():
                raise InfrastructureError(f"desk's outside view: {error.str()}")
            return
        try:
            self._apply(record_of(self._codec, message, self._settings.kafka.topic_prefix))
        except (DecodeError, UnknownEvent) as cause:
            place = f"{message.topic()}/{message.partition()}/{message.offset()}"
            if message.topic().endswith(CONTROL.name):
                # Acting on without knowing what an operator decided would fail open.
                raise InfrastructureError(f"{place} cannot be read: {cause}; run the version that wrote it") from cause
            logger().warning("unreadable record left out", at=place, cause=str(cause))

    def _apply(self, record: Record[Any]) -> None:
        match record.event:
            case Reference() as reference:
                seen = SeenReference(reference=reference, at=str(record.at), log_ns=record.log_ns)
                self._references[reference.instrument_id] = seen
            case Tick() as tick:
                self._clock_ns = max(self._clock_ns, tick.ts_event)
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
