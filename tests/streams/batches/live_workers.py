"""Workers of one group in processes of their own, and a flow of records for them: what tests start, kill and count."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Producer
from live_batches import committed, read_committed

PARTITIONS = 4
RATE = 20_000
"""Records a second that flow in."""
DEADLINE_S = 90.0
QUEUE = 2_000_000
"""Records that wait in the writer while the broker is away."""
TAIL_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Note:
    """What a worker wrote about a chunk."""

    at: float
    partition: int
    first: int
    next_offset: int


class Flow:
    """Writes at a steady rate into all partitions until told to end; waits while ``hold`` says so."""

    def __init__(
        self, kafka: str, topic: str, rate: int = RATE, hold: Callable[[list[int]], bool] = lambda _: False
    ) -> None:
        self._client = Producer(
            {
                "bootstrap.servers": kafka,
                "linger.ms": 2,
                "enable.idempotence": True,
                "queue.buffering.max.messages": QUEUE,
            }
        )
        self._topic, self._rate, self._hold = topic, rate, hold
        self._ended = threading.Event()
        self.written = [0] * PARTITIONS
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        last, sent, due = time.monotonic(), 0, 0.0
        while not self._ended.wait(0.005):
            now = time.monotonic()
            due, last = (0.0 if self._hold(self.written) else due + (now - last) * self._rate), now
            room = QUEUE - len(self._client)
            for _ in range(min(int(due), room)):
                self._client.produce(self._topic, b"%d" % sent, partition=sent % PARTITIONS)
                self.written[sent % PARTITIONS] += 1
                sent += 1
            due -= int(due)
            self._client.poll(0)

    @property
    def count(self) -> int:
        return sum(self.written)

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        assert self._client.flush(60) == 0


class Worker:
    """A process, and its notes."""

    def __init__(self, *words: str, file: Path, options: Sequence[str] = ()) -> None:
        self.file = file
        script = str(Path(__file__).parent / "worker.py")
        self.process = subprocess.Popen([sys.executable, script, *words, str(file), *options])

    @property
    def notes(self) -> list[Note]:
        if not self.file.exists():
            return []
        lines = [line.split() for line in self.file.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [Note(float(at), int(partition), int(first), int(end)) for at, partition, first, end in lines]


def last_offsets(worker: Worker) -> dict[int, int]:
    """Where it stands in each partition, by the end of its notes."""
    with worker.file.open("rb") as file:
        file.seek(max(0, worker.file.stat().st_size - TAIL_BYTES))
        lines = file.read().split(b"\n")[1:-1]
    return {int(partition): int(end) for _, partition, _, end in (line.split() for line in lines)}


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
