"""A strategy that took all threads is still halted in order: its process needs no more of them."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from skeet.agents.strategy_loop import run_on_one_thread


def refuse(*_: object) -> None:
    raise RuntimeError("can't start new thread")


def test_no_thread_is_started_once_the_loop_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> int:
        monkeypatch.setattr(threading, "_start_new_thread", refuse)
        return sum(await asyncio.gather(*(asyncio.to_thread(one) for _ in range(3))))

    assert run_on_one_thread(main()) == 3


def test_the_blocking_call_that_runs_ends_before_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []

    async def main() -> int:
        monkeypatch.setattr(threading, "_start_new_thread", refuse)
        begun = threading.Event()
        asyncio.get_running_loop().run_in_executor(None, slow, begun, ended)
        return int(not begun.wait(10))

    assert run_on_one_thread(main()) == 0
    assert ended == [1]


def one() -> int:
    return 1


def slow(begun: threading.Event, ended: list[int]) -> None:
    begun.set()
    time.sleep(0.05)
    ended.append(1)
