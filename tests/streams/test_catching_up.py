"""Caught up means that the end was reported; an offset difference alone says nothing."""

from __future__ import annotations

import pytest

from skeet.streams import catching_up
from skeet.streams.catching_up import Progress

A, B = ("orders", 0), ("orders", 1)


class Known:
    """Positions and ends as a client would keep them."""

    def __init__(self) -> None:
        self.positions = {A: 0, B: 0}
        self.ends = {A: 10, B: 0}

    def position(self, partition: tuple[str, int]) -> int:
        return self.positions[partition]

    def end(self, partition: tuple[str, int]) -> int:
        return self.ends[partition]


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
def progress(known: Known) -> Progress:
    return Progress("g", known)


def test_partition_is_caught_up_when_its_end_was_reported_not_when_its_lag_is_zero(
    known: Known, progress: Progress
) -> None:
    progress.assigned([A, B])
    progress.ended(B, 0)
    known.positions[A] = 10
    progress.look(0.0)
    assert progress.lag() == {A: 0, B: 0}
    assert progress.reason() == "not yet read to the end: orders/0"
    progress.ended(A, 10)
    assert progress.reason() == ""


def test_marker_behind_the_last_record_is_no_lag_once_the_end_was_reported(known: Known, progress: Progress) -> None:
    progress.assigned([A])
    known.positions[A] = 9
    progress.look(0.0)
    assert progress.lag() == {A: 1}
    progress.ended(A, 10)
    assert progress.lag() == {A: 0}


def test_consumer_that_sees_no_end_for_long_is_behind_again(
    known: Known, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress.assigned([A])
    progress.ended(A, 10)
    known.ends[A] = 50
    progress.look(0.0)
    assert progress.reason() == ""
    monkeypatch.setattr(catching_up, "BEHIND_LIMIT_S", -1.0)
    assert progress.reason().startswith("behind for more than")
    progress.ended(A, 50)
    assert progress.reason() == ""


def test_partition_that_was_assigned_anew_must_be_read_again(progress: Progress) -> None:
    progress.assigned([A])
    progress.ended(A, 10)
    progress.revoked([A])
    progress.ended(A, 11)
    assert progress.lag() == {}
    progress.assigned([A])
    assert progress.reason() != ""
    progress.close()
