"""The gateway on a real broker and the simulated exchange; the test plays the desk."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest

from skeet.agents.kill_latch import LatchEntry, latch_path, release_latch, set_latch
from skeet.core.reports import (
    BalanceReported,
    CancelReported,
    ExpiryReported,
    FillReported,
    SubmitAcknowledged,
    SubmitNotSent,
    SubmitOutcomeUnknown,
    SubmitRejected,
)
from skeet.core.values import LiquiditySide, TimeInForce
from skeet.streams.reading import records_until_end
from skeet.streams.topics import REPORTS
from skeet.venues.execution.keys import write_key
from skeet.venues.sim.behaviour import Faults
from skeet.venues.sim.orders import UniqueAmong
from tests.gateway.conftest import GatewayThread, trade_against

pytestmark = pytest.mark.integration


def test_authorised_order_is_attempted_acknowledged_and_filled(sim: Any, desk: Any, gateway: GatewayThread) -> None:
    _, ask = sim.best()
    desk.authorise("take", ask + 100, time_in_force=TimeInForce.IOC)
    fill = desk.wait_for("take", FillReported)
    ack = desk.wait_for("take", SubmitAcknowledged)
    assert desk.kinds("take")[0] == "SubmitAttempted"
    assert fill.quantity > 0 and fill.price <= ask + 100
    assert (fill.fee_asset, fill.liquidity) == ("USDT", LiquiditySide.TAKER)
    assert 0 < ack.written_ns < ack.answered_ns
    assert [order["clientOrderId"] for order in sim.orders("alpha")] == [desk.order_id("take")]
    desk.wait(lambda: any(isinstance(r.event, BalanceReported) for r in _all(desk)), "balance")


def _all(desk: Any) -> list[Any]:
    return list(records_until_end(desk.settings, desk.codec, [REPORTS]))


def test_resting_order_is_canceled_once_asked(sim: Any, desk: Any, gateway: GatewayThread) -> None:
    bid, _ = sim.best()
    desk.authorise("rest", bid - 100, post_only=True)
    desk.wait_for("rest", SubmitAcknowledged)
    desk.cancel("rest")
    assert desk.wait_for("rest", CancelReported).filled_quantity == 0
    assert desk.kinds("rest") == ["SubmitAttempted", "SubmitAcknowledged", "CancelAttempted", "CancelReported"]


def test_cancel_in_the_same_poll_keeps_the_order_from_being_sent(sim: Any, desk: Any, gateway: GatewayThread) -> None:
    bid, _ = sim.best()
    desk.authorise("never", bid - 100, then_cancel=True)
    reason = desk.wait_for("never", SubmitNotSent).reason
    assert reason == "canceled before it was sent"
    assert sim.orders("alpha") == []


def test_rest_of_an_ioc_is_reported_as_expired_with_what_was_executed(
    sim: Any, desk: Any, gateway: GatewayThread
) -> None:
    bid, _ = sim.best()
    desk.authorise("miss", bid - 100, time_in_force=TimeInForce.IOC)
    assert desk.wait_for("miss", ExpiryReported).filled_quantity == 0


def test_venue_refusal_and_expired_order_are_told_apart(sim: Any, desk: Any, gateway: GatewayThread) -> None:
    bid, ask = sim.best()
    desk.authorise("too-much", bid, quantity=Decimal(100))
    assert "insufficient balance" in desk.wait_for("too-much", SubmitRejected).reason
    desk.authorise("late", bid - 100, valid_until=time.time_ns() - 1)
    assert desk.wait_for("late", SubmitNotSent).reason == "expired before it was sent"
    desk.authorise("post-only-taker", ask + 10, post_only=True)
    assert "immediately match" in desk.wait_for("post-only-taker", SubmitRejected).reason


def test_order_whose_answer_was_dropped_is_resolved_and_not_repeated(
    sim: Any, desk: Any, gateway: GatewayThread
) -> None:
    sim.behaviour.faults = Faults(duplicate_client_ids=UniqueAmong.NONE, drop_next=1)
    bid, ask = sim.best()
    desk.authorise("lost", ask + 100, time_in_force=TimeInForce.IOC)
    desk.wait_for("lost", FillReported)
    ack = desk.wait_for("lost", SubmitAcknowledged)
    assert (ack.written_ns, ack.answered_ns) == (0, 0)
    assert desk.wait_for("lost", SubmitOutcomeUnknown)
    assert len(sim.orders("alpha")) == 1
    desk.authorise("next", bid - 100)
    desk.wait_for("next", SubmitAcknowledged)


def test_kill_latch_stops_orders_until_it_is_released(sim: Any, desk: Any, gateway: GatewayThread) -> None:
    bid, _ = sim.best()
    path = latch_path(desk.settings)
    set_latch(path, LatchEntry(scope="account:alpha", reason="drill", cancel_open=False, set_ns=1))
    desk.authorise("blocked", bid - 100)
    assert "drill" in desk.wait_for("blocked", SubmitNotSent).reason
    assert release_latch(path, "account:alpha")
    desk.authorise("free", bid - 100)
    desk.wait_for("free", SubmitAcknowledged)


def test_kill_latch_cancels_open_orders_when_it_says_so(sim: Any, desk: Any, gateway: GatewayThread) -> None:
    bid, _ = sim.best()
    desk.authorise("open", bid - 100)
    desk.wait_for("open", SubmitAcknowledged)
    set_latch(latch_path(desk.settings), LatchEntry(scope="tenant:main", reason="drill", cancel_open=True, set_ns=1))
    desk.wait_for("open", CancelReported)
    assert [order["status"] for order in sim.orders("alpha")] == ["CANCELED"]


def test_restarted_exchange_is_asked_again_and_orders_go_on(sim: Any, desk: Any, gateway: GatewayThread) -> None:
    bid, _ = sim.best()
    desk.authorise("before", bid - 100)
    desk.wait_for("before", SubmitAcknowledged)
    sim.stop()
    sim.start()
    desk.authorise("after", bid - 100)
    desk.wait_for("after", SubmitAcknowledged)
    desk.cancel("before")
    desk.wait_for("before", CancelReported)


def test_fills_while_the_gateway_was_away_are_found_at_its_start(sim: Any, desk: Any) -> None:
    first = GatewayThread(desk.settings, desk.codec)
    bid, _ = sim.best()
    desk.authorise("away", bid)
    desk.wait_for("away", SubmitAcknowledged)
    first.close()
    write_key(desk.settings, "beta", sim.account("beta", BTC="500"))
    trade_against(desk.settings, "beta", bid, "500")  # everything that rests at this price, ours too
    assert [order["status"] for order in sim.orders("alpha")] == ["FILLED"]
    second = GatewayThread(desk.settings, desk.codec)
    try:
        desk.wait_for("away", FillReported)
        fills = [r.event for r in desk.reports("away") if isinstance(r.event, FillReported)]
        assert sum((fill.quantity for fill in fills), Decimal(0)) == Decimal("0.01")
        assert {fill.liquidity for fill in fills} == {LiquiditySide.MAKER}
    finally:
        second.close()
