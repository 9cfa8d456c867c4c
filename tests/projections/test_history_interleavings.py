"""The history projection over a model of the log and of the store: whoever dies wherever, each record is there once.

The real session, buffers and columns; only the two clients are the model's. The store does what ClickHouse promises: a block
is inserted whole or not at all, and a token that it had already is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, TopicPartition
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
from skeet.streams.topics import MARKET_QUOTES

PREFIX = "m."
TOPIC = PREFIX + MARKET_QUOTES.name
CODEC = numbered_codec()
GARBAGE = b"\x01no schema of ours"
MAX_SESSIONS = 60


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


class ModelConsumer:
    """A group's only member: two partitions, positions in the log."""

    def __init__(self, log: ModelLog, reader: Reader, stop: StopSignal) -> None:
        self._log = log
        self._reader = reader
        self._stop = stop

    def subscribe(self, _: Sequence[str], on_assign: Any, **__: Any) -> None:
        on_assign(self, [TopicPartition(*place) for place in self._reader.places])

    def committed(self, partitions: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        found = [(p, *self._log.committed.get((p.topic, p.partition), (-1001, ""))) for p in partitions]
        return [TopicPartition(p.topic, p.partition, offset, metadata=text) for p, offset, text in found]

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self._reader.positions = {
            (p.topic, p.partition): 0 if p.offset in (OFFSET_BEGINNING, -1001) else p.offset for p in partitions
        }

    def position(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        return [TopicPartition(p.topic, p.partition, self._reader.positions[p.topic, p.partition]) for p in partitions]

    def get_watermark_offsets(self, partition: TopicPartition, cached: bool) -> tuple[int, int]:
        return 0, len(self._log.records.get((partition.topic, partition.partition), []))

    def consume(self, count: int, _: float) -> list[ModelMessage]:
        taken = self._reader.next(count)
        if not taken:
            self._stop.stop()
        return taken

    def commit(self, offsets: Sequence[TopicPartition], asynchronous: bool) -> None:
        fate = self._log.fate()
        if fate is Fate.DIED_BEFORE:
            self._log.die()
        self._log.commit({(p.topic, p.partition): (p.offset, p.metadata or "") for p in offsets})
        if fate is Fate.DIED_AFTER:
            self._log.die()

    def close(self) -> None: ...


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
        monkeypatch.setattr(history_writer, "consumer", lambda *_, r=reader, s=stop, **__: ModelConsumer(log, r, s))
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
