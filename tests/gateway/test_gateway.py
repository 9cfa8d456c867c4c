"""The gateway on a real broker and the simulated exchange; the test plays the desk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from skeet.agents.gateway import Gateway
from skeet.agents.gateway_log import GatewayLog
from skeet.config import Settings
from skeet.core.reports import FillReported, SubmitAcknowledged
from skeet.core.values import TimeInForce
from skeet.schemas.codec import Codec
from skeet.venues.execution.accounts import accounts_with_keys, venue_of

pytestmark = pytest.mark.integration


class GatewayThread:
    """A gateway in an event loop of its own."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings, self._codec = settings, codec
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.gateway: Gateway = asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result(60)

    async def _begin(self) -> Gateway:
        log = GatewayLog(self._settings, self._codec)
        gateway = Gateway(self._settings, log, lambda account, guard: venue_of(self._settings, account, guard))
        await gateway.start(accounts_with_keys(self._settings))
        await asyncio.wait_for(gateway.recovered.wait(), 30)
        return gateway

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.gateway.close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)


@pytest.fixture
def gateway(desk: Any) -> Iterator[GatewayThread]:
    running = GatewayThread(desk.settings, desk.codec)
    yield running
    running.close()


def test_authorised_order_is_attempted_acknowledged_and_filled(sim: Any, desk: Any, gateway: GatewayThread) -> None:
    _, ask = sim.best()
    desk.authorise("take", ask + 100, time_in_force=TimeInForce.IOC)
    fill = desk.wait_for("take", FillReported)
    ack = desk.wait_for("take", SubmitAcknowledged)
    assert desk.kinds("take")[0] == "SubmitAttempted"
    assert fill.quantity > 0 and fill.price <= ask + 100
    assert fill.fee_asset == "USDT" and fill.fee > 0
    assert 0 < ack.written_ns < ack.answered_ns
    assert [order["clientOrderId"] for order in sim.orders("alpha")] == [desk.order_id("take")]
