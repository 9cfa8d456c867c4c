"""Fetch sessions against a broker that keeps them as KIP-227 says, and refuses whatever it would refuse."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaError, UnknownError
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v4, FetchRequest_v11, FetchResponse_v4, FetchResponse_v11

from skeet.streams.batches.sessions import FetchSessions

MOST_BYTES = 1024
Asked = dict[tuple[str, int], int]


class Broker:
    """Remembers one session. ``read`` is what each fetch read, however it was asked; ``named`` how many it named."""

    def __init__(self, *, grants: bool = True, version: type[Any] = FetchRequest_v11) -> None:
        self.read: list[Asked] = []
        self.named: list[int] = []
        self.fails: BaseException | None = None
        self.code = 0
        self._grants = grants
        self._version = version
        self._ids = 100
        self._id = 0
        self._epoch = 0
        self._partitions: Asked = {}

    def restart(self) -> None:
        self._id = 0

    async def send(self, node_id: int, request: Any) -> Any:
        if not isinstance(request, FetchRequest):
            return "another answer"
        built = request.prepare({1: (0, self._version.API_VERSION)})
        asked = {
            (topic, part[0]): part[-3 if built.API_VERSION >= 5 else 1]
            for topic, parts in built.topics
            for part in parts
        }
        self.named.append(len(asked))
        if built.API_VERSION < 7:
            self.read.append(asked)
            return FetchResponse_v4(0, [])
        assert built.encode(), "the wire takes it"
        code = self._session(built, asked)
        if self.fails is not None:
            error, self.fails = self.fails, None
            raise error
        if self.code:
            code, self.code = self.code, 0
        if not code:
            self.read.append(dict(self._partitions))
        return FetchResponse_v11(0, code, self._id, [])

    def _session(self, built: Any, asked: Asked) -> int:
        if built.session_epoch == 0:
            self._ids += 1
            self._id, self._epoch = (self._ids if self._grants else 0), 1
            self._partitions = asked
            return 0
        if built.session_id != self._id:
            return 70
        if built.session_epoch != self._epoch:
            return 71
        self._epoch += 1
        self._partitions |= asked
        for topic, numbers in built.forgotten_topics_data:
            for number in numbers:
                del self._partitions[topic, number]
        return 0


def fetch(positions: Asked) -> FetchRequest:
    topics: dict[str, list[tuple[int, int, int]]] = {}
    for (topic, number), position in positions.items():
        topics.setdefault(topic, []).append((number, position, MOST_BYTES))
    return FetchRequest(100, 1, 2**20, 1, list(topics.items()))


START = {("quotes", 0): 5, ("quotes", 1): 7, ("trades", 0): 9}
LATER = START | {("trades", 0): 12}
WITHOUT = {("quotes", 1): 7, ("trades", 0): 12}


async def test_only_what_changed_is_named() -> None:
    broker = Broker()
    sessions = FetchSessions(broker.send)
    for positions in (START, START, LATER, WITHOUT, LATER):
        await sessions.send(1, fetch(positions))
    assert broker.read == [START, START, LATER, WITHOUT, LATER]
    assert broker.named == [3, 0, 1, 0, 1]


async def test_each_broker_has_a_session_of_its_own() -> None:
    one, two = Broker(), Broker()

    async def send(node_id: int, request: Any) -> Any:
        return await (one if node_id == 1 else two).send(node_id, request)

    sessions = FetchSessions(send)
    for node_id in (1, 2, 1, 2):
        await sessions.send(node_id, fetch(START))
    assert one.read == two.read == [START, START]


async def test_a_session_that_the_broker_lost_is_begun_again_at_once() -> None:
    broker = Broker()
    sessions = FetchSessions(broker.send)
    await sessions.send(1, fetch(START))
    broker.restart()
    await sessions.send(1, fetch(LATER))
    await sessions.send(1, fetch(LATER))
    assert broker.read == [START, LATER, LATER]
    assert broker.named == [3, 1, 3, 0]


@pytest.mark.parametrize("fails", [UnknownError(), asyncio.CancelledError()])
async def test_after_a_fetch_without_an_answer_everything_is_named(fails: BaseException) -> None:
    broker = Broker()
    sessions = FetchSessions(broker.send)
    await sessions.send(1, fetch(START))
    broker.fails = fails
    with pytest.raises(type(fails)):
        await sessions.send(1, fetch(LATER))
    await sessions.send(1, fetch(START))
    assert broker.read[-1] == START, "the broker has counted what nobody heard the answer of"
    assert broker.named == [3, 1, 3]


async def test_an_error_of_the_whole_fetch_is_raised_and_the_session_begun_again() -> None:
    broker = Broker()
    sessions = FetchSessions(broker.send)
    await sessions.send(1, fetch(START))
    broker.code = -1
    with pytest.raises(KafkaError):
        await sessions.send(1, fetch(LATER))
    await sessions.send(1, fetch(LATER))
    assert broker.named == [3, 1, 3]


@pytest.mark.parametrize("broker", [Broker(grants=False), Broker(version=FetchRequest_v4)], ids=["full", "old"])
async def test_a_broker_without_sessions_is_told_everything(broker: Broker) -> None:
    sessions = FetchSessions(broker.send)
    for positions in (START, LATER):
        await sessions.send(1, fetch(positions))
    assert broker.read == [START, LATER]


async def test_other_requests_pass() -> None:
    assert await FetchSessions(Broker().send).send(1, object()) == "another answer"
