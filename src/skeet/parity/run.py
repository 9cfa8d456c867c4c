"""All deep checks, and one hash of what each made: equal wherever and whenever they run over the same log."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from skeet.config import Settings
from skeet.parity.desk import check_desk
from skeet.streams.registry import registered_codec
from skeet.verify.findings import Check, Report


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepReport:
    """The checks' results, and a hash by check."""

    report: Report
    hashes: dict[str, str]


def verify_deep(settings: Settings, progress: Callable[[int], None] = lambda _: None) -> DeepReport:
    """Fold and decide everything again.

    Raises
    ------
    InfrastructureError
        Kafka or the registry did not answer.
    """
    begun = time.perf_counter()
    codec = registered_codec(settings)
    fold, decisions, hashes, records = check_desk(settings, codec, progress)
    fold.duration_s = decisions.duration_s = time.perf_counter() - begun
    checks: tuple[Check, ...] = (fold, decisions)
    report = Report(checks=checks, records=records, duration_s=time.perf_counter() - begun)
    return DeepReport(report=report, hashes=hashes)
