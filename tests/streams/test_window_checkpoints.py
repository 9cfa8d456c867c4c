"""Windows of partitions over restarts: when a state is made again, and when a checkpoint may be written."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from skeet.config import Settings
from skeet.core.journal import AgentCheckpointed
from skeet.core.record import Out
from skeet.core.windows import Count, Tumbling, Windows, WindowState, state_from_bytes
from skeet.schemas.codec import numbered_codec
from skeet.streams.batches.chunk import Chunk
from skeet.streams.windows import restoring
from skeet.streams.windows.restoring import Held, PartitionWindows

WINDOWS = Windows(Tumbling(size_ns=10), {"n": Count()})


@dataclass
class Folded:
    """Counts each record at its offset for a time."""

    version: str = "folded-1"
    firsts: list[tuple[int, int]] = field(default_factory=list)

    def initial(self) -> WindowState:
        return WINDOWS.initial()

    def fold(self, state: WindowState, chunk: Chunk, first: int) -> tuple[Out[Any], ...]:
        self.firsts.append((chunk.first, first))
        for offset in chunk.offsets.tolist():
            if offset >= first:
                WINDOWS.add(state, "a", offset, {})
        return ()


@dataclass
class Confirmed:
    """How far everything is confirmed."""

    offset: int = -1

    def __call__(self, place: tuple[str, int]) -> int:
        return self.offset


def chunk(first: int, end: int) -> Chunk:
    offsets = np.arange(first, end, dtype=np.int64)
    return Chunk(
        topic="skeet.market.trades.v1",
        partition=2,
        first=first,
        next_offset=end,
        raw=b"",
        places=np.zeros((5, end - first), np.int64),
        positions=np.stack([offsets, offsets]),
        size=0,
    )


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> tuple[PartitionWindows, Folded, Confirmed, list[int]]:
    folded, confirmed, made = Folded(), Confirmed(), []

    def restored(self: PartitionWindows, chunk: Chunk) -> Held:
        made.append(chunk.first)
        return Held(state=WINDOWS.initial(), position=max(chunk.first, 3), expected=chunk.first)

    monkeypatch.setattr(PartitionWindows, "_restored", restored)
    monkeypatch.setattr(restoring, "CHECKPOINT_EVERY_S", 0.0)
    windows = PartitionWindows(
        settings=Settings(), codec=numbered_codec(), agent_id="flow", windows=folded, committable=confirmed
    )
    return windows, folded, confirmed, made


async def test_a_checkpoint_is_written_only_when_all_before_it_is_confirmed(kept: Any) -> None:
    windows, _, confirmed, _ = kept
    assert await windows.take(chunk(0, 5)) == ()
    confirmed.offset = 4
    assert await windows.take(chunk(5, 8)) == (), "what its state caused may still be lost"
    confirmed.offset = 5
    (out,) = await windows.take(chunk(8, 9))
    event = out.event
    assert isinstance(event, AgentCheckpointed)
    assert (event.positions, event.code_version) == ({"market.trades.v1/2": 5}, "folded-1")
    assert (out.topic, out.key) == ("agents.checkpoints.v1", "flow/2")
    state = state_from_bytes(zlib.decompress(event.state))
    assert sum(keys["a"][0] for keys in state.aligned.values()) == 2, "as of offset 5, not of when it was written"


async def test_a_state_is_made_again_only_where_a_chunk_does_not_follow_the_last_one(kept: Any) -> None:
    windows, _, _, made = kept
    for first, end in ((0, 5), (5, 8), (8, 9), (5, 8), (8, 9), (20, 21)):
        await windows.take(chunk(first, end))
    assert made == [0, 5, 20]


async def test_records_that_a_checkpoint_holds_are_not_counted_twice(kept: Any) -> None:
    windows, folded, _, _ = kept
    await windows.take(chunk(0, 2))
    await windows.take(chunk(2, 6))
    assert folded.firsts == [(0, 3), (2, 3)]
    held = windows._held["skeet.market.trades.v1", 2]
    assert sum(keys["a"][0] for keys in held.state.aligned.values()) == 3


async def test_a_state_that_is_too_large_is_said_once_and_not_written(
    kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows, _, confirmed, _ = kept
    monkeypatch.setattr(restoring, "CHECKPOINT_MAX_BYTES", 10)
    confirmed.offset = 100
    for first in range(5):
        assert await windows.take(chunk(first, first + 1)) == ()
    assert windows._warned
