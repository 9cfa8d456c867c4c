"""Several workers of one group on a real broker: who joins, leaves or is killed leaves no hole and little to repeat."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import Producer
from live_batches import committed, new_topic, read_committed

pytestmark = pytest.mark.integration

PARTITIONS = 4
RATE = 20_000
"""Records a second that flow in."""
DEADLINE_S = 90.0


@dataclass(frozen=True, slots=True)
class Note:
    """What a worker wrote about a chunk."""

    at: float
    partition: int
    first: int
    next_offset: int


class Flow:
    """Writes at a steady rate into all partitions until told to end."""

    def __init__(self, kafka: str, topic: str) -> None:
        self._client = Producer({"bootstrap.servers": kafka, "linger.ms": 2, "enable.idempotence": True})
        self._topic = topic
        self._ended = threading.Event()
        self.written = [0] * PARTITIONS
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        began, sent = time.monotonic(), 0
        while not self._ended.wait(0.005):
            for _ in range(int((time.monotonic() - began) * RATE) - sent):
                self._client.produce(self._topic, b"%d" % sent, partition=sent % PARTITIONS)
                self.written[sent % PARTITIONS] += 1
                sent += 1
            self._client.poll(0)

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        assert self._client.flush(30) == 0


class Worker:
    """A process, and its notes."""

    def __init__(self, *words: str, file: Path) -> None:
        self.file = file
        self.process = subprocess.Popen([sys.executable, str(Path(__file__).parent / "worker.py"), *words, str(file)])

    @property
    def notes(self) -> list[Note]:
        if not self.file.exists():
            return []
        lines = [line.split() for line in self.file.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [Note(float(at), int(partition), int(first), int(end)) for at, partition, first, end in lines]


@pytest.fixture
def start(kafka: str, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def begin(group: str, topic: str, out: str) -> Worker:
        workers.append(Worker(kafka, group, topic, out, file=tmp_path / f"worker-{len(workers)}"))
        return workers[-1]

    yield begin
    for worker in workers:
        worker.process.kill()
        worker.process.wait()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def has_notes(worker: Worker, count: int) -> bool:
    return len(worker.notes) > count


def times_read(workers: list[Worker], flow: Flow) -> list[list[int]]:
    """How often each offset was given to an agent."""
    counts = [[0] * written for written in flow.written]
    for worker in workers:
        for note in worker.notes:
            for offset in range(note.first, note.next_offset):
                counts[note.partition][offset] += 1
    return counts


def redelivered(counts: list[list[int]]) -> int:
    return sum(count - 1 for partition in counts for count in partition)


def assert_outputs_agree(kafka: str, out: str, workers: list[Worker]) -> None:
    """Every chunk that was committed has its output, and each output is of a chunk that an agent was given."""
    given = {f"{n.partition}:{n.first}-{n.next_offset}".encode() for worker in workers for n in worker.notes}
    written = {value for _, _, value in read_committed(kafka, out, 0)}
    assert written <= given
    covered = [0] * PARTITIONS
    for partition, first, end in sorted(tuple(map(int, v.replace(b"-", b":").split(b":"))) for v in written if v):
        assert first <= covered[partition], "a committed chunk without its output"
        covered[partition] = max(covered[partition], end)


def all_committed(kafka: str, group: str, topic: str, flow: Flow) -> bool:
    return all(committed(kafka, group, topic, p) == flow.written[p] for p in range(PARTITIONS))


def test_sigkill_of_one_of_two_workers_repeats_little_and_loses_nothing(
    kafka: str, start: Callable[..., Worker]
) -> None:
    topic, out, group = new_topic(kafka, PARTITIONS), new_topic(kafka), f"g{uuid.uuid4().hex[:8]}"
    flow = Flow(kafka, topic)
    workers = [start(group, topic, out), start(group, topic, out)]
    until(lambda: all(len(worker.notes) > 100 for worker in workers))
    began = len(workers[0].notes)
    until(lambda: len(workers[0].notes) > began + 100)
    workers[0].process.kill()
    taken_over = {note.partition for note in workers[0].notes[-20:]}
    until(lambda: taken_over <= {note.partition for note in workers[1].notes[-20:]})
    flow.end()
    until(lambda: all_committed(kafka, group, topic, flow))
    counts = times_read(workers, flow)
    assert min(min(partition) for partition in counts) == 1
    repeated = redelivered(counts)
    assert repeated <= RATE, f"{repeated} records repeated; a second's flow is {RATE}"
    assert_outputs_agree(kafka, out, workers)


def test_a_worker_that_joins_and_leaves_again_and_again_leaves_no_hole(
    kafka: str, start: Callable[..., Worker]
) -> None:
    topic, out, group = new_topic(kafka, PARTITIONS), new_topic(kafka), f"g{uuid.uuid4().hex[:8]}"
    flow = Flow(kafka, topic)
    workers = [start(group, topic, out)]
    until(lambda: workers[0].notes)
    for _ in range(3):
        guest = start(group, topic, out)
        workers.append(guest)
        until(partial(has_notes, guest, 20))
        guest.process.terminate()
        assert guest.process.wait(30) == 0
    flow.end()
    until(lambda: all_committed(kafka, group, topic, flow))
    counts = times_read(workers, flow)
    assert min(min(partition) for partition in counts) == 1
    # Whoever leaves in order ends what it began, and commits it.
    assert redelivered(counts) == 0
    assert_outputs_agree(kafka, out, workers)
