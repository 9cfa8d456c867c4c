"""Every metric of SKEET, in one table: name, kind, labels, meaning. ``docs/metrics.md`` is written from it.

Names follow Prometheus: prefix ``skeet_``, unit last, ``_total`` on counters. A process exposes only what it has touched, so
each role names its label values when it starts (:func:`declare`): a counter that never moved is 0, not absent.

Updating costs about a microsecond; whoever does it in a loop over records keeps the child that :func:`counter` or
:func:`histogram` returned. What is looked up when somebody asks (lag, ages) is a :class:`Source`, and costs the loop nothing.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from skeet.core.errors import BugError

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""From half a millisecond (a hop through Kafka takes one to three) to what only a fault takes."""


class Kind(StrEnum):
    """How a metric behaves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """One metric. ``roles`` says who exposes it."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    roles: str


def _spec(name: str, kind: Kind, labels: str, roles: str, meaning: str) -> MetricSpec:
    return MetricSpec(name=name, kind=kind, labels=tuple(labels.split()), roles=roles, meaning=meaning)


CONSUMERS = "desk, gateway, worker, strategy, projections"

METRICS: dict[str, MetricSpec] = {
    spec.name: spec
    for spec in (
        _spec("skeet_build_info", Kind.GAUGE, "version python role", "all", "Always 1; what runs."),
        _spec("skeet_ready", Kind.GAUGE, "role", "all", "1 while `/readyz` answers 200."),
        _spec(
            "skeet_loop_age_seconds",
            Kind.GAUGE,
            "loop",
            "all",
            "Since a main loop last went round; `/livez` looks at it.",
        ),
        _spec(
            "skeet_consumer_lag_records",
            Kind.GAUGE,
            "group topic partition",
            CONSUMERS,
            "Offsets between the position and the last stable end; 0 once the end of the partition was reported there.",
        ),
        _spec(
            "skeet_hop_latency_seconds",
            Kind.HISTOGRAM,
            "hop",
            "worker, desk, gateway",
            "One hop of an order's way: frame_to_log, cause_to_command, command_to_decision, decision_to_attempt, "
            "attempt_to_socket, socket_to_answer.",
        ),
        _spec(
            "skeet_orders_total",
            Kind.COUNTER,
            "outcome",
            "desk",
            "Order events committed: authorised, denied, rejected, filled (one for each execution), canceled.",
        ),
        _spec(
            "skeet_transactions_total",
            Kind.COUNTER,
            "outcome",
            "desk, gateway",
            "Kafka transactions: committed, aborted.",
        ),
        _spec(
            "skeet_dead_letters_total",
            Kind.COUNTER,
            "role",
            "desk, worker, trade-flow, strategy, feed",
            "Records given up.",
        ),
        _spec(
            "skeet_late_records_total",
            Kind.COUNTER,
            "rule reason",
            "trade-flow",
            "Records that came too late for windows that were published (`market.late.v1`), by whose windows and reason.",
        ),
        _spec(
            "skeet_records_published_total",
            Kind.COUNTER,
            "role",
            "feed",
            "Records handed to the producer; see the watchdog.",
        ),
        _spec(
            "skeet_projection_age_seconds",
            Kind.GAUGE,
            "projection",
            "projections",
            "How old the last stored record is while newer ones wait; 0 when there are none.",
        ),
        _spec("skeet_venue_sessions", Kind.GAUGE, "state", "gateway", "Accounts at their venue: ready, waiting."),
        _spec("skeet_kill_switch_active", Kind.GAUGE, "scope", "desk", "1 while the kill switch of the scope is on."),
        _spec("skeet_kill_latch_entries", Kind.GAUGE, "scope", "gateway", "1 for each entry in the kill latch file."),
        _spec("skeet_process_up", Kind.GAUGE, "process", "supervisor", "1 while the process is ready."),
        _spec("skeet_process_restarts_total", Kind.COUNTER, "process", "supervisor", "Starts after the first."),
        _spec(
            "skeet_stalls_total", Kind.COUNTER, "process", "supervisor", "Times the watchdog found it idle with work."
        ),
        _spec(
            "skeet_group_lag_records",
            Kind.GAUGE,
            "group",
            "supervisor",
            "Offsets that the group has not committed, seen from outside; control markers count.",
        ),
        _spec("skeet_strategy_instances", Kind.GAUGE, "state", "strategies", "Instances: running, waiting."),
        _spec(
            "skeet_venue_requests_total",
            Kind.COUNTER,
            "kind",
            "sim",
            "Requests the simulated exchange answered, by kind.",
        ),
        _spec("skeet_queries_total", Kind.COUNTER, "outcome", "clickhouse", "Statements answered: ok, refused."),
        _spec(
            "skeet_registry_requests_total", Kind.COUNTER, "status", "registry", "Requests answered, by HTTP status."
        ),
    )
}

disable_created_metrics()  # type: ignore[no-untyped-call]  # else a series more for each counter

REGISTRY = CollectorRegistry(auto_describe=False)
"""Of this process. Not the library's own: tests and embedding programs have theirs."""

_made: dict[str, Counter | Gauge | Histogram] = {}


