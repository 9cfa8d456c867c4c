"""Whether market ingest may write, as the log says it: the last IngestStopped or IngestResumed of every machine's disks.

The word travels through ``platform.events.v1``, so that a feed on one machine obeys the disks of another.
"""

from __future__ import annotations

import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from skeet.config import Settings
from skeet.core.errors import DecodeError, InfrastructureError, UnknownEvent
from skeet.core.platform import IngestResumed, IngestStopped
from skeet.schemas.codec import Codec
from skeet.streams.kafka import consumer
from skeet.streams.topics import PLATFORM_EVENTS, topic_name

POLL_S = 0.2
CATCH_UP_DEADLINE_S = 15.0
"""A broker that does not deliver a few incidents in this time is away."""


class IngestGate:
    """Reads the platform's events and remembers the last word of each key. Not thread-safe: one thread calls it."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._codec = codec
        self._topic = topic_name(PLATFORM_EVENTS, settings.kafka)
        self._stopped: dict[bytes, str] = {}
        self._client: Consumer = consumer(settings, "skeet-ingest-gate", enable_partition_eof=True)
        self._client.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])

    @property
    def reason(self) -> str:
        """Why market ingest must stand still; empty when it may run."""
        return "; ".join(self._stopped[key] for key in sorted(self._stopped))

    def stopped(self, key: str) -> bool:
        """Whether the last word of this key was that ingest must stop."""
        return key.encode() in self._stopped

    def catch_up(self) -> None:
        """Read to the end of the log as it is now.

        Raises
        ------
        InfrastructureError
            the broker is away.
        """
        until = time.monotonic() + CATCH_UP_DEADLINE_S
        while not self.poll(POLL_S):
            if time.monotonic() > until:
                raise InfrastructureError(
                    f"{self._topic} could not be read in {CATCH_UP_DEADLINE_S:.0f} s: is Kafka up, are topics applied?"
                )

    def poll(self, timeout_s: float) -> bool:
        """Take the next record, if one comes within the time; whether the end was reached. A broker that is away changes
        nothing: the last word stands."""
        message = self._client.poll(timeout_s)
        if message is None:
            return False
        if (error := message.error()) is not None:
            return bool(error.code() == KafkaError._PARTITION_EOF)
        self._take(message)
        return False

    def close(self) -> None:
        """Let go of the broker."""
        self._client.close()

    def _take(self, message: Message) -> None:
        try:
            event, _ = self._codec.decode(message.value() or b"")
        except (DecodeError, UnknownEvent):
            return  # of a newer version, and about something else
        key = message.key() or b""
        match event:
            case IngestStopped(reason=reason):
                self._stopped[key] = reason
            case IngestResumed():
                self._stopped.pop(key, None)
            case _:
                pass
