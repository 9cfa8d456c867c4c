"""One Tick a second on the clock topic, by the worker that was assigned its partition: one clock however many workers."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from skeet.core.market import Tick
from skeet.core.record import Out
from skeet.core.values import NS_PER_S
from skeet.streams.stages import Partition
from skeet.streams.topics import CLOCK


class Publishing(Protocol):
    """What the clock needs of its host."""

    @property
    def assigned(self) -> frozenset[Partition]:
        """Partitions read now."""
        ...

    def emit(self, outs: tuple[Out[Tick], ...]) -> None:
        """Publish."""
        ...


async def run_clock(host: Publishing, clock_topic: str) -> None:
    """Tick at each whole second while this process holds the clock's partition. Never returns."""
    while True:
        now = time.time_ns()
        await asyncio.sleep((NS_PER_S - now % NS_PER_S) / NS_PER_S)
        if (clock_topic, 0) in host.assigned:
            host.emit((Out(topic=CLOCK.name, key="", event=Tick(ts_event=time.time_ns())),))