def counter(name: str, *labels: str) -> Counter:
    """The counter of the table with these label values, in the table's order. Keep it where it moves often.

    Raises
    ------
    BugError
        the table has no such counter.
    """
    found = _metric(name, Kind.COUNTER)
    assert isinstance(found, Counter)
    return found.labels(*labels)


def gauge(name: str, *labels: str) -> Gauge:
    """As :func:`counter`, a gauge."""
    found = _metric(name, Kind.GAUGE)
    assert isinstance(found, Gauge)
    return found.labels(*labels)


def histogram(name: str, *labels: str) -> Histogram:
    """As :func:`counter`, a histogram of seconds."""
    found = _metric(name, Kind.HISTOGRAM)
    assert isinstance(found, Histogram)
    return found.labels(*labels)


def observe_all(child: Histogram, seconds: Sequence[float]) -> None:
    """:meth:`Histogram.observe` of each, for a microsecond in all instead of for each."""
    counts = Counts(bisect_left(child._upper_bounds, each) for each in seconds)
    child._sum.inc(sum(seconds))
    for bucket, count in counts.items():
        child._buckets[bucket].inc(count)


def declare(name: str, values: Iterable[str]) -> None:
    """Expose a metric of one label at zero for each of these values."""
    for value in values:
        match METRICS[name].kind:
            case Kind.COUNTER:
                counter(name, value)
            case Kind.GAUGE:
                gauge(name, value)
            case Kind.HISTOGRAM:
                histogram(name, value)


def _metric(name: str, kind: Kind) -> Counter | Gauge | Histogram:
    found = _made.get(name)
    if found is not None:
        return found
    spec = METRICS.get(name)
    if spec is None or spec.kind is not kind:
        raise BugError(f"{name} is no {kind} of the table of metrics")
    if kind is Kind.COUNTER:
        made: Counter | Gauge | Histogram = Counter(name, spec.meaning, spec.labels, registry=REGISTRY)
    elif kind is Kind.GAUGE:
        made = Gauge(name, spec.meaning, spec.labels, registry=REGISTRY)
    else:
        made = Histogram(name, spec.meaning, spec.labels, registry=REGISTRY, buckets=LATENCY_BUCKETS_S)
    _made[name] = made
    return made


Values = Mapping[tuple[str, ...], float]


class Source(Collector):
    """A gauge or counter of the table that is looked up when somebody asks, in the thread of whoever asks.

    ``look`` returns the value of each combination of labels. One that raises is left out of this answer: a closed client must
    not hide the rest.
    """

    def __init__(self, name: str, look: Callable[[], Values]) -> None:
        self._spec = METRICS[name]
        self._look = look

    def collect(self) -> Iterator[Metric]:
        """Prometheus's protocol."""
        family_of = CounterMetricFamily if self._spec.kind is Kind.COUNTER else GaugeMetricFamily
        family = family_of(self._spec.name, self._spec.meaning, labels=self._spec.labels)
        try:
            for labels, value in self._look().items():
                family.add_metric(labels, value)
        except Exception:  # whatever a client of another thread says while it ends
            return
        if family.samples:
            yield family

    def describe(self) -> Iterator[Metric]:
        """Nothing in advance: several of one name may be there, one for each consumer."""
        return iter(())

    def register(self) -> Source:
        """Expose it from now on. Returns itself."""
        REGISTRY.register(self)
        return self

    def unregister(self) -> None:
        """Expose it no more; idempotent."""
        try:
            REGISTRY.unregister(self)
        except KeyError:
            return


def exposition() -> bytes:
    """All metrics of this process in Prometheus's text format."""
    return generate_latest(REGISTRY)


def describe_process(role: str) -> None:
    """Build, memory, processor time and file handles of this process. Once, at its start."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        release = version("skeet")
    except PackageNotFoundError:
        release = "source"
    gauge("skeet_build_info", release, sys.version.split()[0], role).set(1)
    if not any(isinstance(each, ProcessCollector) for each in list(REGISTRY._collector_to_names)):
        ProcessCollector(registry=REGISTRY)
        PlatformCollector(registry=REGISTRY)


INTRODUCTION = """# Metrics

Written by `python -m skeet.metrics > docs/metrics.md` from the code; a test keeps it current.

Every process of ours answers `/livez`, `/readyz` and `/metrics` on an address that `skeet status` shows.
`skeet connect metrics` prints the Prometheus configuration that scrapes them all.

- `/livez`: 200 while the main loop goes round; 503 with the loops that do not. A supervisor should restart on it.
- `/readyz`: 200 once the process does its work and has read its topics to their end; 503 with a list of reasons.
- `/metrics`: the table below, and `process_*` and `python_info` of the Prometheus client.

| metric | kind | labels | exposed by | meaning |
|---|---|---|---|---|
"""


def document() -> str:
    """``docs/metrics.md``."""
    rows = (
        f"| `{spec.name}` | {spec.kind} | {', '.join(f'`{label}`' for label in spec.labels) or '-'} "
        f"| {spec.roles} | {spec.meaning} |\n"
        for spec in METRICS.values()
    )
    return INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(document())
