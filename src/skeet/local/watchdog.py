"""Restarts what is assigned but idle: a consumer group whose position stands still behind a moving end.

Clients are known to stall while looking alive, after rebalances and broker restarts. Progress, seen from outside, is the
only thing that cannot lie. ``stuck`` and ``forgotten`` decide and are pure; a sampler in another process looks.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from skeet.config import KafkaSettings
from skeet.core.errors import InfrastructureError
from skeet.local.sampler import Partition, Sample, Sampler
from skeet.process import logger

STILL_S = 15.0
"""A position that stands still this long behind a moving end is stuck."""

WAITED_S = STILL_S / 2
"""Some of the records behind it must have waited this long: one that came just now proves nothing."""

FORGOTTEN_S = 3 * STILL_S
"""Records that wait this long are forgotten even when no more come: whoever writes them may be waiting for the answer."""

SAMPLE_INTERVAL_S = 3.0
MIN_BETWEEN_RESTARTS_S = 60.0


def stuck(samples: Sequence[Sample]) -> list[Partition]:
    """Partitions of a group that stood still for ``STILL_S`` while their end moved on; samples oldest first.

    Said only of a group of which nothing moves: one consumer takes its partitions in turn, and on a busy machine the turn
    of a small one comes late (:func:`forgotten` gives it longer). A partition without new records is idle, not stuck; so
    is one whose records are all newer than ``WAITED_S``. With less than ``STILL_S`` of samples nothing is said.
    """
    window = _last(samples, STILL_S)
    if not window:
        return []
    waited = _earlier(window, WAITED_S)
    if any(window[0].committed.get(partition, 0) < position for partition, position in window[-1].committed.items()):
        return []
    return sorted(
        partition
        for partition, position in window[-1].committed.items()
        if all(sample.committed.get(partition) == position for sample in window)
        and window[0].end.get(partition, 0) < waited.end.get(partition, 0)
        and position < waited.end.get(partition, 0)
    )


def forgotten(samples: Sequence[Sample]) -> list[Partition]:
    """Partitions that stood still for ``FORGOTTEN_S`` with offsets before them all the while; samples oldest first.

    A group that works off a backlog in another partition is slow, and forgets nothing. Whether those offsets hold anything
    for a reader is asked elsewhere.
    """
    window = _last(samples, FORGOTTEN_S)
    if not window:
        return []
    waited = _earlier(window, WAITED_S)
    if any(
        window[0].committed.get(partition, 0) < position < waited.end.get(partition, 0)
        for partition, position in window[-1].committed.items()
    ):
        return []
    return sorted(
        partition
        for partition, position in window[-1].committed.items()
        if all(s.committed.get(partition) == position < s.end.get(partition, 0) for s in window)
    )


def _last(samples: Sequence[Sample], seconds: float) -> list[Sample]:
    """The newest samples that span so long; none while there are fewer."""
    window = [sample for sample in samples if sample.at_s >= samples[-1].at_s - seconds - SAMPLE_INTERVAL_S]
    return window if window and window[-1].at_s - window[0].at_s >= seconds else []


def _earlier(window: Sequence[Sample], seconds: float) -> Sample:
    """The newest sample that is so old."""
    return [sample for sample in window if sample.at_s <= window[-1].at_s - seconds][-1]


class Watchdog:
    """Samples every group and asks for the restart of the process whose group is stuck.

    Parameters
    ----------
    kafka
        Kafka's address, with TLS and credentials.
    groups
        process name → consumer group.
    ready_since
        when a process became ready (seconds since the epoch), None while it is not: then its samples are thrown away.
    restart
        called with a process name and a reason.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        groups: Mapping[str, str],
        ready_since: Callable[[str], float | None],
        restart: Callable[[str, str], None],
        sampler: Sampler | None = None,
    ) -> None:
        self._sampler = sampler or Sampler(kafka)
        self._groups = groups
        self._ready_since = ready_since
        self._restart = restart
        self._stopping = threading.Event()
        self._samples: dict[str, deque[Sample]] = {name: deque(maxlen=32) for name in groups}
        self._generation: dict[str, float | None] = {}
        self._restarted_s: dict[str, float] = {}
        self._nothing_before: dict[tuple[str, Partition], tuple[int, int]] = {}
        self._waiting_since: dict[tuple[str, Partition], tuple[int, float]] = {}

    def run(self) -> None:
        """Sample until stopped. A broker that is away is no news: nothing can be said about progress then."""
        while not self._stopping.wait(SAMPLE_INTERVAL_S):
            self.look()

    def look(self) -> None:
        """Sample each group once and judge it."""
        for name, group in self._groups.items():
            if not self._follows(name):
                continue
            try:
                self._samples[name].append(self._sampler.sample(group))
                self._judge(name, stuck(self._samples[name]) or forgotten(self._samples[name]))
            except InfrastructureError:
                self._samples[name].clear()

    def stop(self) -> None:
        """End :meth:`run` soon."""
        self._stopping.set()
        self._sampler.close()

    def _follows(self, name: str) -> bool:
        since = self._ready_since(name)
        if since != self._generation.get(name):
            self._samples[name].clear()
            self._generation[name] = since
        return since is not None

    def _judge(self, name: str, suspected: list[Partition]) -> None:
        now = time.monotonic()
        if not suspected or now - self._restarted_s.get(name, -MIN_BETWEEN_RESTARTS_S) < MIN_BETWEEN_RESTARTS_S:
            return
        partitions = [place for place in suspected if self._delivers(name, place)]
        if not partitions:
            return
        self._restarted_s[name] = now
        self._samples[name].clear()
        places = ", ".join(f"{topic}/{number}" for topic, number in partitions)
        logger().warning("stuck", process=name, partitions=places)
        self._restart(name, f"position stood still for {STILL_S:.0f} s or more with records before it in {places}")

    def _delivers(self, name: str, place: Partition) -> bool:
        """Whether a record waits there, and waited at the same position ``WAITED_S`` ago.

        Behind a marker a position stands for ever: the first record that comes then is news, not proof. An answer of
        "nothing" holds as long as neither position nor end move.
        """
        sample = self._samples[name][-1]
        position, end = sample.committed[place], sample.end.get(place, 0)
        if self._nothing_before.get((name, place)) == (position, end):
            return False
        if not self._sampler.delivers_from(place, position):
            self._nothing_before[name, place] = (position, end)
            return False
        waiting = self._waiting_since.get((name, place))
        if waiting is None or waiting[0] != position:
            waiting = self._waiting_since[name, place] = (position, sample.at_s)
        return sample.at_s - waiting[1] >= WAITED_S
