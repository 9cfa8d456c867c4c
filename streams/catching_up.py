"""How far a consumer is: whether it has read its partitions to their ends, and how many offsets are before it.

"Caught up" means that the client reported the end of a partition to this very consumer, after it was assigned and not
longer ago than ``BEHIND_LIMIT_S`` when there is more by now. An offset difference proves nothing by itself: markers and aborted
records occupy offsets. Positions and ends are the client's own; nothing here asks a broker, and the consumer's loop pays for the
ends reported to it only.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Protocol

from confluent_kafka import Consumer, TopicPartition

from skeet.health import HEALTH
from skeet.metrics import Source

BEHIND_LIMIT_S = 30.0
"""A consumer with work before it, which saw no end for so long, is behind: not ready."""

LOOK_S = 1.0
"""How old the positions are that are shown."""

Partition = tuple[str, int]
"""The broker's topic name, and the partition."""


class Ends(Protocol):
    """What is known of positions without asking anybody."""

    def position(self, partition: Partition) -> int:
        """Next offset to be delivered."""
        ...

    def end(self, partition: Partition) -> int:
        """The last end seen."""
        ...


class ClientEnds:
    """Of a confluent-kafka consumer: both are kept by the client, and may be read from another thread."""

    def __init__(self, client: Consumer) -> None:
        self._client = client

    def position(self, partition: Partition) -> int:
        """0 before the first record."""
        found = self._client.position([TopicPartition(*partition)])[0].offset
        return max(0, int(found))

    def end(self, partition: Partition) -> int:
        """0 before the first answer of a broker."""
        return max(0, int(self._client.get_watermark_offsets(TopicPartition(*partition), cached=True)[1]))


class Progress:
    """Of one consumer. Its loop calls :meth:`assigned`, :meth:`revoked` and :meth:`ended`; everybody else only asks.

    Parameters
    ----------
    group
        the consumer group, as the metric names it.
    """

    def __init__(self, group: str, ends: Ends) -> None:
        self._group = group
        self._ends = ends
        self._ended: dict[Partition, int | None] = {}
        self._behind_since: dict[Partition, float] = {}
        self._seen: dict[Partition, tuple[int, int]] = {}
        self._looked_s = 0.0
        self._source = Source("skeet_consumer_lag_records", self._lag_by_label).register()
        HEALTH.require(f"topics of {group}", self.reason)

    def assigned(self, partitions: Iterable[Partition]) -> None:
        """These are read from now on; none of them is known to be read to its end."""
        for partition in partitions:
            self._ended[partition] = None
            self._behind_since.pop(partition, None)

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """These are read no more."""
        for partition in partitions:
            self._ended.pop(partition, None)
            self._behind_since.pop(partition, None)

    def ended(self, partition: Partition, offset: int) -> None:
        """The client reported the end of the partition at this offset."""
        if partition in self._ended:
            self._ended[partition] = offset
            self._behind_since.pop(partition, None)

    def look(self, every_s: float = LOOK_S) -> None:
        """Take positions and ends from the client, if that was not done for so long. By the thread that polls, and no other:
        the client serves one thread at a time, and one that polls without rest lets nobody else in."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= every_s:
            self._looked_s = now_s
            self._seen = {place: (self._ends.position(place), self._ends.end(place)) for place in tuple(self._ended)}

    def lag(self) -> dict[Partition, int]:
        """Offsets before each partition's position; 0 where the end was reported at the end seen last."""
        found = {}
        for partition, ended in tuple(self._ended.items()):
            position, end = self._seen.get(partition, (0, 0))
            found[partition] = max(0, end - max(position, ended or 0))
        return found

    def reason(self) -> str:
        """Why the consumer is not caught up; empty when it is."""
        now_s = time.monotonic()
        unread = sorted(partition for partition, ended in tuple(self._ended.items()) if ended is None)
        if unread:
            return f"not yet read to the end: {_listed(unread)}"
        late = []
        for partition, ended in tuple(self._ended.items()):
            if self._seen.get(partition, (0, 0))[1] > (ended or 0):
                since_s = self._behind_since.setdefault(partition, now_s)
                if now_s - since_s > BEHIND_LIMIT_S:
                    late.append(partition)
            else:
                self._behind_since.pop(partition, None)
        return f"behind for more than {BEHIND_LIMIT_S:.0f} s: {_listed(sorted(late))}" if late else ""

    def close(self) -> None:
        """Expose it no more: the consumer is going."""
        self._ended.clear()
        self._source.unregister()
        HEALTH.release(f"topics of {self._group}")

    def _lag_by_label(self) -> Mapping[tuple[str, ...], float]:
        return {(self._group, topic, str(number)): float(lag) for (topic, number), lag in self.lag().items()}


def _listed(partitions: list[Partition]) -> str:
    shown = ", ".join(f"{topic}/{number}" for topic, number in partitions[:5])
    return shown if len(partitions) <= 5 else f"{shown} and {len(partitions) - 5} more"
