"""A: given inputs, events and how far the desk has read, then which inputs nobody answered."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from market_records import record

from skeet.core.accounts import AccountOpened
from skeet.core.commands import CancelAllOrders, OpenAccount
from skeet.core.ids import derive_id
from skeet.core.record import Event, Meta, Record
from skeet.core.reports import BalanceReported
from skeet.core.values import AccountId, PrincipalId, TenantId
from skeet.parity.answers import compare
from skeet.verify.findings import Check

OPEN = OpenAccount(ts_cause=1, valid_until=2, venue="sim", label="a")
CANCEL_ALL = CancelAllOrders(ts_cause=1, valid_until=2, book_id="")
BALANCE = BalanceReported(asset="USDT", free=Decimal(1), locked=Decimal(0))
COMMANDS, REPORTS, EVENTS = "orders.commands.v1", "venue.reports.v1", "accounts.events.v1"


def meta(cause_at: str = "") -> Meta:
    identity = derive_id("test", cause_at)
    return Meta(
        event_id=identity, tenant_id=TenantId("main"), account_id=AccountId("alice"), principal_id=PrincipalId("p"),
        correlation_id=identity, causation_id=identity, cause_at=cause_at, ts_event=1, ts_init=1,
    )  # fmt: skip


def given(event: Event, offset: int, topic: str = COMMANDS) -> Record[Any]:
    return record(event, offset, topic, meta())


def answer(offset: int, topic: str = COMMANDS) -> Record[Any]:
    return record(AccountOpened(venue="sim", label="a"), offset, EVENTS, meta(f"{topic}/0/{offset}"))


def compared(events: list[Record[Any]], inputs: list[Record[Any]], read_to: int = 10) -> Check:
    check = Check(name="A", title="")
    compare(events, inputs, {(COMMANDS, 0): read_to, (REPORTS, 0): read_to}, check)
    return check


def test_every_input_has_its_answer() -> None:
    check = compared([answer(0), answer(1)], [given(OPEN, 0), given(OPEN, 1)])
    assert (check.differences, check.compared) == ([], {"inputs": 2})


def test_an_input_that_left_no_event_is_named_by_its_position() -> None:
    check = compared([answer(0)], [given(OPEN, 0), given(OPEN, 1)])
    assert check.differences == [
        f"{COMMANDS}/0/1: the desk has read this OpenAccount of alice, and no event answers it"
    ]


def test_an_answer_to_the_same_offset_of_another_topic_is_none() -> None:
    assert compared([answer(0, REPORTS)], [given(OPEN, 0)]).differences


def test_what_the_desk_has_not_read_yet_is_not_asked_for() -> None:
    assert not compared([], [given(OPEN, 3)], read_to=3).differences
    assert compared([], [given(OPEN, 3)], read_to=4).differences


def test_some_inputs_rightly_cause_nothing() -> None:
    check = compared([], [given(CANCEL_ALL, 0), given(BALANCE, 1, REPORTS)])
    assert (check.differences, check.compared) == ([], {"inputs that ask for nothing": 2})
