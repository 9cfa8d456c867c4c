"""Restarts what is assigned but idle: a consumer group whose position stands still behind a moving end.

Clients are known to stall while looking alive, after rebalances and broker restarts. Progress, seen from outside, is the
only thing that cannot lie. ``stuck`` and ``forgotten`` decide and are pure; a sampler in another process looks. What has no
group is judged by its ``/livez`` and by the ends of the topics it writes (:mod:`skeet.local.pulse`). Everything found is an
event of ``platform.events.v1`` and a metric of the supervisor.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from skeet.config import WatchdogSettings
from skeet.core.errors import InfrastructureError
from skeet.core.platform import GroupLagged, GroupStalled
from skeet.local.incidents import Incidents
from skeet.local.pulse import MUTE_S, Pulse, Silence, Written, mute, probe
from skeet.local.sampler import Partition, Sample, Sampler
from skeet.metrics import Source, counter, declare
from skeet.process import logger

STILL_S = 15.0
"""A position that stands still this long behind a moving end is stuck."""

WAITED_S = STILL_S / 2
"""Some of the records behind it must have waited this long: one that came just now proves nothing."""

FORGOTTEN_S = 3 * STILL_S
"""Records that wait this long are forgotten even when no more come: whoever writes them may be waiting for the answer."""

BROKER = "kafka"
UNANSWERED_S = 60.0
"""A broker that answers nobody for a group's positions this long has lost its coordinator for good."""

SAMPLE_INTERVAL_S = 3.0
MIN_BETWEEN_RESTARTS_S = 60.0
MAX_BETWEEN_RESTARTS_S = 16 * MIN_BETWEEN_RESTARTS_S


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
    """The newest samples that span so long, however far apart a busy machine took them; none while there are fewer."""
    begins = [number for number, sample in enumerate(samples) if sample.at_s <= samples[-1].at_s - seconds]
    return list(samples)[begins[-1] :] if begins else []


def _earlier(window: Sequence[Sample], seconds: float) -> Sample:
    """The newest sample that is so old."""
    return [sample for sample in window if sample.at_s <= window[-1].at_s - seconds][-1]


