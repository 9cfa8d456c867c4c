"""What trades while faults happen: orders that were authorised and filled, with the log's own times."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from confluent_kafka import KafkaException, Message, TopicPartition

from skeet.config import Settings
from skeet.core.accounts import OrderAuthorized, OrderFilled
from skeet.core.errors import InvalidInput
from skeet.streams.kafka import consumer
from skeet.streams.ranges import watermarks
from skeet.streams.reading import partitions_of, record_of
from skeet.streams.registry import registered_codec
from skeet.streams.topics import ACCOUNT_EVENTS

POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Trade:
    """The first fill of an order: when the desk authorised it and when the fill entered the log (ns)."""

    authorised_ns: int
    filled_ns: int


class Trades:
    """Orders met so far, folded from account events. One thread adds, others may read."""

    def __init__(self) -> None:
        self._authorised: dict[str, int] = {}
        self._trades: list[Trade] = []

    def take(self, event: object, log_ns: int) -> None:
        """Take an event in; an order trades at its first fill."""
        match event:
            case OrderAuthorized(order_id=order_id):
                self._authorised[order_id] = log_ns
            case OrderFilled(order_id=order_id) if (at_ns := self._authorised.pop(order_id, None)) is not None:
                self._trades.append(Trade(at_ns, log_ns))
            case _:
                pass

    @property
    def traded(self) -> int:
        """Orders filled so far, in whole or in part."""
        return len(self._trades)

    def first_after(self, moment_ns: int) -> Trade | None:
        """The earliest fill, as the log tells time, of an order that was authorised after the moment."""
        found = [trade for trade in tuple(self._trades) if trade.authorised_ns > moment_ns]
        return min(found, key=lambda trade: trade.filled_ns, default=None)

    def between(self, begin_ns: int, end_ns: int) -> int:
        """Orders whose first fill entered the log after the beginning and not after the end."""
        return sum(begin_ns < trade.filled_ns <= end_ns for trade in tuple(self._trades))


class TradeWatch(Trades):
    """Follows ``accounts.events`` in a thread, through any restart of the broker. Use as a context."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._codec = registered_codec(settings)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="trade-watch", daemon=True)
        self._starts = watermarks(settings, partitions_of(settings, [ACCOUNT_EVENTS]))

    def __enter__(self) -> TradeWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _follow(self) -> None:
        client = consumer(self._settings, "skeet-chaos", log_level=0)  # a lost broker is no news here
        try:
            client.assign([TopicPartition(t, p, end) for (t, p), (_, end) in self._starts.items()])
            while not self._stopping.is_set():
                try:
                    message = client.poll(POLL_S)
                except KafkaException:
                    continue  # its broker is one of the things that are killed
                if message is not None and message.error() is None:
                    self._read(message)
        finally:
            client.close()

    def _read(self, message: Message) -> None:
        try:
            record = record_of(self._codec, message, self._settings.kafka.topic_prefix)
        except InvalidInput:
            return
        self.take(record.event, record.log_ns)
