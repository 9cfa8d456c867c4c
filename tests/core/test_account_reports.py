"""What an account makes of the venue's reports, in the orders of arrival that surprise."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from skeet.core import reports
from skeet.core.accounts import (
    AccountHalted,
    BalanceDiffered,
    CancelRejected,
    DuplicateIgnored,
    OrderAbsent,
    OrderAccepted,
    OrderCanceled,
    OrderEndAwaitsFills,
    OrderExpired,
    OrderFilled,
    OrderOutcomeUnknown,
    OrderRejected,
    OrderSubmitted,
    ReportIgnored,
)
from skeet.core.errors import InvalidInput
from skeet.core.values import OrderStatus, Side

Account = Any  # the Scenario of conftest.py


def test_attempt_acknowledgement_and_fills_end_in_filled(account: Account) -> None:
    account.given(account.submit())
    account.when(account.attempted()).then(OrderSubmitted)
    account.when(account.acknowledged()).then(OrderAccepted)
    event = account.when(account.fill("t1", "0.4")).then(OrderFilled)
    assert (event.status, event.leaves_quantity) == (OrderStatus.PARTIALLY_FILLED, Decimal("0.6"))
    event = account.when(account.fill("t2", "0.6")).then(OrderFilled)
    assert (event.status, event.filled_quantity) == (OrderStatus.FILLED, 1)
    assert account.balance("USDT") == (Decimal("9899.8"), 0)
    assert account.balance("BTC") == (6, 0)
    assert not account.state.orders


def test_fill_below_the_limit_gives_the_rest_of_its_reservation_back(account: Account) -> None:
    account.given(account.submit(quantity="2"))
    account.when(account.fill("t1", "1", price="90")).then(OrderFilled)
    assert account.balance("USDT") == (Decimal(10000) - Decimal("90.1") - Decimal("100.1"), Decimal("100.1"))


def test_sell_fill_frees_its_proceeds_less_the_fee(account: Account) -> None:
    account.given(account.submit(side=Side.SELL))
    account.when(account.fill("t1", "1", side=Side.SELL)).then(OrderFilled)
    assert account.balance("USDT") == (Decimal("10099.9"), 0)
    assert account.balance("BTC") == (4, 0)


def test_fee_in_base_is_taken_from_what_was_bought(account: Account) -> None:
    account.given(account.submit())
    account.when(account.fill("t1", "1", fee=Decimal("0.001"), fee_asset="BTC")).then(OrderFilled)
    assert account.balance("BTC") == (Decimal("5.999"), 0)
    assert account.balance("USDT") == (9900, 0)


def test_fee_in_an_asset_the_books_do_not_hold_is_paid_from_outside(account: Account) -> None:
    account.given(account.submit())
    event = account.when(account.fill("t1", "1", fee=Decimal("0.01"), fee_asset="BNB")).then(OrderFilled)
    assert ("EXTERNAL", "BNB", Decimal("-0.01")) in [(p.ledger, p.asset, p.amount) for p in event.postings]
    assert "BNB" not in account.state.balances


def test_fill_before_the_acknowledgement_is_booked_and_the_late_acknowledgement_recorded(account: Account) -> None:
    account.given(account.submit(), account.attempted())
    account.when(account.fill("t1", "0.4")).then(OrderFilled)
    event = account.when(account.acknowledged()).then(OrderAccepted)
    assert event.status is OrderStatus.PARTIALLY_FILLED
    account.given(account.fill("t2", "0.6"))
    assert account.when(account.acknowledged()).then(OrderAccepted).status is OrderStatus.FILLED


def test_fill_reported_twice_is_booked_once_even_after_the_end(account: Account) -> None:
    account.given(account.submit())
    fill = account.fill("t1", "1")
    account.given(fill)
    assert account.when(fill).then(DuplicateIgnored).duplicate_of == "t1"
    assert account.balance("BTC") == (6, 0)


def test_one_trade_id_on_both_of_ones_own_orders_is_two_fills(account: Account) -> None:
    account.given(account.submit("o1"), account.submit("o2", side=Side.SELL))
    account.when(account.fill("t1", "1", name="o1")).then(OrderFilled)
    account.when(account.fill("t1", "1", name="o2", side=Side.SELL)).then(OrderFilled)


def test_rejection_and_a_request_never_sent_release_the_reservation(account: Account) -> None:
    account.given(account.submit("o1"), account.submit("o2"), account.attempted("o2"))
    account.when(account.report(reports.SubmitNotSent, "o1", reason="expired")).then(OrderRejected)
    event = account.when(account.report(reports.SubmitRejected, "o2", code="-2010", reason="no")).then(OrderRejected)
    assert (event.code, account.balance("USDT")) == ("-2010", (10000, 0))


def test_unknown_outcome_keeps_the_reservation_until_evidence_arrives(account: Account) -> None:
    account.given(account.submit(), account.attempted())
    account.when(account.report(reports.SubmitOutcomeUnknown, reason="504")).then(OrderOutcomeUnknown)
    assert account.balance("USDT")[1] == Decimal("100.1")
    account.when(account.report(reports.SubmitOutcomeUnknown, reason="again")).then(ReportIgnored)
    account.when(account.report(reports.OrderFoundAbsent, evidence="asked thrice")).then(OrderAbsent)
    assert account.balance("USDT") == (10000, 0)


def test_unknown_outcome_found_at_the_venue_goes_on(account: Account) -> None:
    account.given(account.submit(), account.attempted(), account.report(reports.SubmitOutcomeUnknown, reason="504"))
    account.when(account.acknowledged()).then(OrderAccepted)
    account.when(account.fill("t1", "1")).then(OrderFilled)


def test_unknown_outcome_after_a_fill_says_nothing_new(account: Account) -> None:
    account.given(account.submit(), account.attempted(), account.fill("t1", "0.5"))
    account.when(account.report(reports.SubmitOutcomeUnknown, reason="504")).then(ReportIgnored)
    assert account.state.order(account.submit()[1].event_id).status is OrderStatus.PARTIALLY_FILLED


def test_cancel_with_all_fills_booked_releases_the_rest(account: Account) -> None:
    account.given(account.submit(), account.acknowledged(), account.fill("t1", "0.4"))
    event = account.when(account.canceled("0.4")).then(OrderCanceled)
    assert (event.filled_quantity, account.balance("USDT")) == (Decimal("0.4"), (Decimal("9959.9"), 0))


def test_cancel_that_counts_more_fills_waits_for_them(account: Account) -> None:
    account.given(account.submit(), account.acknowledged(), account.fill("t1", "0.2"))
    event = account.when(account.canceled("0.6")).then(OrderEndAwaitsFills)
    assert (event.status, event.outcome) == (OrderStatus.PARTIALLY_FILLED, OrderStatus.CANCELED)
    account.when(account.canceled("0.6")).then(ReportIgnored)
    account.when(account.fill("t2", "0.3")).then(OrderFilled)
    assert account.balance("USDT")[1] > 0
    event = account.when(account.fill("t3", "0.1")).then(OrderFilled, OrderCanceled)
    assert event.filled_quantity == Decimal("0.6")
    assert account.balance("USDT") == (Decimal(10000) - 60 - Decimal("0.3"), 0)
    assert not account.state.orders


def test_expiry_of_the_rest_of_an_ioc_waits_for_its_fills_too(account: Account) -> None:
    account.given(account.submit(price=None), account.expired("0.5"))
    assert account.when(account.fill("t1", "0.5")).then(OrderFilled, OrderExpired).reason == "IOC"


def test_complete_fill_while_a_cancel_waits_is_filled(account: Account) -> None:
    account.given(account.submit(), account.canceled("1"))
    assert account.when(account.fill("t1", "1")).then(OrderFilled).status is OrderStatus.FILLED


def test_cancel_that_forgets_booked_fills_does_not_unbook_them(account: Account) -> None:
    account.given(account.submit(), account.fill("t1", "0.4"))
    assert account.when(account.canceled("0")).then(OrderCanceled).filled_quantity == Decimal("0.4")


def test_fill_after_the_cancel_is_booked(account: Account) -> None:
    account.given(account.submit(), account.canceled())
    assert account.when(account.fill("t1", "0.4")).then(OrderFilled).status is OrderStatus.CANCELED
    assert account.when(account.fill("t2", "0.6")).then(OrderFilled).status is OrderStatus.FILLED
    assert account.balance("BTC") == (6, 0)


def test_cancel_refused_because_the_order_filled_is_recorded(account: Account) -> None:
    account.given(account.submit(), account.cancel(), account.fill("t1", "1"))
    refusal = account.report(reports.CancelRejectedByVenue, cancel_id="c", code="-2011", reason="Unknown order sent.")
    assert account.when(refusal).then(CancelRejected).status is OrderStatus.FILLED


def test_gateways_note_of_a_cancel_changes_nothing(account: Account) -> None:
    account.given(account.submit())
    account.when(account.report(reports.CancelAttempted, cancel_id="c", sent_ts=1, send_until=2)).then()


def test_order_that_was_absent_and_lives_halts_the_account(account: Account) -> None:
    account.given(account.submit(), account.report(reports.OrderFoundAbsent, evidence="asked"))
    account.when(account.acknowledged()).then(OrderAccepted, AccountHalted)
    account.when(account.fill("t1", "1")).then(OrderFilled)
    assert account.balance("USDT")[0] == Decimal("9899.9")


def test_execution_beyond_the_command_is_booked_and_halts(account: Account) -> None:
    account.given(account.submit())
    account.when(account.fill("t1", "150")).then(OrderFilled, AccountHalted)
    assert account.balance("USDT") == (0, 0), "free stays at zero; the rest came from outside the books"


def test_fill_that_contradicts_its_order_is_no_fill(account: Account) -> None:
    account.given(account.submit())
    with pytest.raises(InvalidInput, match="its order is BUY"):
        account.when(account.fill("t1", "1", side=Side.SELL))
    with pytest.raises(InvalidInput, match="expected > 0"):
        account.when(account.fill("t1", "0"))


def test_equal_balance_says_nothing_and_a_difference_is_shown_once(account: Account) -> None:
    account.when(account.venue_balance("10000")).then()
    event = account.when(account.venue_balance("9000")).then(BalanceDiffered)
    assert (event.ledger_total, event.venue_total) == (10000, 9000)
    account.when(account.venue_balance("9000")).then()
    account.when(account.venue_balance("8000")).then(BalanceDiffered)


def test_balance_is_not_compared_while_an_order_is_open_or_older_than_the_last_movement(account: Account) -> None:
    account.when(account.venue_balance("1", ts_event=account.context.now_ns)).then()
    account.given(account.submit())
    account.when(account.venue_balance("1")).then()
