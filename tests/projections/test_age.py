"""A projection's age: how old the last stored record is, while newer ones wait."""

from __future__ import annotations

import time
from typing import Any

from skeet.core.values import NS_PER_S
from skeet.metrics import REGISTRY
from skeet.projections.sessions import ProjectionAge


class Behind:
    """A consumer's progress with this lag."""

    def __init__(self, lag: int) -> None:
        self.records = lag

    def lag(self) -> dict[tuple[str, int], int]:
        return {("accounts", 0): self.records}


def test_age_grows_while_records_wait_and_is_nothing_when_none_do() -> None:
    progress: Any = Behind(1)
    age = ProjectionAge("test", progress)
    age.stored(time.time_ns() - 5 * NS_PER_S)
    found = REGISTRY.get_sample_value("skeet_projection_age_seconds", {"projection": "test"})
    assert found is not None and 5 <= found < 30
    progress.records = 0
    assert REGISTRY.get_sample_value("skeet_projection_age_seconds", {"projection": "test"}) == 0
    age.close()
    assert REGISTRY.get_sample_value("skeet_projection_age_seconds", {"projection": "test"}) is None
