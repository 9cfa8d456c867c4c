"""Single records of a partition, asked for in rising order: one forward reading, whatever lies between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skeet.config import Settings
from skeet.core.record import Record, TopicPosition
from skeet.schemas.codec import Codec
from skeet.streams.ranges import records_between, watermarks
from skeet.streams.topics import TOPIC_BY_NAME, topic_name


class Cursor:
    """A partition's records by offset. Asking backwards starts a new reading: right, but slow."""

    def __init__(self, settings: Settings, codec: Codec, topic: str, partition: int) -> None:
        self._settings = settings
        self._codec = codec
        self._place = (topic_name(TOPIC_BY_NAME[topic], settings.kafka), partition)
        self._reading: Iterator[Record[Any]] = iter(())
        self._last: Record[Any] | None = None

    def at(self, offset: int) -> Record[Any] | None:
        """The record at the offset; None where there is none that can be read (any more)."""
        if self._last is None or offset < self._last.at.offset:
            self._open(offset)
        while self._last is not None and self._last.at.offset < offset:
            self._last = next(self._reading, None)
        return self._last if self._last is not None and self._last.at.offset == offset else None

    def _open(self, offset: int) -> None:
        _, end = watermarks(self._settings, [self._place])[self._place]
        self._reading = records_between(self._settings, self._codec, {self._place: (offset, end)})
        self._last = next(self._reading, None)


class Cursors:
    """A :class:`Cursor` for each partition that is asked about."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self._cursors: dict[tuple[str, int], Cursor] = {}

    def at(self, position: str) -> Record[Any] | None:
        """The record at ``topic/partition/offset``, as events name it; None where there is none."""
        found = parse_position(position)
        if found is None or found.topic not in TOPIC_BY_NAME:
            return None
        key = (found.topic, found.partition)
        if key not in self._cursors:
            self._cursors[key] = Cursor(self._settings, self._codec, found.topic, found.partition)
        return self._cursors[key].at(found.offset)


def parse_position(text: str) -> TopicPosition | None:
    """``topic/partition/offset`` as events name it; None where the text is none."""
    topic, _, rest = text.partition("/")
    partition, _, offset = rest.partition("/")
    if not (topic and partition.isdigit() and offset.isdigit()):
        return None
    return TopicPosition(topic, int(partition), int(offset))
