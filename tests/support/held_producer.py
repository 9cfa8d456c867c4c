"""A producer that acknowledges when the test says so; its order and its callbacks are Kafka's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError


class Acknowledged:
    def __init__(self, offset: int) -> None:
        self._offset = offset

    def offset(self) -> int:
        return self._offset


class HeldProducer:
    """Takes records; each is acknowledged, in order, by :meth:`acknowledge`."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self._waiting: deque[Callable[..., None]] = deque()

    def produce(self, topic: str, value: bytes, *, key: bytes, on_delivery: Callable[..., None], **_: Any) -> None:
        self.sent.append(key.decode())
        self._waiting.append(on_delivery)

    def poll(self, _: float) -> int:
        return 0

    def acknowledge(self, error: KafkaError | None = None) -> None:
        self._waiting.popleft()(error, Acknowledged(41))
