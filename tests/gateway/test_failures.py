"""What went wrong on other platforms, by its number, on the simulated exchange. Each test asserts that the fault happened.

The numbers are those of the list of failures that SKEET was designed against; those of market data (F18 to F20) are in
``tests/roles/test_feed_failures.py``.
"""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest

from skeet.config import GatewaySettings
from skeet.core.reports import (
    CancelReported,
    ExternalOrderSeen,
    FillReported,
    OrderFoundAbsent,
    SubmitAcknowledged,
    SubmitNotSent,
    SubmitOutcomeUnknown,
)
from skeet.core.values import TimeInForce
from skeet.streams.reading import records_until_end
from skeet.streams.topics import REPORTS
from skeet.venues.execution.keys import write_key
from skeet.venues.sim.behaviour import Faults
from skeet.venues.sim.orders import UniqueAmong
from tests.gateway.conftest import GatewayThread, trade_against

pytestmark = pytest.mark.integration

UNIQUE_NOWHERE = UniqueAmong.NONE
"""A second send under the same client order id would be a second order, and seen."""


def order_rows(sim: Any) -> list[dict[str, Any]]:
    return list(sim.orders("alpha"))


def test_f01_order_that_timed_out_is_not_sent_again(sim: Any, desk: Any, gateway: GatewayThread) -> None:
    sim.behaviour.faults = Faults(duplicate_client_ids=UNIQUE_NOWHERE, drop_next=1)
    _, ask = sim.best()
    desk.authorise("lost", ask + 100, time_in_force=TimeInForce.IOC)
    desk.wait_for("lost", SubmitOutcomeUnknown)
    desk.wait_for("lost", FillReported)
    assert sim.behaviour.happened["drop"] == 1
    assert desk.kinds("lost").count("SubmitAttempted") == 1
    assert len(order_rows(sim)) == 1


def test_f02_order_that_appears_after_the_timeout_already_closed_is_found(
    sim: Any, desk: Any, gateway: GatewayThread
) -> None:
    """The user stream is silent and questions do not show the order for a while: not found is not absent."""
    sim.behaviour.faults = Faults(duplicate_client_ids=UNIQUE_NOWHERE, drop_next=1, hide_ms=2_000, frozen=True)
    _, ask = sim.best()
    desk.authorise("hidden", ask + 100, time_in_force=TimeInForce.IOC)
    fill = desk.wait_for("hidden", FillReported)
    assert fill.quantity == Decimal("0.01")
    assert sim.behaviour.happened["hide"] >= 2
    assert "OrderFoundAbsent" not in desk.kinds("hidden")
    assert len(order_rows(sim)) == 1


def test_f02_order_that_never_arrived_is_absent_only_after_its_request_expired(
    sim: Any, desk: Any, gateway: GatewayThread
) -> None:
    """Hidden for ever is, for whoever asks, the same as never arrived."""
    sim.behaviour.faults = Faults(drop_next=1, hide_ms=60_000, frozen=True)
    bid, _ = sim.best()
    desk.authorise("gone", bid - 100)
    attempt = desk.wait(
        lambda: [r for r in desk.reports("gone") if r.event.__class__.__name__ == "SubmitAttempted"], "attempt"
    )
    desk.wait_for("gone", OrderFoundAbsent)
    assert time.time_ns() > attempt[0].event.send_until
    assert sim.behaviour.happened["hide"] >= 3


def test_f03_a_504_is_an_unknown_outcome_not_a_rejection(sim: Any, desk: Any, gateway: GatewayThread) -> None:
    sim.behaviour.faults = Faults(duplicate_client_ids=UNIQUE_NOWHERE, unavailable_next=1)
    bid, _ = sim.best()
    desk.authorise("odd", bid - 100)
    desk.wait_for("odd", SubmitOutcomeUnknown)
    desk.wait_for("odd", SubmitAcknowledged)
    assert sim.behaviour.happened["unavailable"] == 1
    assert "SubmitRejected" not in desk.kinds("odd")
    assert len(order_rows(sim)) == 1


def test_f04_an_outage_ends_no_order_that_the_venue_accepted(sim: Any, desk: Any, gateway: GatewayThread) -> None:
    bid, _ = sim.best()
    desk.authorise("resting", bid - 100)
    desk.wait_for("resting", SubmitAcknowledged)
    sim.stop()
    desk.cancel("resting")
    desk.authorise("meanwhile", bid - 100)
    desk.wait_for("meanwhile", SubmitNotSent)  # provably: nobody listened at the venue's address
    assert desk.kinds("resting")[-1] in ("SubmitAcknowledged", "CancelAttempted")
    sim.start()
    desk.wait_for("resting", CancelReported)
    assert [row["status"] for row in order_rows(sim)] == ["CANCELED"]


def test_f05_fills_of_an_order_in_a_flapping_network_are_all_found(sim: Any, desk: Any, gateway: GatewayThread) -> None:
    bid, _ = sim.best()
    desk.authorise("flap", bid)
    desk.wait_for("flap", SubmitAcknowledged)
    write_key(desk.settings, "beta", sim.account("beta", BTC="500"))
    sim.behaviour.faults = Faults(frozen=True)
    trade_against(desk.settings, "beta", bid, "500")
    assert sim.behaviour.happened["freeze"] > 0  # the fill was said to nobody
    for _ in range(3):
        sim.stop()
        sim.start()
    fills = desk.wait(lambda: [r for r in desk.reports("flap") if isinstance(r.event, FillReported)], "fill", 45)
    assert sum(r.event.quantity for r in fills) == Decimal("0.01")


