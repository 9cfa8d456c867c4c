"""Carrying out steps against brokers: many partitions at once, every record checked to have got its old offset.

Each round takes the next step of every partition: plain records first, then all commits in one transaction, then all aborts in
another. A marker is written after the commit was answered, so a partition's plain records wait until it is there; a next
transaction waits by itself (the coordinator lets none begin before).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from skeet.backup.cut import Place
from skeet.backup.segments import Stored
from skeet.backup.steps import Aborted, Committed, Dropped, Plain, Step, offsets_of
from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.streams.kafka import consumer, producer

CLIENT = "skeet-restore"
FLUSH_S = 60.0
MARKER_S = 30.0
POLL_S = 0.002
FILLER = Stored(offset=-1, timestamp_ms=0, key=b"filler", value=b"")


class LogWriter:
    """Writes the steps of empty partitions. Not thread-safe; any error leaves partitions half written."""

    def __init__(self, settings: Settings) -> None:
        # Old times are kept, so nothing may be later than its own delivery; that is the topic's setting, not the client's.
        self._plain = producer(settings, CLIENT, linger_ms=5)
        self._transactional = producer(settings, CLIENT, transactional_id=CLIENT)
        self._watcher = consumer(settings, CLIENT, isolation_level="read_uncommitted")
        self._next: dict[Place, int] = {}
        self._delivered: dict[Place, int] = {}
        self._marked: set[Place] = set()
        self._failure = ""

    def write(self, places: Mapping[Place, Iterator[Step]], progress: Callable[[int], None]) -> dict[Place, int]:
        """Carry out all steps; returns the next offset of each partition, markers included.

        Raises
        ------
        InfrastructureError
            a broker failed, or a record stands at another offset than it should.
        """
        self._transactional.init_transactions(FLUSH_S)
        self._next = dict.fromkeys(places, 0)
        self._delivered = dict.fromkeys(places, 0)
        running = dict(places)
        try:
            while running:
                round_: dict[Place, Step] = {}
                for place in list(running):
                    step = next(running[place], None)
                    if step is None:
                        del running[place]
                    else:
                        round_[place] = step
                if not round_:
                    break
                self._carry_out(round_)
                progress(sum(map(offsets_of, round_.values())))
            self._await_markers(self._next)
        except KafkaException as error:
            raise InfrastructureError(f"restoring: {error.args[0].str()}") from error
        finally:
            self._watcher.close()
        return self._next

    def _carry_out(self, round_: Mapping[Place, Step]) -> None:
        plain: dict[Place, Iterable[Stored]] = {}
        committed: dict[Place, Iterable[Stored]] = {}
        aborted: dict[Place, Iterable[Stored]] = {}
        for place, step in round_.items():
            match step:
                case Plain(records):
                    plain[place] = records
                case Dropped(fillers):
                    plain[place] = (FILLER for _ in range(fillers))
                case Committed(records):
                    committed[place] = records
                case Aborted(fillers):
                    aborted[place] = (FILLER for _ in range(fillers))
        if plain:
            self._await_markers({place: self._next[place] for place in plain if place in self._marked})
            self._produce(self._plain, plain)
        for group, end in (
            (committed, self._transactional.commit_transaction),
            (aborted, self._transactional.abort_transaction),
        ):
            if group:
                self._transactional.begin_transaction()
                self._produce(self._transactional, group)
                end(FLUSH_S)
                self._marked |= group.keys()
                for place in group:
                    self._next[place] += 1
                    self._delivered[place] += 1  # the marker

    def _produce(self, client: Producer, group: Mapping[Place, Iterable[Stored]]) -> None:
        for place, records in group.items():
            for record in records:
                self._send(client, place, record)
                self._next[place] += 1
        left = client.flush(FLUSH_S)
        if left and not self._failure:
            self._failure = f"{left} records were not acknowledged within {FLUSH_S:.0f} s"
        if self._failure:
            self._fail()
        for place in group:
            self._marked.discard(place)

    def _send(self, client: Producer, place: Place, record: Stored) -> None:
        if record is not FILLER and record.offset != self._next[place]:
            self._failure = f"{place[0]}/{place[1]}: offset {record.offset} would become {self._next[place]}"
            self._fail()
        arguments: dict[str, Any] = {"partition": place[1], "on_delivery": self._acknowledged, "key": record.key}
        if record.timestamp_ms > 0:
            arguments["timestamp"] = record.timestamp_ms
        if record.headers:
            arguments["headers"] = list(record.headers)
        while True:
            try:
                client.produce(place[0], record.value, **arguments)
                break
            except BufferError:
                client.poll(0.05)
        client.poll(0)

    def _acknowledged(self, error: KafkaError | None, message: Message) -> None:
        place = (message.topic(), message.partition())
        if error is not None:
            self._failure = self._failure or f"{place[0]}/{place[1]}: {error.str()}"
        elif message.offset() != self._delivered[place]:
            self._failure = self._failure or (
                f"{place[0]}/{place[1]}: a record came to offset {message.offset()}, expected {self._delivered[place]};"
                " somebody else writes to these topics"
            )
        self._delivered[place] += 1

    def _await_markers(self, expected: Mapping[Place, int]) -> None:
        """Return once each partition ends where it should; markers are written after the commit was answered."""
        until = time.monotonic() + MARKER_S
        for place, end in expected.items():
            while (found := self._end(place)) < end:
                if time.monotonic() > until:
                    raise InfrastructureError(
                        f"{place[0]}/{place[1]} ends at {found}, expected {end}: a marker is missing"
                    )
                time.sleep(POLL_S)
            if found != end:
                raise InfrastructureError(
                    f"{place[0]}/{place[1]} ends at {found}, expected {end}: somebody else writes there"
                )
            self._marked.discard(place)

    def _end(self, place: Place) -> int:
        return int(self._watcher.get_watermark_offsets(TopicPartition(*place), timeout=FLUSH_S)[1])

    def _fail(self) -> NoReturn:
        raise InfrastructureError(f"restoring: {self._failure}")
