"""Several records at once: what :meth:`Strategy.on_batch` is offered, and how a run of records is cut into such offers.

An offer is a *stretch*: records of one class that has a handler, with nothing between them that the strategy could see but
events of classes for which it has no handler. Position, open orders and balances are the same all along it, because only events of the
account, and the strategy's own commands, change them: the first end a stretch, and the second are never asked for inside of one.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter
from typing import Any, Generic, TypeVar

from skeet.core.market import Bar, BookDelta, BookSnapshot, Quote, Signal, Trade
from skeet.core.record import MarketEvent, Record

E = TypeVar("E", bound=MarketEvent, covariant=True)

HANDLERS: dict[type[MarketEvent], str] = {
    Trade: "on_trade",
    Quote: "on_quote",
    BookSnapshot: "on_book",
    BookDelta: "on_book",
    Bar: "on_bar",
    Signal: "on_signal",
}
"""Who handles which class."""
MIN_ROWS = 8
"""Fewer rows go to their handler: making columns of them would cost more than it saves."""


class Batch(Generic[E]):
    """Consecutive events of one class (``kind``) of the strategy's instrument, as columns, in the order of the merge.

    Columns are int64 and read-only; ``numpy.asarray(batch.column("price_mantissa"))`` copies nothing.
    """

    __slots__ = ("_columns", "_events", "_first", "_now_ns", "_quotes", "kind")

    def __init__(
        self, kind: type[E], events: Sequence[E], quotes: Sequence[Quote | None], now_ns: memoryview, first: int = 0
    ) -> None:
        self.kind = kind
        self._events = events
        self._quotes = quotes
        self._now_ns = now_ns
        self._first = first
        self._columns: dict[str, memoryview] = {}

    def __len__(self) -> int:
        return len(self._events) - self._first

    @property
    def events(self) -> Sequence[E]:
        """The events themselves."""
        return self._events[self._first :]

    @property
    def now_ns(self) -> memoryview:
        """``context.now_ns`` as the handler of each row would see it."""
        return self._now_ns[self._first :]

    @property
    def quotes(self) -> Sequence[Quote | None]:
        """``context.quote`` as the handler of each row would see it."""
        return self._quotes[self._first :]

    def column(self, name: str) -> memoryview:
        """A field of every row that is an integer, a boolean (0, 1) or an enumeration (its member's number, from 0).

        Raises
        ------
        TypeError, AttributeError
            the field is something else, or there is none.
        """
        if name not in self._columns:
            values = map(attrgetter(name), self._events)
            self._columns[name] = _int64(values, getattr(self._events[0], name))
        return self._columns[name][self._first :]

    def rest(self, rows: int) -> Batch[E]:
        """The same without its first rows."""
        rest = Batch(self.kind, self._events, self._quotes, self._now_ns, self._first + rows)
        rest._columns = self._columns
        return rest


def _int64(values: Any, example: Any) -> memoryview:
    if isinstance(example, Enum):
        numbers = {member: number for number, member in enumerate(type(example))}
        values = map(numbers.__getitem__, values)
    return memoryview(array("q", values)).toreadonly()


@dataclass(slots=True)
class Stretch:
    """Records that follow one another; ``rows`` are the places in it of those of class ``kind``."""

    records: list[Record[Any]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    kind: type[MarketEvent] | None = None

    def place(self, row: int) -> int:
        """Where the row stands among the records; behind the last one, where they end."""
        return self.rows[row] if row < len(self.rows) else len(self.records)

    def batch(self, quote: Quote | None, now_ns: int) -> Batch[MarketEvent]:
        """Its rows as columns, given what was known before its first record."""
        assert self.kind is not None
        quotes: list[Quote | None] = []
        times = array("q")
        for record in self.records:
            event = record.event
            kind = type(event)
            now_ns = max(now_ns, event.ts_event)
            if kind is Quote:
                quote = event
            if kind is self.kind:
                quotes.append(quote)
                times.append(now_ns)
        events = [self.records[place].event for place in self.rows]
        return Batch(self.kind, events, quotes, memoryview(times).toreadonly())


def stretches(
    records: Sequence[Record[Any]], instrument_id: str, silent: frozenset[type[MarketEvent]]
) -> Iterator[Stretch]:
    """Cut records into stretches, every record in one of them, in order; what fits into none is in one by itself.

    ``silent`` are the classes without a handler.
    """
    stretch = Stretch()
    for record in records:
        kind = type(record.event)
        if kind not in HANDLERS or record.event.instrument_id != instrument_id:
            yield from (stretch, Stretch([record]))
            stretch = Stretch()
            continue
        if kind not in silent:
            if stretch.kind not in (None, kind):
                yield stretch
                stretch = Stretch()
            stretch.kind = kind
            stretch.rows.append(len(stretch.records))
        stretch.records.append(record)
    yield stretch
