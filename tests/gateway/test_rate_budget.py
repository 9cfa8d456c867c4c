"""The rate budget: orders stop at its reserve, cancels do not."""

from __future__ import annotations

from skeet.agents.rate_budget import HOLD_OFF_NS, PERIOD_NS, RateBudget


def spend(budget: RateBudget, now_ns: int = 0) -> int:
    taken = 0
    while budget.take_order(now_ns) == 0:
        taken += 1
    return taken


def test_orders_leave_a_fifth_for_cancels() -> None:
    budget = RateBudget(50, 0)
    assert spend(budget) == 40
    assert [budget.take_cancel(0) for _ in range(10)] == [0] * 10
    assert budget.take_cancel(0) > 0


def test_the_wait_that_is_named_is_enough_and_refills_evenly() -> None:
    budget = RateBudget(50, 0)
    spend(budget)
    wait_ns = budget.take_order(0)
    assert 0 < wait_ns <= PERIOD_NS // 50 + 1
    assert budget.take_order(wait_ns) == 0
    assert spend(budget, wait_ns + PERIOD_NS // 2) == 25


def test_too_many_requests_stops_orders_but_not_cancels() -> None:
    budget = RateBudget(50, 0)
    budget.hold_off(0)
    assert budget.take_order(1) == HOLD_OFF_NS - 1 and budget.take_cancel(1) == 0
    assert budget.take_order(HOLD_OFF_NS) == 0
