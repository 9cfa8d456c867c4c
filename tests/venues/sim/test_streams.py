"""The market streams as a reader with no ccxt in between sees them: nothing missing, chains whole, slow readers cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import aiohttp
import orjson
import pytest

from tests.venues.sim.conftest import SimProcess

pytestmark = pytest.mark.integration
WITHIN_S = 20.0


@pytest.fixture
async def http(sim: SimProcess) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(sim.url) as session:
        yield session


async def frames(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[dict[str, Any]]:
    """The next `count` frames."""
    return [orjson.loads((await asyncio.wait_for(socket.receive(), WITHIN_S)).data) for _ in range(count)]


async def test_every_trade_is_a_frame(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect("/ws/btcusdt@trade") as socket:
        ids = [frame["t"] for frame in await frames(socket, 200)]
    assert ids == list(range(ids[0], ids[0] + 200))


async def test_depth_diffs_chain_and_lead_from_snapshot_to_the_fetched_book(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect("/stream?streams=btcusdt@depth@100ms") as socket:
        first = (await frames(socket, 1))[0]
        assert first["stream"] == "btcusdt@depth@100ms"
        snapshot = await _depth(http)
        diffs = [first["data"], *(frame["data"] for frame in await frames(socket, 15))]
        assert all(later["U"] == earlier["u"] + 1 for earlier, later in pairwise(diffs))
        later_snapshot = await _depth(http)
        while diffs[-1]["u"] < later_snapshot["lastUpdateId"]:
            diffs += [frame["data"] for frame in await frames(socket, 1)]
    usable = [diff for diff in diffs if diff["u"] > snapshot["lastUpdateId"]]
    assert usable[0]["U"] <= snapshot["lastUpdateId"] + 1
    sides = {name: dict(snapshot[name]) for name in ("bids", "asks")}
    for diff in usable:
        for name, changes in (("bids", diff["b"]), ("asks", diff["a"])):
            for price, quantity in changes:
                sides[name][price] = quantity
    # The later snapshot fell inside the last diff, so what that diff touched may differ, and nothing else.
    last = usable[-1]
    touched = {name: {price for price, _ in last[key]} for name, key in (("bids", "b"), ("asks", "a"))}
    for name, rebuilt in sides.items():
        fetched = {price: quantity for price, quantity in later_snapshot[name] if price not in touched[name]}
        assert fetched.items() <= rebuilt.items()
        assert len(fetched) > 5


async def _depth(http: aiohttp.ClientSession) -> dict[str, Any]:
    async with http.get("/api/v3/depth?symbol=BTCUSDT&limit=5000") as answer:
        snapshot: dict[str, Any] = await answer.json()
        return snapshot


async def test_best_prices_never_cross_and_their_ids_rise(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect("/ws/btcusdt@bookTicker") as socket:
        tops = await frames(socket, 300)
    assert all(float(top["b"]) < float(top["a"]) for top in tops)
    assert all(later["u"] > earlier["u"] for earlier, later in pairwise(tops))


async def test_subscriptions_are_answered_by_id_and_can_be_taken_back(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect("/stream/ws/0") as socket:
        await socket.send_json({"method": "SUBSCRIBE", "params": ["solusdt@kline_1m"], "id": 1})
        assert (await frames(socket, 1)) == [{"result": None, "id": 1}]
        await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 2})
        await socket.send_json({"method": "UNSUBSCRIBE", "params": ["solusdt@kline_1m"], "id": 3})
        await socket.send_json({"method": "DANCE", "id": 4})
        await socket.send_str("nonsense")
        answers = [frame for frame in await frames(socket, 4) if "e" not in frame]
    assert answers[0] == {"result": ["solusdt@kline_1m"], "id": 2}
    assert answers[1] == {"result": None, "id": 3}
    assert answers[2]["error"]["code"] == 2


async def test_aggregates_and_trades_tell_the_same_volume(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect("/ws/btcusdt@aggTrade") as socket:
        aggregates = await frames(socket, 30)
    numbers = [each["a"] for each in aggregates]
    assert numbers == list(range(numbers[0], numbers[0] + 30))
    first, last = aggregates[0]["f"], aggregates[-1]["l"]
    async with http.get(f"/api/v3/historicalTrades?symbol=BTCUSDT&fromId={first}&limit={last - first + 1}") as answer:
        trades = await answer.json()
    assert [each["id"] for each in trades] == list(range(first, last + 1))
    volume = sum(round(float(each["q"]) * 1e8) for each in aggregates)
    assert volume == sum(round(float(each["qty"]) * 1e8) for each in trades)
