"""What the supervisor tells ``platform.events.v1``: stalls, lag, restarts. The newest is kept for ``skeet status``.

The supervisor holds no Kafka client (one has been seen to fall over a dying broker), so the sampler's process writes. Events
wait, in order and within a limit, while Kafka is away: it may be the one that was restarted.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from skeet.core.errors import InfrastructureError
from skeet.core.platform import GroupLagged, GroupStalled, ProcessRestarted

MAX_WAITING = 1_000
"""Events that wait for Kafka; older ones go. At one restart a second that is a quarter of an hour without a broker."""

Incident = GroupStalled | GroupLagged | ProcessRestarted


class Writer(Protocol):
    """Who can write to the log."""

    def publish(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Write these, acknowledged on return; InfrastructureError when Kafka has no answer."""
        ...


class Incidents:
    """Collects events from any thread; :meth:`flush` writes them. ``path`` holds the newest and the lag of each group."""

    def __init__(self, writer: Writer, path: Path) -> None:
        self._writer = writer
        self._path = path
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MAX_WAITING)
        self._last = read_report(path).get("incident")
        self._written = ""
        self.lag: dict[str, int] = {}

    def add(self, key: str, event: Incident) -> None:
        """Something happened now."""
        kind = type(event).__name__
        at_ns = time.time_ns()
        self._waiting.append({"type": kind, "key": key, "fields": asdict(event), "at_ns": at_ns})
        self._last = {"at_ns": at_ns, "type": kind, "key": key, "text": text_of(event)}

    def flush(self) -> None:
        """Write what waits, and the report. Kafka being away is no error: it waits on."""
        waiting = list(self._waiting)
        if waiting:
            try:
                self._writer.publish(waiting)
            except InfrastructureError:
                pass
            else:
                for _ in waiting:
                    self._waiting.popleft()
        text = json.dumps({"incident": self._last, "lag": dict(self.lag)})
        if text != self._written:
            scratch = self._path.with_suffix(".tmp")
            scratch.write_text(text)
            scratch.replace(self._path)
            self._written = text


def text_of(event: Incident) -> str:
    """The event for people."""
    match event:
        case GroupStalled():
            place = f"{event.topic}/{event.partition}" if event.topic else "no topic"
            return f"{event.process} stalled at {place}, position {event.position}, end {event.end}: {event.reason}"
        case GroupLagged():
            word = "is behind by" if event.lag > event.limit else "has caught up to"
            return f"{event.group} {word} {event.lag} (limit {event.limit})"
        case ProcessRestarted():
            return f"{event.process} was restarted ({event.how}), {event.restarts} times by now"


def read_report(path: Path) -> dict[str, Any]:
    """The report in the file; empty when there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found
