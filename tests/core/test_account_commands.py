"""What an account makes of commands: accounts, deposits, orders, cancels."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

from skeet.core.account import decide_kill
from skeet.core.accounts import (
    AccountOpened,
    CancelAuthorized,
    DuplicateIgnored,
    FundsDeposited,
    OrderAuthorized,
    OrderDenied,
    ReportIgnored,
)
from skeet.core.control import KillSwitchSet
from skeet.core.ids import account_event_id, derive_id
from skeet.core.values import NS_PER_S, AccountId, OrderStatus, OrderType, Side, TimeInForce

Account = Any  # the Scenario of conftest.py


def test_opening_starts_the_stream_under_the_callers_tenant(fresh: Account) -> None:
    fresh.when(fresh.open()).then(AccountOpened)
    _, meta = fresh.history[0]
    assert (meta.stream_version, meta.tenant_id, meta.ts_init) == (1, "main", 17)
    assert meta.event_id == account_event_id(AccountId("alice"), 1)
    assert meta.cause_at == "orders.commands.v1/0/1"


def test_opening_twice_is_denied_and_the_same_command_again_is_a_duplicate(fresh: Account) -> None:
    fresh.given(fresh.open())
    fresh.when(fresh.open()).then(DuplicateIgnored)
    fresh.when(fresh.open("another command")).then_denied("account")


def test_commands_on_an_account_nobody_opened_are_denied(fresh: Account) -> None:
    fresh.when(fresh.deposit("1")).then_denied("account")
    fresh.when(fresh.submit()).then_denied("account", "balance")
    fresh.when(fresh.cancel()).then_denied("account", "order")


def test_another_tenants_account_looks_as_if_it_did_not_exist(account: Account, fresh: Account) -> None:
    (breach,) = account.when(account.submit(tenant="other")).then_denied("account")
    assert "not open" in breach.detail
    assert account.history[-1][1].tenant_id == "main", "the denial belongs to the account's own tenant"


def test_deposit_is_booked_from_outside(account: Account) -> None:
    event = account.when(account.deposit("0.5", "ETH")).then(FundsDeposited)
    assert [(line.ledger, line.amount) for line in event.postings] == [
        ("EXTERNAL", Decimal("-0.5")),
        ("FREE", Decimal("0.5")),
    ]
    assert account.balance("ETH") == (Decimal("0.5"), 0)


def test_deposit_with_a_used_reference_is_booked_once(account: Account) -> None:
    account.when(account.deposit("10000", identity="a new command")).then(DuplicateIgnored)
    account.when(account.deposit("20000", identity="yet another")).then_denied("external_ref")
    assert account.balance("USDT") == (10000, 0)


def test_deposit_of_nothing_is_denied(account: Account) -> None:
    account.when(account.deposit("-1", ref="r2")).then_denied("format")


def test_deposits_never_add_up_to_more_than_a_store_holds(account: Account) -> None:
    largest = "1000000000000000000"
    for number in range(10):
        account.when(account.deposit(largest, "BIG", ref=f"r{number}")).then(FundsDeposited)
    account.when(account.deposit("1", "BIG", ref="one more")).then_denied("balance")
    account.when(account.deposit("1000000000000000001", "MORE", ref="too large")).then_denied("format")
    assert account.balance("BIG") == (Decimal("1e19"), 0)


def test_deposit_that_cannot_be_recorded_is_refused_with_every_flaw(account: Account) -> None:
    breaches = account.when(account.deposit("1", "A\0", ref="r" * 501)).then_denied("format", "format")
    assert all(len(breach.observed) <= 500 for breach in breaches)


def test_order_that_cannot_be_recorded_is_denied_and_recorded_cut(account: Account) -> None:
    order, meta = account.submit()
    wild = dataclasses.replace(order, quantity=Decimal("99999999999999999999"), rule="x" * 900_000, book_id="a\0b")
    account.when((wild, meta)).then_denied("format", "format", "format", "format")
    event: Any = account.decided[0]
    assert (event.quantity, len(event.rule), event.book_id) == (Decimal("1e18"), 500, "a\ufffdb")


def test_notional_finer_than_an_account_holds_is_denied_not_an_error(account: Account) -> None:
    account.with_instrument(
        tick_size=Decimal(0), step_size=Decimal(0), min_quantity=Decimal(0), min_notional=Decimal(0)
    )
    (breach,) = account.when(account.submit(quantity="0.0000000000000001", price="99.0000000001")).then_denied(
        "balance"
    )
    assert "18 decimal places" in breach.detail


def test_buy_reserves_its_cost_with_the_taker_fee(account: Account) -> None:
    event = account.when(account.submit(quantity="2", price="100")).then(OrderAuthorized)
    assert (event.reserved_asset, event.reserved_amount) == ("USDT", Decimal("200.2"))
    assert account.balance("USDT") == (Decimal("9799.8"), Decimal("200.2"))
    assert (event.reference_bid, event.reference_at) == (Decimal("99.99"), "market.reference.v1/0/1")
    assert event.order_id == account.submit()[1].event_id


def test_sell_reserves_its_quantity(account: Account) -> None:
    account.when(account.submit(quantity="2", side=Side.SELL)).then(OrderAuthorized)
    assert account.balance("BTC") == (3, 2)


def test_market_buy_goes_out_as_ioc_at_its_collar(account: Account) -> None:
    event = account.when(account.submit(price=None)).then(OrderAuthorized)
    assert (event.order_type, event.time_in_force) == (OrderType.MARKET, TimeInForce.IOC)
    assert event.limit_price == Decimal("102.00")
    assert event.reserved_amount == Decimal("102.102")


def test_market_sell_collar_is_rounded_up_to_the_tick(account: Account) -> None:
    event = account.when(account.submit(price=None, side=Side.SELL)).then(OrderAuthorized)
    assert event.limit_price == Decimal("98.00"), "99.99 less 2 % is 97.9902"


def test_repeated_order_is_a_duplicate_whatever_became_of_it(account: Account) -> None:
    account.given(account.submit())
    event = account.when(account.submit()).then(DuplicateIgnored)
    assert event.duplicate_of == account.submit()[1].event_id
    account.given(account.submit("denied", quantity="500"))
    account.when(account.submit("denied", quantity="500")).then(DuplicateIgnored)


def test_duplicate_after_its_id_was_forgotten_is_expired(account: Account) -> None:
    order = account.submit(quantity="500")
    account.given(order)
    forget(account)
    assert order[1].event_id not in account.state.command_ids
    account.when(order).then(OrderDenied)
    assert "validity" in {breach.control for breach in account.decided[0].breaches}


def test_duplicate_of_an_order_that_still_rests_is_never_a_denial(account: Account) -> None:
    order = account.submit()
    account.given(order)
    forget(account)
    account.when(order).then(DuplicateIgnored)


def forget(account: Account) -> None:
    """Let the time of the account pass the memory of command ids."""
    account.under(now_ns=account.context.now_ns + 661 * NS_PER_S)
    account.given(account.deposit("1", "DOGE"))


def test_cancel_of_open_order_is_authorised_before_and_after_the_acknowledgement(account: Account) -> None:
    account.given(account.submit())
    event = account.when(account.cancel()).then(CancelAuthorized)
    assert (event.status, event.cancel_id) == (OrderStatus.AUTHORIZED, account.cancel()[1].event_id)
    account.given(account.attempted(), account.acknowledged())
    event = account.when(account.cancel(identity="again")).then(CancelAuthorized)
    assert event.status is OrderStatus.ACCEPTED


def test_cancel_of_filled_order_is_denied(account: Account) -> None:
    account.given(account.submit(), account.fill("t1", "1"))
    (breach,) = account.when(account.cancel()).then_denied("order")
    assert breach.observed == "FILLED"


def test_cancel_of_unknown_order_is_denied(account: Account) -> None:
    account.when(account.cancel("never heard of")).then_denied("order")


def test_cancel_all_authorises_one_cancel_per_open_order_of_the_book(account: Account) -> None:
    account.given(
        account.submit("o1"), account.submit("o2", book_id="ema"), account.submit("o3"), account.fill("t", "1")
    )
    account.when(account.cancel_all("ema")).then(CancelAuthorized)
    account.when(account.cancel_all(identity="everything")).then(CancelAuthorized, CancelAuthorized)
    account.when(account.cancel_all(identity="everything")).then(DuplicateIgnored)


def test_cancel_all_with_nothing_open_says_so(account: Account) -> None:
    account.when(account.cancel_all()).then_denied("order")


def test_halted_account_takes_cancels_only(account: Account) -> None:
    account.given(account.submit(quantity="1"), account.fill("t1", "2"))  # executed more than commanded
    assert account.state.halted
    account.when(account.submit("o2")).then_denied("account")
    account.when(account.deposit("1", ref="r9")).then_denied("account")
    account.when(account.cancel()).then_denied("order")


def test_kill_switch_cancels_what_is_open_in_its_scope(account: Account) -> None:
    account.given(account.submit("o1"), account.submit("o2"))
    kill = KillSwitchSet(scope="tenant:main", active=True, cancel_open=True, reason="drill")
    cancels = decide_kill(account.state, kill, "k1")
    assert [event.order_id for event in cancels if isinstance(event, CancelAuthorized)] == list(account.state.orders)
    elsewhere = KillSwitchSet(scope="tenant:other", active=True, cancel_open=True, reason="drill")
    assert decide_kill(account.state, elsewhere, "k2") == ()
    keep = KillSwitchSet(scope="platform", active=True, cancel_open=False, reason="drill")
    assert decide_kill(account.state, keep, "k3") == ()


def test_report_about_an_unknown_order_is_ignored_with_its_reason(account: Account) -> None:
    event = account.when(account.acknowledged("whose?")).then(ReportIgnored)
    assert (event.order_id, event.report) == (derive_id("test", "whose?"), "SubmitAcknowledged")
