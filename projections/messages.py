"""What a consumer hands out besides records: errors that pass, and errors that end a session."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from confluent_kafka import KafkaError, Message

from skeet.core.errors import InfrastructureError
from skeet.streams.catching_up import Progress

PASSING = frozenset(
    {KafkaError._PARTITION_EOF, KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE}
)
"""The client reconnects by itself."""


def without_passing_errors(messages: Iterable[Message]) -> Iterator[Message]:
    """The records among the messages.

    Raises
    ------
    InfrastructureError
        an error that the client does not heal by itself.
    """
    for message in messages:
        error = message.error()
        if error is None:
            yield message
        elif error.code() not in PASSING and not error.retriable():
            raise InfrastructureError(f"reading Kafka: {error.str()}")


def note_ends(messages: Iterable[Message], progress: Progress) -> None:
    """Tell ``progress`` of the ends of partitions that the client reported among the messages."""
    for message in messages:
        error = message.error()
        if error is not None and error.code() == KafkaError._PARTITION_EOF:
            progress.ended((message.topic(), message.partition()), message.offset())
