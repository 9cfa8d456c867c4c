"""Every pre-trade control, alone and together."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from skeet.core.accounts import OrderAuthorized
from skeet.core.control import KillSwitchSet, LimitsSet, SessionMark
from skeet.core.controls import Control, apply_control
from skeet.core.market import ReferenceStatus
from skeet.core.record import Event
from skeet.core.reports import SubmitOutcomeUnknown
from skeet.core.values import NS_PER_S, OrderType, Side, TimeInForce

Account = Any  # the Scenario of conftest.py


def control(*events: Event) -> Control:
    found = Control()
    for offset, event in enumerate(events):
        found = apply_control(found, event, offset)
    return found


def limits(scope: str, quantity: str | None = None, notional: str | None = None, version: int = 1) -> LimitsSet:
    return LimitsSet(
        scope=scope,
        version=version,
        max_quantity=Decimal(quantity) if quantity else None,
        max_notional=Decimal(notional) if notional else None,
    )


def kill(scope: str, active: bool = True) -> KillSwitchSet:
    return KillSwitchSet(scope=scope, active=active, cancel_open=False, reason="drill")


@pytest.mark.parametrize("scope", ["platform", "tenant:main", "account:alice"])
def test_kill_switch_of_every_scope_denies_until_it_is_off(account: Account, scope: str) -> None:
    account.under(control=control(kill(scope)))
    account.when(account.submit()).then_denied("kill_switch")
    account.under(control=control(kill(scope), kill(scope, active=False)))
    account.when(account.submit("o2")).then(OrderAuthorized)


def test_kill_switch_of_others_does_not_concern_the_account(account: Account) -> None:
    account.under(control=control(kill("account:bob"), kill("tenant:other"), SessionMark(label="x")))
    account.when(account.submit()).then(OrderAuthorized)


def test_expired_command_is_denied(account: Account) -> None:
    account.when(account.submit(valid_until=account.context.now_ns - 1)).then_denied("validity")


def test_command_caused_in_the_future_is_denied(account: Account) -> None:
    ahead = account.context.now_ns + NS_PER_S
    account.when(account.submit(ts_cause=ahead, valid_until=ahead)).then_denied("validity")


def test_command_valid_for_more_than_ten_minutes_is_denied(account: Account) -> None:
    account.when(account.submit(valid_until=account.context.now_ns + 601 * NS_PER_S)).then_denied("validity")


def test_unknown_instrument_is_denied(account: Account) -> None:
    account.under(instrument=None)
    account.when(account.submit()).then_denied("instrument")


def test_suspended_instrument_is_denied(account: Account) -> None:
    account.with_instrument(active=False)
    account.when(account.submit()).then_denied("instrument")


def test_instrument_of_another_venue_is_denied(account: Account) -> None:
    account.when(account.submit(instrument_id="BINANCE:BTC/USDT")).then_denied("instrument")


@pytest.mark.parametrize(
    "fields",
    [
        {"side": Side.UNKNOWN},
        {"time_in_force": TimeInForce.UNKNOWN},
        {"quantity": Decimal(0)},
        {"quantity": Decimal(-1)},
        {"quantity": Decimal("NaN")},
        {"quantity": Decimal("Infinity")},
        {"limit_price": Decimal(0)},
        {"limit_price": None},
        {"post_only": True, "time_in_force": TimeInForce.IOC},
        {"order_type": OrderType.MARKET},
    ],
)
def test_malformed_order_is_denied(account: Account, fields: dict[str, Any]) -> None:
    account.when(account.submit(**fields))
    assert "format" in {breach.control for breach in account.decided[0].breaches}


def test_order_without_reference_price_is_denied(account: Account) -> None:
    account.under(reference=None)
    account.when(account.submit()).then_denied("reference")
    account.when(account.submit("o2", price=None)).then_denied("reference")


@pytest.mark.parametrize("status", [status for status in ReferenceStatus if status is not ReferenceStatus.LIVE])
def test_order_on_a_reference_that_is_not_live_is_denied(account: Account, status: ReferenceStatus) -> None:
    account.with_reference(status=status)
    account.when(account.submit()).then_denied("reference")


def test_order_on_an_old_reference_is_denied(account: Account) -> None:
    account.under(now_ns=account.context.now_ns + 5 * NS_PER_S)
    account.when(account.submit()).then(OrderAuthorized)
    account.under(now_ns=account.context.now_ns + 1)
    account.when(account.submit("o2")).then_denied("reference")


@pytest.mark.parametrize(("bid", "ask"), [(10001, 10000), (10000, 10000), (0, 10000), (9999, 0)])
def test_order_on_a_crossed_or_empty_book_is_denied(account: Account, bid: int, ask: int) -> None:
    account.with_reference(bid_mantissa=bid, ask_mantissa=ask)
    account.when(account.submit(price="99"))
    assert "reference" in {breach.control for breach in account.decided[0].breaches}


@pytest.mark.parametrize(
    ("quantity", "price"),
    [("1.000001", "100"), ("1", "99.999"), ("0.000001", "100"), ("0.04", "100"), ("9000.00001", "100")],
)
def test_venue_filter_denies_before_anything_is_reserved(account: Account, quantity: str, price: str) -> None:
    account.when(account.submit(quantity=quantity, price=price))
    assert "filter" in {breach.control for breach in account.decided[0].breaches}
    assert account.balance("USDT") == (10000, 0)


def test_limit_far_through_the_market_is_denied_but_a_passive_one_may_rest(account: Account) -> None:
    account.when(account.submit(price="102.01")).then_denied("price_collar")
    account.when(account.submit("o2", price="97.99", side=Side.SELL)).then_denied("price_collar")
    account.when(account.submit("o3", price="50")).then(OrderAuthorized)
    account.when(account.submit("o4", price="500", side=Side.SELL)).then(OrderAuthorized)


def test_tightest_limit_of_all_scopes_wins_over_the_default(account: Account) -> None:
    account.under(
        control=control(
            limits("platform", "50", version=4), limits("tenant:main", "10", version=9), limits("account:alice", "20")
        )
    )
    (breach,) = account.when(account.submit(quantity="11")).then_denied("max_quantity")
    assert (breach.observed, breach.allowed) == ("11", "10")
    assert account.decided[0].limits_version == 9


def test_limit_of_its_own_replaces_the_default(account: Account) -> None:
    account.given(account.deposit("900000", ref="more"))
    account.under(control=control(limits("account:alice", "5000", "2000000")))
    account.when(account.submit(quantity="2000", price="99")).then(OrderAuthorized)


def test_notional_of_a_sell_counts_at_the_market_when_that_is_higher(account: Account) -> None:
    account.under(control=control(limits("platform", notional="99.98")))
    account.when(account.submit(price="98.5", side=Side.SELL)).then_denied("max_notional")
    account.when(account.submit("o2", price="98.5")).then(OrderAuthorized)


def test_order_while_another_of_its_book_has_no_known_outcome_is_denied(account: Account) -> None:
    account.when(account.submit("lost")).then(OrderAuthorized)
    account.when(account.attempted("lost"))
    account.when(account.report(SubmitOutcomeUnknown, "lost", reason="504"))
    account.when(account.submit("again")).then_denied("unresolved")
    account.when(account.submit("other", book_id="another")).then(OrderAuthorized)
    account.when(account.acknowledged("lost"))
    account.when(account.submit("later")).then(OrderAuthorized)


def test_order_beyond_the_free_balance_is_denied(account: Account) -> None:
    (breach,) = account.when(account.submit(quantity="100")).then_denied("balance")
    assert (breach.observed, breach.allowed) == ("10010", "10000")
    account.when(account.submit("o2", quantity="5.00001", side=Side.SELL)).then_denied("balance")


def test_every_breach_is_listed_in_the_order_of_the_controls(account: Account) -> None:
    account.under(control=control(kill("platform"), limits("platform", "1", "50")))
    account.with_reference(status=ReferenceStatus.STALE)
    account.when(account.submit(quantity="200.000001", valid_until=0)).then_denied(
        "kill_switch", "validity", "reference", "filter", "max_quantity", "max_notional", "balance"
    )
