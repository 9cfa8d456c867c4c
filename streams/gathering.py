"""Records that were delivered and wait for those behind them, so that a machine gets them together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from skeet.core.record import Record

Partition = tuple[str, int]
"""The broker's topic name, and the partition."""

GATHERED_MAX = 256
"""Messages, those of other keys among them. A command of the first waits for the last: some 25 ms, while an agent is behind."""

GATHERED_MAX_S = 0.05
"""Those whose follower was dropped on the way (a rebalance) are stepped after this long."""


@dataclass(slots=True)
class Gathering:
    """``records`` in the order of delivery, and the next offset of each partition once they are stepped."""

    records: list[Record[Any]] = field(default_factory=list)
    positions: dict[Partition, int] = field(default_factory=dict)
    messages: int = 0

    @property
    def full(self) -> bool:
        """Whether no more may wait."""
        return self.messages >= GATHERED_MAX

    def add(self, partition: Partition, next_offset: int, record: Record[Any] | None) -> None:
        """The next message; without a record where nobody reads its key."""
        self.messages += 1
        self.positions[partition] = next_offset
        if record is not None:
            self.records.append(record)
