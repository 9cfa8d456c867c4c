"""What takes minutes: a group that never comes to rest, a broker that dies under the flow, memory under a slow sink.

``SKEET_ENDURANCE_MINUTES`` sets how long memory is watched (25 by default).
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from live_batches import new_topic
from live_workers import (
    PARTITIONS,
    Flow,
    Worker,
    all_committed,
    assert_outputs_agree,
    last_offsets,
    redelivered,
    times_read,
    until,
)

from skeet.local.kafka import KafkaBroker

pytestmark = [pytest.mark.e2e, pytest.mark.acceptance, pytest.mark.timeout(2400)]

JOINING_S = 120.0
STAY_S = 3.0
MEMORY_S = 60 * float(os.environ.get("SKEET_ENDURANCE_MINUTES", "25"))
WARM_SHARE = 0.2
"""Memory is compared between this part of the time (5 of 25 minutes) and its end."""
GROWTH = 20 * 1024 * 1024
FULL_RATE = 1_000_000
"""More than one worker with a slow sink takes."""
SLOW_NS = 2_000
KEPT_BYTES, SEGMENT_BYTES = str(256 * 1024 * 1024), str(32 * 1024 * 1024)
LAG = 3_000_000
"""Records that the flow may be ahead: enough that the worker never waits for it."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    made = KafkaBroker(tmp_path / "kafka")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def begin(kafka: str, group: str, topic: str, out: str, *options: str) -> Worker:
        workers.append(Worker(kafka, group, topic, out, file=tmp_path / f"w{len(workers)}", options=options))
        return workers[-1]

    yield begin
    for worker in workers:
        worker.process.kill()
        worker.process.wait()


def test_two_minutes_of_joining_and_leaving_leave_no_hole(kafka: str, start: Callable[..., Worker]) -> None:
    topic, out, group = new_topic(kafka, PARTITIONS), new_topic(kafka), f"g{uuid.uuid4().hex[:8]}"
    flow = Flow(kafka, topic)
    workers = [start(kafka, group, topic, out)]
    until(lambda: workers[0].notes)
    began = time.monotonic()
    while time.monotonic() - began < JOINING_S:
        workers.append(start(kafka, group, topic, out))
        time.sleep(STAY_S)  # the pace is what is tested: some leave before they have joined
        workers[-1].process.terminate()
        assert workers[-1].process.wait(60) in (0, -signal.SIGTERM), "it left in order, or before it had begun"
    flow.end()
    until(lambda: all_committed(kafka, group, topic, flow))
    counts = times_read(workers, flow)
    given = sum(1 for worker in workers[1:] if worker.notes)
    _say(f"{len(workers) - 1} guests, {given} of them read; {flow.count:,} records, {redelivered(counts)} again")
    assert given, "no guest ever got a partition"
    assert min(min(partition) for partition in counts) == 1
    assert_outputs_agree(kafka, out, workers)


def test_a_broker_that_is_killed_under_the_flow_leaves_no_hole(
    broker: KafkaBroker, start: Callable[..., Worker]
) -> None:
    kafka = broker.bootstrap
    topic, out, group = new_topic(kafka, PARTITIONS), new_topic(kafka), f"g{uuid.uuid4().hex[:8]}"
    flow = Flow(kafka, topic)
    workers = [start(kafka, group, topic, out)]
    until(lambda: workers[0].notes)
    for _ in range(3):
        seen = sum(last_offsets(workers[-1]).values())
        broker.kill()
        broker.start()

        def reads_again(behind: int = seen) -> bool:
            if workers[-1].process.poll() is not None:  # whoever keeps processes running starts it anew
                workers.append(start(kafka, group, topic, out))
            return bool(workers[-1].notes) and sum(last_offsets(workers[-1]).values()) > behind + 4 * 20_000

        until(reads_again)
    flow.end()
    until(lambda: all_committed(kafka, group, topic, flow))
    counts = times_read(workers, flow)
    _say(f"{len(workers)} lives; {flow.count:,} records, {redelivered(counts)} again")
    assert min(min(partition) for partition in counts) == 1
    assert_outputs_agree(kafka, out, workers)


def test_memory_is_flat_at_full_rate_with_a_slow_sink(broker: KafkaBroker, start: Callable[..., Worker]) -> None:
    kafka = broker.bootstrap
    kept = partial(new_topic, kafka, retention_bytes=KEPT_BYTES, segment_bytes=SEGMENT_BYTES)
    topic, out, group = kept(PARTITIONS), kept(), f"g{uuid.uuid4().hex[:8]}"
    workers: list[Worker] = []

    def far_ahead(written: list[int]) -> bool:
        read = last_offsets(workers[0]) if workers and workers[0].file.exists() else {}
        return sum(written) - sum(read.values()) > LAG

    flow = Flow(kafka, topic, FULL_RATE, far_ahead)
    workers.append(start(kafka, group, topic, out, str(SLOW_NS)))
    until(lambda: workers[0].notes)
    process, began, seen = psutil.Process(workers[0].process.pid), time.monotonic(), []
    while (passed := time.monotonic() - began) < MEMORY_S:
        time.sleep(min(10.0, MEMORY_S / 25))
        assert workers[0].process.poll() is None
        seen.append((passed, process.memory_info().rss))
    read = sum(last_offsets(workers[0]).values())
    flow.end()
    warm = max(rss for passed, rss in seen if passed <= WARM_SHARE * MEMORY_S)
    last = max(rss for passed, rss in seen if passed >= (1 - WARM_SHARE) * MEMORY_S)
    _say(f"{read / MEMORY_S:,.0f} records/s; {warm >> 20} MiB early, {last >> 20} MiB late")
    assert last - warm <= GROWTH


def _say(what: str) -> None:
    print(what)  # noqa: T201 - with -s: the figures of an acceptance run
