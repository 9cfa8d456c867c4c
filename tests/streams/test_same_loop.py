"""Faust's consumer on the loop of its host: nothing is handed to another thread, and nothing of the host's ends with it."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from skeet.streams.batches.app import batch_app
from skeet.streams.same_loop import SameLoopReader


class Reader(SameLoopReader):
    """Without a broker."""

    async def on_start(self) -> None:
        """No client is made."""

    async def on_thread_stop(self) -> None:
        """And none is closed."""


def reader() -> Any:
    """A reader of an application that is never started."""
    app = batch_app("any", "127.0.0.1:1")
    transport = SimpleNamespace(app=app)
    return Reader(SimpleNamespace(app=app, transport=transport, RebalanceListener=lambda _: None))


async def test_what_it_is_asked_is_done_here_and_now() -> None:
    async def where(*, more: int) -> tuple[int, int]:
        return threading.get_ident(), more

    made, before = reader(), threading.active_count()
    await made.start()
    assert await made.call_thread(where, more=1) == (threading.get_ident(), 1)
    assert await made.call_thread(lambda: 2) == 2
    with pytest.raises(ZeroDivisionError):
        await made.call_thread(lambda: 1 // 0)
    assert threading.active_count() == before
    await made.stop()


def test_its_end_cancels_nothing_of_the_host() -> None:
    async def scenario() -> bool:
        made, others = reader(), asyncio.ensure_future(asyncio.sleep(60))
        await made.start()
        await made.stop()
        await asyncio.wait({made._thread._serving})  # what Faust does at the end of its thread
        return others.cancelled()

    assert not asyncio.run(scenario())
