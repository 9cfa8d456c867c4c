"""The pure parts of `verify`: amounts, verdicts, ledger sums."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from skeet.streams.topics import TOPICS
from skeet.verify.amounts import UNIT, from_avro, from_decimal, from_text, shown
from skeet.verify.avro import WriterSchema
from skeet.verify.books import Books, OrderFacts
from skeet.verify.columns import TABLE_OF_TOPIC
from skeet.verify.findings import MAX_KEPT, Check, Report
from skeet.verify.history import GROUP
from skeet.verify.invariants import Ledger, Streams, reservation_due
from skeet.verify.journal import Journal, VenueOrder
from skeet.verify.log import Entry
from skeet.verify.venue import Sides, _compare_order
from skeet.wiring import ROLES


@given(some.integers(-(10**37), 10**37))
def test_amount_is_equal_whichever_way_it_came(units: int) -> None:
    raw = units.to_bytes(17, "big", signed=True)
    assert from_avro(raw) == units
    assert from_decimal(Decimal(units).scaleb(-18)) == units if abs(units) < 10**28 else True
    assert from_text(shown(units)) == units


def test_decimal_with_more_places_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 18"):
        from_decimal(Decimal("0.0000000000000000001"))


def test_verdict_prefers_a_difference_to_an_empty_set() -> None:
    empty = Check(name="I2", title="", must_not_be_empty=("orders",))
    unjudged = Check(name="I7", title="", must_not_be_empty=("accounts",), not_judged="trading goes on")
    different = Check(name="I4", title="")
    different.differs("row 1")
    assert Report(checks=(unjudged,), records=0, duration_s=0).exit_code == 0
    assert Report(checks=(empty, unjudged), records=0, duration_s=0).exit_code == 2
    assert Report(checks=(empty, different), records=0, duration_s=0).exit_code == 1
    assert Report(checks=(empty, different), records=0, duration_s=0).first_difference == "I4 row 1"


def test_differences_beyond_the_limit_are_counted_not_kept() -> None:
    check = Check(name="I5", title="")
    for number in range(MAX_KEPT + 5):
        check.differs(str(number))
    assert (check.difference_count, len(check.differences)) == (MAX_KEPT + 5, MAX_KEPT)


def test_every_history_topic_is_compared_and_the_group_is_the_role_s() -> None:
    assert set(TABLE_OF_TOPIC) == {topic.name for topic in TOPICS if topic.history}
    assert ROLES["projection-clickhouse"].group == GROUP


def event(version: int, account: str = "a", partition: int = 0, **values: Any) -> Entry:
    fields = {"account_id": account, "stream_version": version, "event_id": f"{account}{version}"} | values
    schema = WriterSchema("FundsDeposited", frozenset(fields), None)
    return Entry("accounts.events.v1", partition, version, 0, b"", schema, fields)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([event(1), event(3)], "version 3 where 2 is due (a hole)"),
        ([event(1), event(1)], "version 1 where 2 is due (a repeat)"),
        ([event(1), event(2, partition=1)], "was in partition 0 before"),
        ([event(1), event(1, "b", event_id="a1")], "event id a1 was there before"),
    ],
)
def test_broken_stream_is_named(entries: list[Entry], says: str) -> None:
    streams = Streams()
    for entry in entries:
        streams.add(entry)
    assert says in streams.finish().differences[0]


def posting(ledger: str, units: int) -> dict[str, Any]:
    return {"ledger": ledger, "asset": "USDT", "amount": units.to_bytes(17, "big", signed=True), "book_id": ""}


def test_free_balance_below_zero_is_named_where_it_happens() -> None:
    ledger = Ledger()
    ledger.add(event(1, postings=[posting("EXTERNAL", -5), posting("FREE", 5)]))
    ledger.add(event(2, postings=[posting("MARKET", 6), posting("FREE", -6)]))
    assert ledger.check.differences == ["accounts.events.v1/0/2: FREE USDT of a falls to -0.000000000000000001"]


@pytest.mark.parametrize(("filled", "status", "due"), [(0, "ACCEPTED", 100), (1, "ACCEPTED", 67), (3, "FILLED", 0)])
def test_reservation_is_the_unfilled_share_rounded_up(filled: int, status: str, due: int) -> None:
    decision = {"reserved_amount": (100).to_bytes(17, "big"), "quantity": (3 * UNIT).to_bytes(17, "big")}
    order = OrderFacts(decision, denied=False, status=status, filled=filled * UNIT)
    assert reservation_due(order) == due


def test_a_denial_of_an_order_that_was_decided_before_leaves_it_as_it_was() -> None:
    def told(version: int, name: str, status: str) -> Entry:
        entry = event(version, order_id="o", status=status, ts_event=version)
        return entry._replace(schema=WriterSchema(name, frozenset(entry.values), None))

    books = Books()
    books.add(told(1, "OrderAuthorized", "AUTHORIZED"))
    books.add(told(2, "OrderDenied", "DENIED"))
    order = books.orders["o"]
    assert (order.status, order.denied, order.closed_at) == ("AUTHORIZED", False, None)
    assert len(books.denials) == 1


@pytest.mark.parametrize(
    ("decided_at", "says"),
    [
        ("orders.commands.v1/0/4", []),
        ("orders.commands.v1/0/6", ["commanded", "quantity"]),
        ("orders.commands.v1/0/9", ["was decided on at orders.commands.v1/0/9, where its command is not"]),
    ],
)
def test_an_order_is_held_against_the_command_that_was_decided_on(decided_at: str, says: list[str]) -> None:
    def units(amount: int) -> bytes:
        return (amount * UNIT).to_bytes(17, "big")

    def commanded(quantity: int) -> dict[str, Any]:
        return {"event_id": "o", "account_id": "a", "side": "BUY", "quantity": units(quantity)}

    sides = Sides(Journal(), quiet=True)
    sides.commands = {"orders.commands.v1/0/4": commanded(2), "orders.commands.v1/0/6": commanded(1)}
    sides.books.orders["o"] = OrderFacts({"cause_at": decided_at, "limit_price": units(100)}, denied=False)
    accepted = VenueOrder(3, {"side": "BUY", "quantity": "2.00000000", "price": "100.00000000"}, executed=2 * UNIT)
    check = Check(name="I2", title="")

    _compare_order(check, sides, "a", "o", [accepted])

    assert len(check.differences) == len(says)
    assert all(part in difference for part, difference in zip(says, check.differences, strict=True))
