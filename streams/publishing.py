"""Writing events to their topics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.core.record import Out
from skeet.schemas.codec import Codec
from skeet.streams.topics import TOPIC_BY_NAME, topic_name

FLUSH_DEADLINE_S = 30.0


class Publisher:
    """Sends outs through one producer and knows which failed. Not thread-safe."""

    def __init__(self, settings: Settings, codec: Codec, client: Producer) -> None:
        self._settings = settings
        self._codec = codec
        self._client = client
        self._names = {name: topic_name(topic, settings.kafka) for name, topic in TOPIC_BY_NAME.items()}
        self._failure: KafkaError | None = None
        self.last_offset = -1
        """Offset of the record that was acknowledged last."""

    def send(self, outs: Iterable[Out[Any]]) -> None:
        """Queue records in order. A full local queue waits for the broker instead of failing."""
        for out in outs:
            self._produce(out, self._codec.encode(out.event, out.meta))
        self._client.poll(0)

    def flush(self) -> None:
        """Return once everything sent is acknowledged.

        Raises
        ------
        InfrastructureError
            a record was not acknowledged; which of the others were is unknown, all may be sent again (ids are derived).
        """
        left = self._client.flush(FLUSH_DEADLINE_S)
        if left or self._failure:
            raise InfrastructureError(
                f"Kafka did not acknowledge: {self._failure or f'{left} records in {FLUSH_DEADLINE_S} s'}"
            )

    def _produce(self, out: Out[Any], value: bytes) -> None:
        arguments: dict[str, Any] = {"key": out.key.encode(), "on_delivery": self._delivered}
        if out.partition is not None:
            arguments["partition"] = out.partition
        while True:
            try:
                self._client.produce(self._names[out.topic], value, **arguments)
                return
            except BufferError:
                self._client.poll(0.05)
            except KafkaException as error:
                raise InfrastructureError(f"{out.topic}: {error}") from error

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failure = error
        else:
            self.last_offset = message.offset()
