"""Who waits for chunks hears of an answer before aiokafka's own task does."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka.consumer.fetcher import Fetcher

from skeet.streams.batches.fetching import wake_at_once


@pytest.mark.parametrize("brought_records", [True, False])
async def test_an_answer_with_records_wakes_who_waits(brought_records: bool) -> None:
    async def take_apart(*_: object) -> bool:
        return brought_records

    fetcher = SimpleNamespace(_proc_fetch_request=take_apart, _fetch_waiters=set(), _loop=asyncio.get_running_loop())
    fetcher._notify = lambda future: Fetcher._notify(None, future)
    wake_at_once(fetcher)
    waiter = Fetcher._create_fetch_waiter(fetcher)
    assert await fetcher._proc_fetch_request("assignment", 1, "request") is brought_records
    assert waiter.done() is brought_records
