"""The ledger against a model that remembers every delivery and computes from scratch."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from skeet.core.errors import BugError
from skeet.streams.batches.ledger import Delivery, Ledger, Limits

PLACES = [("trades", 0), ("trades", 1), ("quotes", 0)]


@dataclass(eq=False)
class Known:
    """A delivery as the model remembers it."""

    delivery: Delivery
    first: int
    next_offset: int
    records: int
    acked: bool = False
    sends: int = 0

    @property
    def finished(self) -> bool:
        return self.acked and self.sends == 0


@dataclass
class Model:
    """All deliveries since each partition was last forgotten, in order."""

    delivered: dict[tuple[str, int], list[Known]] = field(default_factory=lambda: {place: [] for place in PLACES})
    at: dict[tuple[str, int], int] = field(default_factory=dict)
    """Where the next delivery must begin."""

    def committable(self, place: tuple[str, int]) -> int | None:
        found = None
        for known in self.delivered[place]:
            if not known.finished:
                break
            found = known.next_offset
        return found

    def waiting(self) -> list[Known]:
        found = []
        for deliveries in self.delivered.values():
            head = 0
            while head < len(deliveries) and deliveries[head].finished:
                head += 1
            found.extend(deliveries[head:])
        return found


class LedgerMachine(RuleBasedStateMachine):
    """Deliveries, acknowledgements in any order, sends confirmed or never, revokes and seeks."""

    deliveries = Bundle("deliveries")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(Limits(flight_records=50, flight_chunks=6), lambda: None)
        self.model = Model()

    @rule(
        target=deliveries,
        place=st.sampled_from(PLACES),
        records=st.integers(0, 20),
        gap=st.integers(0, 3),
        start=st.integers(0, 100),
    )
    def deliver(self, place: tuple[str, int], records: int, gap: int, start: int) -> Known:
        before = self.model.delivered[place]
        if place not in self.model.at:
            self.ledger.start(place, start)
        first = self.model.at.get(place, start)
        # Compaction and markers leave offsets without records.
        next_offset = first + records + gap + (0 if records else 1)
        delivery = self.ledger.deliver(place, first, next_offset, records, records * 10)
        known = Known(delivery, first, next_offset, records, acked=records == 0)
        before.append(known)
        self.model.at[place] = next_offset
        return known

    @rule(known=deliveries)
    def send(self, known: Known) -> None:
        if not known.acked:
            known.delivery.sending()
            known.sends += 1

    @rule(known=deliveries)
    def confirm(self, known: Known) -> None:
        if known.sends:
            known.sends -= 1
            known.delivery.confirmed()

    @rule(known=consumes(deliveries))
    def ack(self, known: Known) -> None:
        known.acked = True
        known.delivery.ack()
        known.delivery.ack()

    @rule(places=st.one_of(st.none(), st.sets(st.sampled_from(PLACES))))
    def forget(self, places: set[tuple[str, int]] | None) -> None:
        self.ledger.forget(places)
        for place in PLACES if places is None else places:
            self.model.delivered[place].clear()
            self.model.at.pop(place, None)

    @rule(known=deliveries)
    def begin(self, known: Known) -> None:
        known.delivery.begun = True

    @rule()
    def rewind(self) -> None:
        expected = {}
        for place, delivered in self.model.delivered.items():
            head = len(delivered) - len([known for known in self.model.waiting() if known in delivered])
            for index, known in enumerate(delivered[head:], head):
                if not known.delivery.begun and not known.acked:
                    expected[place] = self.model.at[place] = known.first
                    del delivered[index:]
                    break
        assert self.ledger.rewind() == expected
        for place, position in expected.items():
            assert self.ledger.expected(place) == position

    @rule(place=st.sampled_from(PLACES), jump=st.integers(1, 5))
    def deliver_behind_a_hole(self, place: tuple[str, int], jump: int) -> None:
        first = self.model.at.get(place, 0) + jump
        with pytest.raises(BugError, match="expected"):
            self.ledger.deliver(place, first, first + 1, 1, 1)

    @invariant()
    def committable_is_the_longest_finished_run(self) -> None:
        for place in PLACES:
            assert self.ledger.committable.get(place) == self.model.committable(place)

    @invariant()
    def only_what_waits_counts(self) -> None:
        waiting = self.model.waiting()
        assert self.ledger.chunks == len(waiting) == len(self.ledger.in_flight())
        assert self.ledger.records == sum(known.records for known in waiting)
        assert self.ledger.size == 10 * self.ledger.records
        assert self.ledger.has_room == (self.ledger.records < 50 and self.ledger.chunks < 6)


LedgerMachine.TestCase.settings = hypothesis_settings(max_examples=100, stateful_step_count=30, deadline=None)
TestLedger = LedgerMachine.TestCase


def test_what_is_acknowledged_after_a_revoke_moves_nothing() -> None:
    ledger = Ledger(Limits(), lambda: None)
    ledger.start(("trades", 0), 0)
    old = ledger.deliver(("trades", 0), 0, 10, 10, 100)
    ledger.start(("trades", 0), 0)
    ledger.deliver(("trades", 0), 0, 5, 5, 50)
    old.ack()
    assert old.forgotten
    assert ledger.committable == {}
    assert ledger.records == 5


def test_a_send_that_is_never_confirmed_holds_the_commit_of_everything_behind_it() -> None:
    ledger = Ledger(Limits(), lambda: None)
    ledger.start(("trades", 0), 0)
    first, second = (ledger.deliver(("trades", 0), n, n + 10, 10, 100) for n in (0, 10))
    first.sending()
    for each in (first, second):
        each.ack()
    assert ledger.committable == {}
    first.confirmed()
    assert ledger.committable == {("trades", 0): 20}


def test_finished_records_are_counted_until_a_commit_begins() -> None:
    seen: list[int] = []
    ledger = Ledger(Limits(), lambda: seen.append(ledger.uncommitted))
    ledger.start(("trades", 0), 0)
    for n in (0, 10):
        ledger.deliver(("trades", 0), n, n + 10, 10, 100).ack()
    assert seen[-2:] == [10, 20]
    assert (ledger.committing(), ledger.uncommitted) == (20, 0)
