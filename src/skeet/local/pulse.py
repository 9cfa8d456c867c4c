"""Asks processes how they are. ``/livez`` finds one that hangs, is stopped, or hands records to a client that writes none.

Progress of consumer groups is the watchdog's; this is for what has no group (feed, exchange, strategies), and for loops that
hang between two records. :class:`Silence` and :func:`mute` decide and are pure.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException

PROBE_TIMEOUT_S = 2.0
MIN_PROBES = 3
"""A machine that was suspended finds everybody silent at its first look; so many looks in a row must agree."""
MUTE_S = 20.0
"""Records handed over that did not reach the log for so long will not: a broker that is away is seen elsewhere."""
MUTE_WAITED_S = MUTE_S / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """An answer of ``/livez``. ``trouble``: why it is none, or not 200; ``work``: what the process says it has done."""

    at_s: float
    trouble: str = ""
    work: Mapping[str, float] = field(default_factory=dict)


def probe(url: str) -> Pulse:
    """Ask once; never raises."""
    try:
        with urllib.request.urlopen(f"{url}/livez", timeout=PROBE_TIMEOUT_S) as answer:
            return Pulse(at_s=time.monotonic(), work=json.loads(answer.read())["work"])
    except urllib.error.HTTPError as error:
        return Pulse(at_s=time.monotonic(), trouble=_reasons(error))
    except (OSError, HTTPException, ValueError, KeyError) as error:
        return Pulse(at_s=time.monotonic(), trouble=f"/livez is not answered: {error}")


def is_ready(url: str) -> bool:
    """Whether ``/readyz`` answers 200: the process does its work and has read its topics. Never raises."""
    try:
        urllib.request.urlopen(f"{url}/readyz", timeout=PROBE_TIMEOUT_S).close()
    except (OSError, HTTPException):  # not 200, refused, cut off in the middle, too late
        return False
    return True


def _reasons(error: urllib.error.HTTPError) -> str:
    try:
        said = json.loads(error.read())["reasons"]
        return "; ".join(f"{name} {reason}" for name, reason in said.items())
    except (OSError, ValueError, KeyError):
        return f"/livez answers {error.code}"


class Silence:
    """How long a process has been in trouble without a break."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since_s: float | None = None
        self._probes = 0

    def hear(self, pulse: Pulse) -> str:
        """Why it must be restarted after this pulse; empty when it need not be."""
        if not pulse.trouble:
            self._since_s, self._probes = None, 0
            return ""
        self._since_s = pulse.at_s if self._since_s is None else self._since_s
        self._probes += 1
        silent_s = pulse.at_s - self._since_s
        if silent_s < self._limit_s or self._probes < MIN_PROBES:
            return ""
        return f"for {silent_s:.0f} s: {pulse.trouble}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a writer says it handed to its client, and the sum of the ends of its topics, at one moment."""

    at_s: float
    said: float
    ends: int


def mute(samples: Sequence[Written]) -> bool:
    """Whether records handed over long enough ago are not in the log, which stood still all the while; oldest first."""
    if not samples:
        return False
    window = [each for each in samples if each.at_s >= samples[-1].at_s - MUTE_S - 5.0]
    if window[-1].at_s - window[0].at_s < MUTE_S:
        return False
    waited = [each for each in window if each.at_s <= window[-1].at_s - MUTE_WAITED_S][-1]
    return waited.said > window[0].said and all(each.ends == window[0].ends for each in window)
