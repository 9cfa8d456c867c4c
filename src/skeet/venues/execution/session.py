"""The HTTP session that ccxt is given: it knows when a request reached the socket, and is the last gate before it.

aiohttp calls ``on_request_headers_sent`` just before the first byte is written. Raised there, an exception proves that
nothing left; not called at all, it proves the same. That is the difference between ``NotSent`` and ``Unknown``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from skeet.core.errors import InvalidInput
from skeet.streams.crash_points import GATEWAY_AFTER_SOCKET_WRITE, reach
from skeet.streams.ports import SendGuard

KEEP_ALIVE_S = 30.0
"""An idle connection is kept this long; venues close theirs after about a minute, and a write into a closed one is an
unknown outcome."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class SendRefused(Exception):
    """The guard said no before the first byte was written."""


@dataclass(slots=True)
class Written:
    """What happened to one request: our clock just before its first byte (0: never written), and the HTTP status
    (0: no answer)."""

    guard: SendGuard | None = None
    written_ns: int = 0
    status: int = 0


_current: ContextVar[Written | None] = ContextVar("skeet_request", default=None)


@contextmanager
def watched_request(guard: SendGuard | None = None) -> Iterator[Written]:
    """Watch the one request made inside the block, and ask ``guard`` before its first byte."""
    written = Written(guard=guard)
    token = _current.set(written)
    try:
        yield written
    finally:
        _current.reset(token)


def open_session(*, allow_live: bool) -> aiohttp.ClientSession:
    """A session for one ccxt client; its owner closes it. Must be called inside the event loop."""
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_before_first_byte)
    trace.on_request_end.append(_answered)
    if not allow_live:
        trace.on_request_start.append(_refuse_live)
    connector = aiohttp.TCPConnector(keepalive_timeout=KEEP_ALIVE_S)
    return aiohttp.ClientSession(connector=connector, trace_configs=[trace])


def refuse_live(urls: list[str]) -> None:
    """Raise unless every address is on this machine.

    Raises
    ------
    InvalidInput
        naming the first that is not.
    """
    for url in urls:
        host = urlsplit(url).hostname
        if host not in LOOPBACK:
            raise InvalidInput(f"{host} is not on this machine: orders to live venues need SKEET_ALLOW_LIVE=1")


async def _before_first_byte(_: Any, __: Any, ___: aiohttp.TraceRequestHeadersSentParams) -> None:
    written = _current.get()
    if written is None:
        return
    reason = written.guard() if written.guard is not None else ""
    if reason:
        raise SendRefused(reason)
    written.written_ns = time.time_ns()
    if written.guard is not None:  # an order; its bytes leave before the loop's next turn, its answer comes after it
        asyncio.get_running_loop().call_soon(reach, GATEWAY_AFTER_SOCKET_WRITE)


async def _answered(_: Any, __: Any, answer: aiohttp.TraceRequestEndParams) -> None:
    written = _current.get()
    if written is not None:
        written.status = answer.response.status


async def _refuse_live(_: Any, __: Any, request: aiohttp.TraceRequestStartParams) -> None:
    if request.url.host not in LOOPBACK:
        raise SendRefused(f"{request.url.host} is not on this machine: live venues need SKEET_ALLOW_LIVE=1")
