"""A member of a group hears what its group had to tell it before it closes."""

from __future__ import annotations

from typing import Any

import pytest

from skeet.streams.kafka import close_member


class Client:
    """Notes what it is asked. The real one, with news of its group left, waits for ever, but in one of twelve cases only."""

    def __init__(self, *, fails: bool = False) -> None:
        self.calls: list[str] = []
        self._fails = fails

    def consume(self, _: int, timeout_s: float) -> list[Any]:
        assert timeout_s == 0
        self.calls.append("consume")
        if self._fails:
            raise RuntimeError("a callback failed")
        return []

    def close(self) -> None:
        self.calls.append("close")


def test_what_is_queued_is_taken_before_the_member_closes() -> None:
    client = Client()
    close_member(client)
    assert client.calls == ["consume", "close"]


def test_a_callback_that_fails_on_the_way_does_not_leave_the_member_open() -> None:
    client = Client(fails=True)
    with pytest.raises(RuntimeError, match="a callback failed"):
        close_member(client)
    assert client.calls == ["consume", "close"]
