"""What a tenant's process may ask, and under which envelope it goes on."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from skeet.core.accounts import AccountOpened
from skeet.core.commands import CancelAllOrders, Deposit, SubmitOrder
from skeet.core.ids import outside_command_id
from skeet.core.outside import forwarded_meta, refusals
from skeet.core.record import Event, Meta, Record, TopicPosition
from skeet.core.values import AccountId, EventId, OrderType, PrincipalId, Side, TenantId, TimeInForce

ORDER = SubmitOrder(
    ts_cause=1,
    valid_until=2,
    book_id="mine",
    instrument_id="SIM:BTC/USDT",
    side=Side.BUY,
    order_type=OrderType.MARKET,
    time_in_force=TimeInForce.IOC,
    post_only=False,
    quantity=Decimal("0.01"),
    limit_price=None,
    code_version="",
    rule="",
)
FORGED = Meta(
    event_id=EventId("key-1"),
    tenant_id=TenantId("globex"),
    account_id=AccountId("alpha"),
    principal_id=PrincipalId("operator"),
    correlation_id=EventId("x"),
    causation_id=EventId("y"),
    cause_at="orders.commands.v1/0/0",
    ts_event=1,
    ts_init=2,
    stream_version=77,
)


def asked(event: Event = ORDER, meta: Meta | None = FORGED) -> Record[Event]:
    return Record(event=event, meta=meta, at=TopicPosition("t.acme.commands.v1", 1, 5), log_ns=9_000)


def controls(record: Record[Event], key: str = "alpha", owner: str | None = "acme") -> list[str]:
    return [breach.control for breach in refusals("acme", record, key, owner)]


def test_order_on_an_account_of_the_tenant_is_passed_on() -> None:
    assert controls(asked()) == []
    assert controls(asked(CancelAllOrders(ts_cause=1, valid_until=2, book_id=""))) == []


def test_account_of_another_tenant_reads_as_one_that_does_not_exist() -> None:
    foreign, missing = refusals("acme", asked(), "alpha", "globex"), refusals("acme", asked(), "alpha", None)
    assert [breach.control for breach in foreign] == ["account"]
    assert foreign == missing


@pytest.mark.parametrize(
    "event",
    [
        Deposit(ts_cause=1, valid_until=2, asset="USDT", amount=Decimal(1_000_000), external_ref="sim:mine"),
        AccountOpened(venue="sim", label=""),
    ],
)
def test_money_and_facts_are_not_a_tenants_to_write(event: Event) -> None:
    assert controls(asked(event)) == ["command"]


def test_every_reason_is_listed() -> None:
    wrong = replace(FORGED, event_id=EventId("two words"))
    record = asked(replace(ORDER, book_id="b" * 129), wrong)
    assert controls(record, key="beta", owner=None) == ["client_key", "key", "account", "format"]


def test_a_record_without_an_envelope_is_no_command() -> None:
    assert "format" in controls(asked(meta=None))


def test_nothing_of_the_envelope_that_says_who_or_when_is_the_tenants() -> None:
    sent = forwarded_meta("acme", asked(), FORGED)
    command_id = outside_command_id("acme", "t.acme", "key-1")
    assert sent == Meta(
        event_id=command_id,
        tenant_id=TenantId("acme"),
        account_id=AccountId("alpha"),
        principal_id=PrincipalId("t.acme"),
        correlation_id=command_id,
        causation_id=command_id,
        cause_at="t.acme.commands.v1/1/5",
        ts_event=9_000,
        ts_init=9_000,
    )