@pytest.mark.parametrize(("policy", "status"), [("leave", "NEW"), ("cancel", "CANCELED")])
def test_f05_an_order_that_nobody_here_commanded_is_an_event(
    sim: Any, desk: Any, ccxt_loaded: None, policy: str, status: str
) -> None:
    settings = desk.settings.model_copy(update={"gateway": GatewaySettings(external_orders=policy)})
    running = GatewayThread(settings, desk.codec)
    bid, _ = sim.best()
    place_elsewhere(desk.settings, bid - 200)
    seen = desk.wait(lambda: external_orders(desk), "external order")
    desk.wait(lambda: [row["status"] for row in order_rows(sim)] == [status], f"an order that is {status}")
    running.close()
    again = GatewayThread(settings, desk.codec)
    again.close()
    assert [event.reason for event in external_orders(desk)] == [seen[0].reason]
    assert seen[0].client_order_id == "elsewhere"


def external_orders(desk: Any) -> list[ExternalOrderSeen]:
    found = records_until_end(desk.settings, desk.codec, [REPORTS])
    return [r.event for r in found if isinstance(r.event, ExternalOrderSeen)]


def place_elsewhere(settings: Any, price: Decimal) -> None:
    """An order under our key, by a client that is not SKEET."""
    import ccxt

    from skeet.venues.execution.keys import read_key
    from skeet.venues.sim.ccxt_settings import ccxt_settings

    key = read_key(settings, "alpha")
    url = settings.sim.url
    client = ccxt.binance(
        {**ccxt_settings(url, url.replace("http", "ws", 1)), "apiKey": key.api_key, "secret": key.secret}
    )
    client.create_order("BTC/USDT", "limit", "buy", 0.01, float(price), {"clientOrderId": "elsewhere"})


def test_f09_a_fill_before_the_answer_is_kept(sim: Any, desk: Any, gateway: GatewayThread) -> None:
    sim.behaviour.faults = Faults(answer_delay_ms=1_000)
    _, ask = sim.best()
    desk.authorise("quick", ask + 100, time_in_force=TimeInForce.IOC)
    ack = desk.wait_for("quick", SubmitAcknowledged)
    assert sim.behaviour.happened["delay"] == 1
    assert ack.answered_ns - ack.written_ns > 900_000_000
    kinds = desk.kinds("quick")
    assert kinds.index("FillReported") < kinds.index("SubmitAcknowledged")


def test_f10_a_fill_said_twice_is_reported_once_also_after_a_restart(sim: Any, desk: Any, ccxt_loaded: None) -> None:
    sim.behaviour.faults = Faults(repeat_next=100)
    first = GatewayThread(desk.settings, desk.codec)
    _, ask = sim.best()
    desk.authorise("twice", ask + 100, time_in_force=TimeInForce.IOC)
    desk.wait_for("twice", FillReported)
    first.close()
    second = GatewayThread(desk.settings, desk.codec)
    desk.authorise("after", ask + 100, time_in_force=TimeInForce.IOC)
    desk.wait_for("after", FillReported)
    second.close()
    assert sim.behaviour.happened["repeat"] > 1
    fills = [r.event.trade_id for r in desk.reports() if isinstance(r.event, FillReported)]
    assert len(fills) == len(set(fills)) == len(sim.call("state")["accounts"]["alpha"]["fills"])


def test_f17_a_cancel_before_the_answer_waits_for_it(sim: Any, desk: Any, gateway: GatewayThread) -> None:
    sim.behaviour.faults = Faults(answer_delay_ms=1_500)
    bid, _ = sim.best()
    desk.authorise("early", bid - 100)
    desk.wait(lambda: order_rows(sim), "order at the venue")
    desk.cancel("early")
    desk.wait_for("early", CancelReported)
    assert sim.behaviour.happened["delay"] == 1
    assert [row["status"] for row in order_rows(sim)] == ["CANCELED"]
    kinds = desk.kinds("early")
    assert kinds.index("CancelAttempted") < kinds.index("SubmitAcknowledged") < kinds.index("CancelReported")


def test_f25_too_many_requests_stops_orders_and_not_cancels(sim: Any, desk: Any, gateway: GatewayThread) -> None:
    bid, _ = sim.best()
    desk.authorise("open", bid - 100)
    desk.wait_for("open", SubmitAcknowledged)
    sim.behaviour.faults = Faults(limit_next=1)
    desk.authorise("refused", bid - 100)
    desk.wait(lambda: "SubmitRejected" in desk.kinds("refused"), "refusal")
    assert sim.behaviour.happened["limit"] == 1
    desk.cancel("open")
    desk.wait_for("open", CancelReported)


def test_f29_orders_of_one_millisecond_have_ids_of_their_own(sim: Any, desk: Any, gateway: GatewayThread) -> None:
    """Four orders of one poll, attempted in the same millisecond: ids come from commands, never from clocks."""
    bid, _ = sim.best()
    names = [f"same-{n}" for n in range(4)]
    desk.authorise_all(names, bid - 100)
    for name in names:
        desk.wait_for(name, SubmitAcknowledged)
    attempts = [
        r.event for name in names for r in desk.reports(name) if r.event.__class__.__name__ == "SubmitAttempted"
    ]
    assert len({attempt.sent_ts // 1_000_000 for attempt in attempts}) < len(names)
    assert {row["clientOrderId"] for row in order_rows(sim)} == {desk.order_id(name) for name in names}
