"""What was delivered and is not finished, and how far each partition may be committed. Pure: no Kafka, no Faust, no clock.

A delivery is finished when it was acknowledged and everything it sent is confirmed. A partition may be committed to the end
of the longest run of finished deliveries from its beginning, in whatever order they finish. Whatever was forgotten (because
its partition was revoked, or its reader sent elsewhere) counts nowhere any more, also when it is acknowledged later.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from skeet.core.errors import BugError
from skeet.streams.stages import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one process holds at most.

    ``chunk_*`` bound one event: a fetched batch is never cut, so a chunk may exceed them by one batch. ``flight_*`` bound
    what is delivered and not finished, all partitions together: reading goes on only below all of them, so that what a
    slow agent holds is ``flight_bytes`` plus one chunk for each partition, and what the fetcher has ready (one fetch for
    each partition). ``commit_records`` finished records are committed at once, fewer ``commit_after_s`` after the first of
    them: what a kill repeats is that, what was finished while the commit was under way, and the chunk in hand.
    """

    chunk_records: int = 8_192
    chunk_bytes: int = 4 * 1024 * 1024
    flight_records: int = 65_536
    flight_bytes: int = 32 * 1024 * 1024
    flight_chunks: int = 1_000
    commit_records: int = 4_096
    commit_after_s: float = 0.010


@dataclass(slots=True, eq=False)
class Delivery:
    """One chunk on its way: part of a :class:`Ledger`, which hears of every change."""

    place: Partition
    first: int
    next_offset: int
    records: int
    size: int
    ledger: Ledger
    begun: bool = False
    """Whether its reader has it."""
    acked: bool = False
    unconfirmed: int = 0
    forgotten: bool = False

    @property
    def finished(self) -> bool:
        """Whether nothing is left to wait for."""
        return self.acked and not self.unconfirmed

    def ack(self) -> None:
        """Its reader is done with it; more sends must not begin."""
        if not self.acked:
            self.acked = True
            self.ledger.advance(self)

    def sending(self) -> None:
        """One more send that must be confirmed."""
        self.unconfirmed += 1

    def confirmed(self) -> None:
        """One send less to wait for. A send that failed is never confirmed."""
        self.unconfirmed -= 1
        self.ledger.advance(self)


class Ledger:
    """The account of one consumer.

    Parameters
    ----------
    limits
        what it may hold.
    on_progress
        called after something was finished or forgotten.
    """

    def __init__(self, limits: Limits, on_progress: Callable[[], None]) -> None:
        self.limits = limits
        self._on_progress = on_progress
        self._flight: dict[Partition, deque[Delivery]] = defaultdict(deque)
        self._committable: dict[Partition, int] = {}
        self._expected: dict[Partition, int] = {}
        self.records = 0
        self.size = 0
        self.chunks = 0
        self.uncommitted = 0
        """Finished records since the last :meth:`committing`."""

    @property
    def has_room(self) -> bool:
        """Whether more may be read."""
        limits = self.limits
        return (
            self.records < limits.flight_records
            and self.size < limits.flight_bytes
            and self.chunks < limits.flight_chunks
        )

    @property
    def committable(self) -> dict[Partition, int]:
        """For each partition with finished deliveries, the offset that may be committed: the next one to read."""
        return self._committable

    def expected(self, place: Partition) -> int | None:
        """The position at which the next delivery must begin; None while the partition is nobody's or not yet sought."""
        return self._expected.get(place)

    def start(self, place: Partition, position: int) -> None:
        """Deliveries of the partition begin here from now on; what was in flight is forgotten."""
        self.forget([place])
        self._expected[place] = position

    def deliver(self, place: Partition, first: int, next_offset: int, records: int, size: int) -> Delivery:
        """Enter a chunk before it is handed over. Without records it is finished at once (markers, aborted records).

        Raises
        ------
        BugError
            it does not begin where the one before it ended, or where the partition was started: to commit behind it would
            lose what lies between.
        """
        expected = self._expected.get(place)
        if first != expected:
            raise BugError(f"{place[0]}-{place[1]}: delivery from {first}; expected {expected}")
        self._expected[place] = next_offset
        delivery = Delivery(place, first, next_offset, records, size, self)
        self._flight[place].append(delivery)
        self.records += records
        self.size += size
        self.chunks += 1
        if not records:
            delivery.ack()
        return delivery

    def advance(self, delivery: Delivery) -> None:
        """Move the partition's committable offset over what is finished at its head."""
        flight = self._flight.get(delivery.place)
        if delivery.forgotten or flight is None or not flight or not flight[0].finished:
            return
        while flight and flight[0].finished:
            done = flight.popleft()
            self._leave(done)
            self.uncommitted += done.records
            self._committable[done.place] = done.next_offset
        self._on_progress()

    def committing(self) -> int:
        """How many finished records the commit that begins now covers."""
        taken, self.uncommitted = self.uncommitted, 0
        return taken

    def forget(self, places: Iterable[Partition] | None = None) -> None:
        """Drop these partitions (default: all): nothing in flight of them can be committed or is to be waited for."""
        for place in list(self._expected if places is None else places):
            self._committable.pop(place, None)
            self._expected.pop(place, None)
            for delivery in self._flight.pop(place, ()):
                delivery.forgotten = True
                self._leave(delivery)
        self._on_progress()

    def rewind(self) -> dict[Partition, int]:
        """Forget the deliveries that no reader has begun, and those behind them; from where each partition must be read again."""
        positions: dict[Partition, int] = {}
        for place, flight in self._flight.items():
            waiting = next((each for each in flight if not each.begun and not each.acked), None)
            while waiting is not None and not waiting.forgotten:
                dropped = flight.pop()
                dropped.forgotten = True
                self._leave(dropped)
                positions[place] = self._expected[place] = dropped.first
        return positions

    def in_flight(self) -> list[Delivery]:
        """Everything that is delivered and behind no finished run."""
        return [delivery for flight in self._flight.values() for delivery in flight]

    def _leave(self, delivery: Delivery) -> None:
        self.records -= delivery.records
        self.size -= delivery.size
        self.chunks -= 1
