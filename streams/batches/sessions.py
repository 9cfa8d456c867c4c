"""Fetch sessions (KIP-227) for aiokafka, which names every partition in every fetch.

A broker remembers what a session reads. A request then names only the partitions whose position is another one, and an
answer only those with news: two or three where a worker reads forty, with every record of a calm market. Where a broker
grants no session, or loses it, everything is named again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiokafka.errors import for_code
from aiokafka.protocol.fetch import FetchRequest

from skeet.streams.stages import Partition

FIRST_VERSION = 7
"""Of the fetch protocol; older brokers know no sessions."""
BEGINNING = 0
"""The epoch of a request that names everything: it ends its session, if it has one, and asks for a new one."""
NO_SESSION = 0
LAST_EPOCH = 2**31 - 1
LOST = (70, 71)
"""The broker's words for a session that it has no more, or counts differently."""

Asked = Mapping[Partition, tuple[int, int]]
"""Position and most bytes, by partition."""
Send = Callable[..., Awaitable[Any]]


def remember_partitions(consumer: Any) -> None:
    """Let this consumer of aiokafka read in fetch sessions."""
    consumer._client.send = FetchSessions(consumer._client.send).send


class SessionFetch(FetchRequest):  # type: ignore[misc]  # untyped library
    """A fetch in a session: what changed since the last one."""

    def __init__(self, whole: Any, session: int, epoch: int, changed: Asked, forgotten: Iterable[Partition]) -> None:
        topics: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for (topic, number), (position, most_bytes) in changed.items():
            topics[topic].append((number, position, most_bytes))
        super().__init__(
            whole._max_wait_ms,
            whole._min_bytes,
            whole._max_bytes,
            whole._isolation_level,
            list(topics.items()),
            rack_id=whole._rack_id,
        )
        self._whole = whole
        self._session = session
        self._epoch = epoch
        self._forgotten: dict[str, list[int]] = defaultdict(list)
        for topic, number in forgotten:
            self._forgotten[topic].append(number)

    def build(self, request_struct_class: Any) -> Any:
        """The request in the broker's version."""
        if request_struct_class.API_VERSION < FIRST_VERSION:
            return self._whole.build(request_struct_class)
        built: Any = super().build(request_struct_class)
        built.session_id = self._session
        built.session_epoch = self._epoch
        built.forgotten_topics_data = list(self._forgotten.items())
        return built


class _Session:
    """What one broker knows of one consumer. One request at a time, as aiokafka's fetcher sends them."""

    def __init__(self) -> None:
        self._id = NO_SESSION
        self._epoch = BEGINNING
        self._known: Asked = {}

    def begin_again(self, *, ended: bool = False) -> None:
        """Name everything in the next request; ``ended``: the broker has forgotten the session already."""
        self._epoch = BEGINNING
        self._known = {}
        if ended:
            self._id = NO_SESSION

    def request(self, whole: Any) -> SessionFetch:
        """What to ask in place of the whole request."""
        wanted = _asked(whole)
        changed = {place: asked for place, asked in wanted.items() if self._known.get(place) != asked}
        forgotten = [place for place in self._known if place not in wanted]
        return SessionFetch(whole, self._id, self._epoch, changed, forgotten)

    def answered(self, whole: Any, answer: Any) -> None:
        """The broker has taken the request that stood for the whole one."""
        self._id = answer.session_id if answer.API_VERSION >= FIRST_VERSION else NO_SESSION
        if self._id == NO_SESSION:
            self.begin_again()
            return
        self._epoch = self._epoch + 1 if self._epoch < LAST_EPOCH else 1
        self._known = _asked(whole)


class FetchSessions:
    """``send`` of an aiokafka client, with every fetch in a session of its broker."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._sessions: dict[int, _Session] = defaultdict(_Session)

    async def send(self, node_id: int, request: Any, **options: Any) -> Any:
        """As the client's.

        Raises
        ------
        aiokafka.errors.KafkaError
            what the client raises, or an error of the fetch as a whole.
        """
        if not isinstance(request, FetchRequest):
            return await self._send(node_id, request, **options)
        session = self._sessions[node_id]
        answer, code = await self._ask(session, node_id, request, options)
        if code in LOST:
            session.begin_again(ended=True)
            answer, code = await self._ask(session, node_id, request, options)
        if code:
            session.begin_again()
            raise for_code(code)
        session.answered(request, answer)
        return answer

    async def _ask(self, session: _Session, node_id: int, request: Any, options: Mapping[str, Any]) -> tuple[Any, int]:
        try:
            answer = await self._send(node_id, session.request(request), **options)
        except BaseException:
            # Whether the broker has counted it is not known; a fetch is cancelled whenever partitions come or go.
            session.begin_again()
            raise
        return answer, answer.error_code if answer.API_VERSION >= FIRST_VERSION else 0


def _asked(request: Any) -> Asked:
    return {
        (topic, number): (position, most_bytes)
        for topic, partitions in request.topics
        for number, position, most_bytes in partitions
    }
