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
        async with asyncio.timeout(WITHIN_S):
            # Where the loop is held up, one diff covers most of the book, and little is left to compare: then once more.
            while await _compared(http, socket, snapshot, diffs) <= 5:
                pass
    assert all(later["U"] == earlier["u"] + 1 for earlier, later in pairwise(diffs))


async def _compared(http: aiohttp.ClientSession, socket: Any, snapshot: dict[str, Any], diffs: list[Any]) -> int:
    """Compare a book fetched now with the snapshot and the diffs since. Returns how many levels of the thinner side were
    compared: the fetched book falls inside the last diff, so what that one touched may differ, and nothing else."""
    fetched = await _depth(http)
    while diffs[-1]["u"] < fetched["lastUpdateId"]:
        diffs += [frame["data"] for frame in await frames(socket, 1)]
    usable = [diff for diff in diffs if diff["u"] > snapshot["lastUpdateId"] and diff["U"] <= fetched["lastUpdateId"]]
    assert usable[0]["U"] <= snapshot["lastUpdateId"] + 1
    compared = []
    for name, changed in (("bids", "b"), ("asks", "a")):
        rebuilt = dict(snapshot[name]) | {price: quantity for diff in usable for price, quantity in diff[changed]}
        touched = {price for price, _ in usable[-1][changed]}
        untouched = {price: quantity for price, quantity in fetched[name] if price not in touched}
        assert untouched.items() <= rebuilt.items()
        compared.append(len(untouched))
    return min(compared)


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
