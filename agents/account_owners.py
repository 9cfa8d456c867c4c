"""Which tenant each account belongs to, as the log says: read outside the group, up to the moment of the question."""

from __future__ import annotations

import time

from confluent_kafka import OFFSET_BEGINNING, KafkaError, Message, TopicPartition

from skeet.config import Settings
from skeet.core.accounts import AccountOpened
from skeet.core.errors import InfrastructureError
from skeet.health import HEALTH
from skeet.schemas.codec import Codec
from skeet.streams.kafka import consumer
from skeet.streams.partitioner import partition_of
from skeet.streams.reading import Partition, end_offsets, partitions_of, record_of
from skeet.streams.topics import ACCOUNT_EVENTS, topic_name

READ_BATCH = 5_000
POLL_S = 0.05
CATCH_UP_DEADLINE_S = 60.0
"""The whole history of a partition is read at the start; later questions wait for a few records."""


class AccountOwners:
    """Accounts that were opened, with their tenants. An account's tenant never changes. Not thread-safe."""

    def __init__(self, settings: Settings, codec: Codec, client_id: str) -> None:
        self._settings = settings
        self._codec = codec
        self._prefix = settings.kafka.topic_prefix
        self._topic = topic_name(ACCOUNT_EVENTS, settings.kafka)
        self._owners: dict[str, str] = {}
        self._read_to: dict[Partition, int] = {}
        self._client = consumer(settings, client_id, enable_partition_eof=True)
        places = partitions_of(settings, [ACCOUNT_EVENTS])
        self._client.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in places])

    def start(self) -> None:
        """Read everything that is there now; see :meth:`owner_of` for what it raises."""
        for place, end in end_offsets(self._client, partitions_of(self._settings, [ACCOUNT_EVENTS])).items():
            self._catch_up(place, end)

    def owner_of(self, account_id: str) -> str | None:
        """The account's tenant; None when it is not open at the moment of the question.

        Raises
        ------
        InfrastructureError
            the log could not be read up to now.
        """
        if account_id not in self._owners:
            place = (self._topic, partition_of(account_id.encode(), self._settings.kafka.account_partitions))
            self._catch_up(place, end_offsets(self._client, [place])[place])
        return self._owners.get(account_id)

    def follow(self) -> int:
        """Take what has come meanwhile, without waiting; returns how many records that were.

        Called all the time: events that nobody takes fill the client's memory (130 MB in half an hour of a busy desk), and
        the next question has to wait for them.
        """
        messages = self._client.consume(READ_BATCH, 0)
        for message in messages:
            self._take(message)
        return sum(message.error() is None for message in messages)

    def close(self) -> None:
        """Stop reading."""
        self._client.close()

    def _catch_up(self, place: Partition, end: int) -> None:
        deadline = time.monotonic() + CATCH_UP_DEADLINE_S
        while self._read_to.get(place, 0) < end:
            if time.monotonic() > deadline:
                raise InfrastructureError(f"{place[0]}/{place[1]} was not read to {end} in {CATCH_UP_DEADLINE_S:.0f} s")
            HEALTH.beat()
            for message in self._client.consume(READ_BATCH, POLL_S):
                self._take(message)

    def _take(self, message: Message) -> None:
        error: KafkaError | None = message.error()
        if error is None:
            self._read_to[message.topic(), message.partition()] = message.offset() + 1
            if self._codec.event_class(message.value() or b"") is AccountOpened:
                meta = record_of(self._codec, message, self._prefix).meta
                if meta is not None:
                    self._owners[meta.account_id] = meta.tenant_id
        elif error.code() == KafkaError._PARTITION_EOF:
            # Past markers and aborted records, which are delivered to nobody.
            self._read_to[message.topic(), message.partition()] = message.offset()
        elif error.fatal():
            raise InfrastructureError(f"owners of accounts: {error.str()}")
