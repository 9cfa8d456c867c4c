"""The history projection over a model of the log and of the store: whoever dies wherever, each record is there once.

The real session, buffers and columns; only the two clients are the model's. The store does what ClickHouse promises: a block
is inserted whole or not at all, and a token that it had already is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from model_log import Died, Fate, ModelLog, ModelMessage, Place, Reader

from skeet.config import Settings
from skeet.core.market import Quote
from skeet.core.record import Event, Out
from skeet.process import StopSignal
from skeet.projections import history_writer
from skeet.projections.history_writer import HistorySession
from skeet.schemas.codec import numbered_codec
from skeet.schemas.golden import sample
from skeet.streams.batches.chunk import Chunk
from skeet.streams.topics import MARKET_QUOTES

PREFIX = "m."
TOPIC = PREFIX + MARKET_QUOTES.name
CODEC = numbered_codec()
GARBAGE = b"\x01no schema of ours"
MAX_SESSIONS = 60
MAX_CHUNK = 5_000


class ModelStore:
    """Rows by table, and the tokens it had. ``fates`` are used up by inserts."""

    def __init__(self, log: ModelLog) -> None:
        self.log = log
        self.rows: list[tuple[Place, int]] = []
        self.tokens: set[tuple[str, str]] = set()

    def rows_outside(self, *_: Any) -> list[list[int]]:
        """No rebuilt database waits, however slow the machine is."""
        return [[0]]

    def migrate(self) -> str:
        return "store"

    def next_offsets(self) -> dict[Place, int]:
        return {}  # never committed for: begin at the beginning

    def insert(self, table: str, rows: Any, token: str) -> None:
        fate = self.log.fate()
        if fate is Fate.DIED_BEFORE:
            self.log.die()
        if (table, token) not in self.tokens:
            self.tokens.add((table, token))
            columns = rows.select(["log_partition", "log_offset"]).to_pylist()
            self.rows += [((TOPIC, row["log_partition"]), row["log_offset"]) for row in columns]
        if fate is Fate.DIED_AFTER:
            self.log.die()


class ModelClient:
    """A group's only member: two partitions, positions in the log."""

    def __init__(self, log: ModelLog, reader: Reader, stop: StopSignal) -> None:
        self._log = log
        self._reader = reader
        self._stop = stop

    def subscribe(self, _: Sequence[str], on_assign: Any, **__: Any) -> None:
        on_assign(self._reader.places)

    def committed(self, places: Sequence[Place]) -> dict[Place, tuple[int, str]]:
        return {place: self._log.committed[place] for place in places if place in self._log.committed}

    def start(self, starts: dict[Place, int | None]) -> None:
        self._reader.positions = {place: offset or 0 for place, offset in starts.items()}

    def position(self, place: Place) -> int:
        return self._reader.positions[place]

    def end(self, place: Place) -> int:
        return len(self._log.records.get(place, []))

    def ended(self, places: Sequence[Place]) -> list[tuple[Place, int]]:
        return [(place, self.end(place)) for place in places if self.position(place) == self.end(place)]

    def poll(self, _: float) -> list[Chunk]:
        taken = self._reader.next(MAX_CHUNK)
        if not taken:
            self._stop.stop()
        return [chunk_of(taken)] if taken else []

    def commit(self, offsets: dict[Place, tuple[int, str]]) -> None:
        fate = self._log.fate()
        if fate is Fate.DIED_BEFORE:
            self._log.die()
        self._log.commit(offsets)
        if fate is Fate.DIED_AFTER:
            self._log.die()

    def close(self) -> None: ...


def chunk_of(messages: Sequence[ModelMessage]) -> Chunk:
    """Messages of one partition as they are fetched."""
    pieces = [piece for message in messages for piece in (message.key(), message.value())]
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    starts = np.cumsum(lengths) - lengths
    offsets = [message.offset() for message in messages]
    return Chunk(
        topic=messages[0].topic(),
        partition=messages[0].partition(),
        first=offsets[0],
        next_offset=offsets[-1] + 1,
        raw=b"".join(pieces),
        places=np.array([starts[1::2], lengths[1::2], starts[0::2], lengths[0::2], starts[0::2]]),
        positions=np.array([offsets, [message.timestamp()[1] for message in messages]], np.int64),
        size=int(lengths.sum()),
    )


class ModelLetters:
    """Dead letters, acknowledged when they are flushed."""

    def __init__(self) -> None:
        self.sent: list[Out[Any]] = []
        self.acknowledged: set[tuple[Place, int]] = set()
        self.ids: set[str] = set()

    def send(self, outs: Sequence[Out[Any]]) -> None:
        self.sent += outs

    def flush(self) -> None:
        for out in self.sent:
            assert out.meta is not None
            self.acknowledged.add(((PREFIX + out.event.topic, out.event.partition), out.event.offset))
            self.ids.add(out.meta.event_id)
        self.sent.clear()


@examples(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=st.lists(st.tuples(st.integers(0, 1), st.booleans()), max_size=40),
    turns=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 9)), max_size=60),
    flushes=st.lists(st.booleans(), max_size=60),
    fates=st.lists(st.sampled_from([Fate.WELL, Fate.WELL, Fate.DIED_BEFORE, Fate.DIED_AFTER]), max_size=25),
)
def test_every_record_is_in_the_store_once_whatever_dies(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    records: list[tuple[int, bool]],
    turns: list[tuple[int, int]],
    flushes: list[bool],
    fates: list[Fate],
) -> None:
    log = ModelLog(fates=fates)
    places = [(TOPIC, partition) for partition in range(2)]
    for partition, readable in records:
        event: Event = sample(Quote)
        log.append((TOPIC, partition), b"k", CODEC.encode(event) if readable else GARBAGE)
    store, rest, due = ModelStore(log), iter(turns), iter(flushes)
    monkeypatch.setattr(HistorySession, "_due", lambda _: next(due, True))
    letters = ModelLetters()
    monkeypatch.setattr(history_writer, "producer", lambda *_, **__: None)
    monkeypatch.setattr(history_writer, "Publisher", lambda *_: letters)
    settings = Settings(kafka={"bootstrap": "model:1", "topic_prefix": PREFIX}, data=tmp_path)
    for _ in range(MAX_SESSIONS):
        stop = StopSignal()
        reader = Reader(log, places, rest)
        monkeypatch.setattr(history_writer, "ChunkClient", lambda *_, r=reader, s=stop, **__: ModelClient(log, r, s))
        try:
            HistorySession(settings, CODEC, store).run(stop)  # type: ignore[arg-type]
            break
        except Died:
            continue
    else:
        raise AssertionError("the projection never reached the end")
    written = [(place, message.at) for place in places for message in log.records.get(place, [])]
    assert sorted(store.rows) == sorted(written)
    assert all(log.position(place) == len(log.records.get(place, [])) for place in places)
    unreadable = {(place, m.at) for place in places for m in log.records.get(place, []) if m.value() == GARBAGE}
    assert unreadable <= letters.acknowledged, "none is without its letter"
    assert len(letters.ids) == len(letters.acknowledged), "one id, however often it was written"
