"""Records of several event classes, as a topic holds them, to columns of each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from skeet.core.errors import DecodeError, MisplacedRecord, UnknownEvent
from skeet.core.record import Event
from skeet.schemas.catalogue import full_name
from skeet.schemas.codec import HEADER, Codec
from skeet.schemas.columns.columns import Bytes, Columns, Longs, Refused
from skeet.schemas.columns.decoding import ColumnDecoder
from skeet.schemas.columns.interning import Texts

NO_CLASS = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Columns of each class that there are records of; ``index`` and ``refused`` count the records of the whole batch."""

    columns: Mapping[type[Event], Columns]
    refused: tuple[Refused, ...]


class BatchDecoder:
    """Reads records of some event classes mixed. A class's kernel is made when its first record comes.

    Ids of texts mean the same in the columns of all classes.
    """

    def __init__(
        self, codec: Codec, event_classes: tuple[type[Event], ...], known: dict[str, Texts] | None = None
    ) -> None:
        self.known: dict[str, Texts] = {} if known is None else known
        self._codec = codec
        self._classes = event_classes
        self._numbers = {codec.schema_id(event_class): number for number, event_class in enumerate(event_classes)}
        self._decoders: dict[type[Event], ColumnDecoder] = {}

    def decode(self, buffer: bytes | Bytes, starts: Longs, lengths: Longs) -> Batch:
        """As :meth:`ColumnDecoder.decode`; records of other classes are refused as misplaced."""
        held = np.frombuffer(buffer, np.uint8) if isinstance(buffer, bytes) else buffer
        classes, refused = self._sorted_out(held, starts, lengths)
        columns: dict[type[Event], Columns] = {}
        for number in np.unique(classes[classes != NO_CLASS]).tolist():
            mine = np.flatnonzero(classes == number)
            found = self._decoder(self._classes[number]).decode(held, starts[mine], lengths[mine])
            refused += [Refused(int(mine[each.index]), each.error) for each in found.refused]
            columns[found.event_class] = Columns(found.event_class, found.storage, mine[found.index])
        return Batch(columns=columns, refused=tuple(sorted(refused, key=lambda each: each.index)))

    def prepare(self) -> None:
        """Make the kernels of all classes now, rather than when the first record of each comes."""
        for event_class in self._classes:
            self._decoder(event_class)

    def _decoder(self, event_class: type[Event]) -> ColumnDecoder:
        if event_class not in self._decoders:
            self._decoders[event_class] = ColumnDecoder(self._codec, event_class, self.known)
        return self._decoders[event_class]

    def _sorted_out(self, buffer: Bytes, starts: Longs, lengths: Longs) -> tuple[Longs, list[Refused]]:
        """The number of each record's class; one that is of none of ours is refused here."""
        ids = _schema_ids(buffer, starts, lengths)
        classes = np.full(len(starts), NO_CLASS, np.int64)
        for schema_id, number in self._numbers.items():
            classes[ids == schema_id] = number
        refused: list[Refused] = []
        for record in np.flatnonzero(classes == NO_CLASS).tolist():
            content = buffer[starts[record] : starts[record] + max(0, int(lengths[record]))].tobytes()
            try:
                classes[record] = self._classes.index(self._class_of(content))
            except (DecodeError, UnknownEvent, MisplacedRecord) as error:
                refused.append(Refused(record, error))
        return classes, refused

    def _class_of(self, record: bytes) -> type[Event]:
        event_class = self._codec.event_class(record)
        if event_class not in self._classes:
            expected = ", ".join(map(full_name, self._classes))
            raise MisplacedRecord(f"a record of {full_name(event_class)}; expected one of {expected}")
        return event_class


def _schema_ids(buffer: Bytes, starts: Longs, lengths: Longs) -> Longs:
    """The id in each record's header; -1 where there is no header."""
    ids = np.full(len(starts), -1, np.int64)
    framed = np.flatnonzero((lengths >= HEADER.size) & (starts >= 0) & (starts + HEADER.size <= len(buffer)))
    at = starts[framed]
    found = np.zeros(len(framed), np.int64)
    for byte in range(1, HEADER.size):
        found = found << 8 | buffer[at + byte].astype(np.int64)
    ids[framed] = np.where(buffer[at] == 0, found, -1)
    return ids
