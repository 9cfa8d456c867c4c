"""Framed records to columns, by a compiled kernel; what the kernel does not read is read one by one.

The kernel knows one schema, its own, as our own writer writes it. Everything else is left to :class:`Codec`, which has the
last word: other versions of the schema, lists in several blocks with byte counts, decimals with needless leading bytes, and
all that is no record. What the codec reads is written again in the usual form, and the batch is read once more with it; what
it refuses is left out, with the codec's own error. So a batch has the same rows as its records one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skeet.core.errors import BugError, DecodeError, InvalidInput, MisplacedRecord, UnknownEvent
from skeet.core.record import Event
from skeet.schemas.catalogue import full_name
from skeet.schemas.codec import Codec
from skeet.schemas.columns.columns import Bytes, Columns, Longs, Refused, Storage
from skeet.schemas.columns.interning import Texts
from skeet.schemas.columns.kernels import decoder_of
from skeet.schemas.columns.plan import plan_of

NOWHERE = 1 << 62
"""Past any buffer: nothing in it was written by us."""


class ColumnDecoder:
    """Reads records of one event class. One thread at a time may use it, because its intern tables grow.

    Parameters
    ----------
    codec
        knows the schema's id, and reads what the kernel does not.
    known
        intern tables by the field's name, for decoders whose ids are to mean the same; missing ones are added.

    Raises
    ------
    InvalidInput
        the codec has no id for this class.
    """

    def __init__(self, codec: Codec, event_class: type[Event], known: dict[str, Texts] | None = None) -> None:
        self.event_class = event_class
        self.plan = plan_of(event_class)
        self.known: dict[str, Texts] = {} if known is None else known
        for name in self.plan.keyed:
            self.known.setdefault(name, Texts())
        self._codec = codec
        self._schema_id = codec.schema_id(event_class)
        self._kernel = decoder_of(event_class)

    def decode(self, buffer: bytes | Bytes, starts: Longs, lengths: Longs) -> Columns:
        """Columns of the records at these places of the buffer, which must not change while the columns are used.

        Parameters
        ----------
        buffer
            bytes or a uint8 array; anything may stand between the records.
        starts, lengths
            int64 arrays of the records' first bytes and byte counts. A negative length is a record without a value.

        Raises
        ------
        BugError
            a record does not lie within the buffer.
        InfrastructureError
            the registry, asked for another version's schema, is away. Nothing was taken; give the batch again.
        """
        held = np.frombuffer(buffer, np.uint8) if isinstance(buffer, bytes) else buffer
        _check(held, starts, lengths)
        index = np.arange(len(starts), dtype=np.int64)
        storage, marks = self._walk(held, starts, lengths, NOWHERE)
        if not marks.any():
            return Columns(self.event_class, storage, index)
        return self._with_unusual(held, starts, lengths, index, marks)

    def decode_records(self, records: Sequence[bytes]) -> Columns:
        """The same for records that are single objects."""
        lengths = np.fromiter(map(len, records), np.int64, len(records))
        return self.decode(b"".join(records), np.cumsum(lengths) - lengths, lengths)

    def _walk(self, buffer: Bytes, starts: Longs, lengths: Longs, trusted_from: int) -> tuple[Storage, Bytes]:
        total = int(np.maximum(lengths, 0).sum())
        rooms = (len(starts), *(total // table.least_bytes for table in self.plan.tables[1:]))
        blocks = Storage.reserved(self.plan, rooms)
        marks = np.empty(len(starts), np.uint8)
        counts = np.zeros(len(rooms), np.int64)
        tables = (array for name in self.plan.keyed for array in self.known[name].arrays())
        self._kernel(
            buffer, starts, lengths, self._schema_id, trusted_from, marks, counts, *tables, *blocks.values()
        )  # fmt: skip
        rows = (len(starts), *counts[1:].tolist())
        return Storage(plan=self.plan, buffer=buffer, blocks=blocks, counts=rows, known=self.known), marks

    def _with_unusual(self, buffer: Bytes, starts: Longs, lengths: Longs, index: Longs, marks: Bytes) -> Columns:
        """The batch again, with what the codec made of the marked records in their places behind the buffer."""
        starts, lengths = starts.copy(), lengths.copy()
        refused: list[Refused] = []
        written = bytearray()
        for number in np.flatnonzero(marks).tolist():
            try:
                record = self._in_usual_form(_bytes_at(buffer, starts[number], lengths[number]))
            except (DecodeError, UnknownEvent, MisplacedRecord) as error:
                refused.append(Refused(number, error))
                continue
            starts[number], lengths[number] = len(buffer) + len(written), len(record)
            written += record
            marks[number] = 0
        held = np.concatenate([buffer, np.frombuffer(bytes(written), np.uint8)])
        good = marks == 0
        storage, again = self._walk(held, starts[good], lengths[good], len(buffer))
        if again.any():
            raise BugError(f"{self.plan.name}: record {index[good][again != 0][0]} cannot be read as it was written")
        return Columns(self.event_class, storage, index[good], tuple(refused))

    def _in_usual_form(self, record: bytes) -> bytes:
        event_class, values = self._codec.decode_values(record)
        if event_class is not self.event_class:
            raise MisplacedRecord(f"a record of {full_name(event_class)}; expected {self.plan.name}")
        try:
            return self._codec.encode_values(event_class, values)
        except InvalidInput as error:
            raise DecodeError(
                f"{self.plan.name}: another version's value that this one cannot hold: {error}"
            ) from error


def _check(buffer: Bytes, starts: Longs, lengths: Longs) -> None:
    """Of what the kernel relies on, what only a mistake of ours can break."""
    if len(starts) != len(lengths):
        raise BugError(f"{len(starts)} starts and {len(lengths)} lengths")
    if len(starts) and (starts.min() < 0 or (starts + np.maximum(lengths, 0)).max() > len(buffer)):
        raise BugError(f"a record outside of the buffer's {len(buffer)} bytes")


def _bytes_at(buffer: Bytes, start: int, length: int) -> bytes:
    return buffer[start : start + max(0, int(length))].tobytes()