class LagAlarm:
    """Says once that a group is behind by more than its limit, and once that it is below half of it again."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._behind = False

    def see(self, lag: int) -> bool:
        """Whether this lag is news."""
        news = lag > self._limit if not self._behind else lag <= self._limit // 2
        self._behind ^= news
        return news


class Patience:
    """How long a process is left alone after a restart: twice as long after each that got nothing of its group moving.

    It may only be slow: a restart takes away what it had begun, and on a busy machine the next one would come before it is
    as far again, and so on for ever.
    """

    def __init__(self) -> None:
        self._at_s: float | None = None
        self._rest_s = MIN_BETWEEN_RESTARTS_S
        self._positions: Mapping[Partition, int] = {}

    def restarted(self, at_s: float, positions: Mapping[Partition, int]) -> None:
        """A restart at this time, with its group's positions then (none: it has no group, and is given no longer)."""
        first = self._at_s is None or not positions
        moved = any(self._positions.get(place, 0) < position for place, position in positions.items())
        self._rest_s = MIN_BETWEEN_RESTARTS_S if first or moved else min(2 * self._rest_s, MAX_BETWEEN_RESTARTS_S)
        self._at_s, self._positions = at_s, dict(positions)

    def lasts(self, at_s: float) -> bool:
        """Whether it is to be left alone at this time."""
        return self._at_s is not None and at_s - self._at_s < self._rest_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A process under watch.

    ``group``: its consumer group, empty for none. ``member``: the name its client goes by in the group where several share
    it; empty when it is the only one. ``writes``: topics (the broker's names) whose ends must follow what it says it wrote.
    """

    group: str = ""
    member: str = ""
    writes: tuple[str, ...] = ()


class Watched(Protocol):
    """What the watchdog needs of the supervisor. Called from the watchdog's thread."""

    def ready_since(self, name: str) -> float | None:
        """When a process became ready (seconds since the epoch); None while it is not: nothing is said of it then."""
        ...

    def health_of(self, name: str) -> str:
        """Where a process answers about its health; empty for none."""
        ...

    def restart(self, name: str, reason: str) -> None:
        """Restart a process."""
        ...


class Watchdog:
    """Looks at every process and its group, and asks for the restart of what is assigned but idle.

    Parameters
    ----------
    watched
        the supervisor.
    followed
        what to look at, by process name.
    sampler
        asks Kafka.
    incidents
        is told what was found.
    settings
        limits.
    """

    def __init__(
        self,
        watched: Watched,
        followed: Mapping[str, Followed],
        sampler: Sampler,
        incidents: Incidents,
        settings: WatchdogSettings | None = None,
    ) -> None:
        self._watched = watched
        self._followed = followed
        self._sampler = sampler
        self._incidents = incidents
        self._settings = settings or WatchdogSettings()
        self._stopping = threading.Event()
        self._samples: dict[str, deque[Sample]] = {name: deque(maxlen=32) for name in followed}
        self._written: dict[str, deque[Written]] = {name: deque(maxlen=32) for name in followed}
        self._silence: dict[str, Silence] = {}
        self._alarms: dict[str, LagAlarm] = {}
        self._generation: dict[str, float | None] = {}
        self._unanswered_since: dict[str, float] = {}
        self._patience: dict[str, Patience] = {name: Patience() for name in followed}
        self._nothing_before: dict[tuple[str, Partition], tuple[int, int]] = {}
        self._waiting_since: dict[tuple[str, Partition], tuple[int, float]] = {}
        declare("skeet_stalls_total", followed)
        Source("skeet_group_lag_records", self._lags).register()

    def run(self) -> None:
        """Sample until stopped. A broker that is away is no news: nothing can be said about progress then."""
        while not self._stopping.wait(SAMPLE_INTERVAL_S):
            self.look()

    def look(self) -> None:
        """Look at each process once and judge it; then write what there is to tell."""
        taken: dict[str, Sample | None] = {}
        for name, followed in self._followed.items():
            if not self._follows(name):
                continue
            pulse = self._feel(name)
            if followed.group:
                self._look_at_group(name, followed, taken)
            if followed.writes and pulse is not None:
                self._look_at_writer(name, followed, pulse)
        self._look_at_coordinators()
        self._incidents.flush()

    def stop(self) -> None:
        """End :meth:`run` soon."""
        self._stopping.set()
        self._sampler.close()

    def _follows(self, name: str) -> bool:
        since = self._watched.ready_since(name)
        if since != self._generation.get(name):
            self._samples[name].clear()
            self._written[name].clear()
            self._silence.pop(name, None)
            self._generation[name] = since
        return since is not None

    def _feel(self, name: str) -> Pulse | None:
        url = self._watched.health_of(name)
        if not url:
            return None
        pulse = probe(url)
        trouble = self._silence.setdefault(name, Silence(self._settings.silent_after_s)).hear(pulse)
        if trouble:
            event = GroupStalled(process=name, group="", topic="", partition=-1, position=-1, end=-1, reason=trouble)
            self._stalled(name, [event], f"it hangs {trouble}")
        return pulse

    def _look_at_group(self, name: str, followed: Followed, taken: dict[str, Sample | None]) -> None:
        if followed.group not in taken:
            taken[followed.group] = self._sampled(followed.group)
        sample = taken[followed.group]
        if sample is None:
            self._samples[name].clear()
            return
        self._samples[name].append(owned(sample, followed.member))
        try:
            self._judge(name, stuck(self._samples[name]) or forgotten(self._samples[name]))
        except InfrastructureError:
            self._samples[name].clear()

    def _sampled(self, group: str) -> Sample | None:
        try:
            sample = self._sampler.sample(group)
        except InfrastructureError:
            self._unanswered_since.setdefault(group, time.monotonic())
            return None
        self._unanswered_since.pop(group, None)
        limit = self._settings.lag_limit
        self._incidents.lag[group] = sample.lag
        if self._alarms.setdefault(group, LagAlarm(limit)).see(sample.lag):
            self._incidents.add(group, GroupLagged(group=group, lag=sample.lag, limit=limit))
        return sample

    def _look_at_coordinators(self) -> None:
        """A broker that was killed and came back on a busy machine has been seen to serve its topics, and some of its groups
        never again (its log: "out of sync with the underlying log"). Only another restart helps."""
        if BROKER not in self._followed or self._watched.ready_since(BROKER) is None:
            self._unanswered_since.clear()
            return
        now_s = time.monotonic()
        groups = sorted(group for group, since in self._unanswered_since.items() if now_s - since >= UNANSWERED_S)
        if not groups or self._rests(BROKER):
            return
        try:
            self._sampler.written(())
        except InfrastructureError:
            return
        reason = f"answers, but not for the positions of {', '.join(groups)} for {UNANSWERED_S:.0f} s or more"
        event = GroupStalled(
            process=BROKER, group=groups[0], topic="", partition=-1, position=-1, end=-1, reason=reason
        )
        self._stalled(BROKER, [event], reason)
        self._unanswered_since.clear()

    def _look_at_writer(self, name: str, followed: Followed, pulse: Pulse) -> None:
        """A client that hangs inside takes records and writes none: what the process says against what the log holds."""
        said = sum(pulse.work.values())
        try:
            ends = self._sampler.written(followed.writes)
        except InfrastructureError:
            self._written[name].clear()
            return
        if not pulse.trouble:
            self._written[name].append(Written(at_s=pulse.at_s, said=said, ends=ends))
        if mute(self._written[name]):
            reason = (
                f"{said:.0f} records handed to its client; its topics have stood at {ends} for {MUTE_S:.0f} s or more"
            )
            topic = followed.writes[0]
            event = GroupStalled(
                process=name, group="", topic=topic, partition=-1, position=ends, end=ends, reason=reason
            )
            self._stalled(name, [event], reason)

    def _judge(self, name: str, suspected: list[Partition]) -> None:
        if not suspected or self._rests(name):
            return
        partitions = [place for place in suspected if self._delivers(name, place)]
        if not partitions:
            return
        sample, group = self._samples[name][-1], self._followed[name].group
        reason = f"position stood still for {STILL_S:.0f} s or more with records before it"
        events = [
            GroupStalled(
                process=name,
                group=group,
                topic=topic,
                partition=number,
                position=sample.committed[topic, number],
                end=sample.end.get((topic, number), 0),
                reason=reason,
            )
            for topic, number in partitions
        ]
        places = ", ".join(f"{topic}/{number}" for topic, number in partitions)
        self._stalled(name, events, f"{reason} in {places}")

    def _rests(self, name: str) -> bool:
        return self._patience[name].lasts(time.monotonic())

    def _stalled(self, name: str, events: list[GroupStalled], reason: str) -> None:
        if self._rests(name):
            return
        samples = self._samples[name]
        self._patience[name].restarted(time.monotonic(), samples[-1].committed if samples else {})
        self._samples[name].clear()
        self._written[name].clear()
        logger().warning("stuck", process=name, reason=reason)
        counter("skeet_stalls_total", name).inc()
        for event in events:
            self._incidents.add(name, event)
        self._watched.restart(name, reason)

    def _lags(self) -> dict[tuple[str, ...], float]:
        return {(group,): float(lag) for group, lag in dict(self._incidents.lag).items()}

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


def owned(sample: Sample, member: str) -> Sample:
    """The part of a sample that one member answers for. One that nobody owns is everybody's: somebody should have it."""
    if not member:
        return sample
    places = {place for place in sample.committed if sample.owner.get(place, member) == member}
    return Sample(
        at_s=sample.at_s,
        committed={place: at for place, at in sample.committed.items() if place in places},
        end={place: at for place, at in sample.end.items() if place in places},
        owner=sample.owner,
    )
