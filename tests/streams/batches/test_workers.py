"""Several workers of one group on a real broker: who joins, leaves or is killed leaves no hole and little to repeat."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from live_batches import new_topic
from live_workers import (
    PARTITIONS,
    RATE,
    Flow,
    Worker,
    all_committed,
    assert_outputs_agree,
    has_notes,
    redelivered,
    times_read,
    until,
)

pytestmark = pytest.mark.integration


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
    print(f"{repeated} records repeated")  # noqa: T201 - what `-s` shows
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
