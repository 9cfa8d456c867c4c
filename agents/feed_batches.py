"""Whole batches of a feed's records to the broker: columns to bytes at once, one call of the producer for all.

What stands in a batch is queued in its order and before anything that is queued later, as if it had been queued one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from skeet.core.errors import InfrastructureError
from skeet.core.record import Event
from skeet.schemas.codec import Codec

if TYPE_CHECKING:
    from skeet.schemas.columns.columns import Columns
    from skeet.schemas.columns.encoding import ColumnEncoder

Delivered = Callable[[KafkaError | None, Message], None]
ERROR = "_error"
"""Where the client notes in a message why it was not queued."""


class BatchEncoder:
    """Columns of a feed's records to what :func:`produce_batch` takes; kernels are loaded when a class is first met."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._encoders: dict[type[Event], ColumnEncoder] = {}

    def load(self, event_class: type[Event]) -> None:
        """Have this class's kernel ready; may be called in another thread before anything else is."""
        from skeet.schemas.columns.encoding import ColumnEncoder  # the compiler: only for those who write batches

        if event_class not in self._encoders:
            self._encoders[event_class] = ColumnEncoder(self._codec, event_class)

    def messages(self, columns: Columns, keys: Sequence[bytes]) -> list[dict[str, Any]]:
        """A message for each row, byte for byte as the codec writes it.

        Raises
        ------
        InvalidInput
            a row cannot be written.
        """
        self.load(columns.event_class)
        encoder = self._encoders[columns.event_class]
        return [{"value": value, "key": key} for value, key in zip(encoder.encode(columns), keys, strict=True)]


def produce_batch(
    client: Producer,
    topic: str,
    messages: list[dict[str, Any]],
    delivered: Delivered,
    wait: Callable[[], None],
) -> None:
    """Queue all messages, in order.

    Parameters
    ----------
    wait
        called while the client's queue is full.

    Raises
    ------
    InfrastructureError
        the client refuses one for another reason than a full queue.
    """
    while messages:
        try:
            client.produce_batch(topic, messages, on_delivery=delivered)
        except BufferError:
            pass
        except KafkaException as error:
            raise InfrastructureError(f"{topic}: {error}") from error
        messages = _left(topic, messages)
        if messages:
            wait()


def _left(topic: str, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What found no room: the end of the batch, because the client takes nothing behind a message that did not fit."""
    left = [message for message in messages if ERROR in message]
    if left and left[0] is not messages[len(messages) - len(left)]:
        raise InfrastructureError(f"{topic}: a record in the middle of a batch was not queued: {left[0][ERROR]}")
    for message in left:
        error = message[ERROR]
        if error.code() != KafkaError._QUEUE_FULL:
            raise InfrastructureError(f"{topic}: {error}")
    return [{"value": message["value"], "key": message["key"]} for message in left]
