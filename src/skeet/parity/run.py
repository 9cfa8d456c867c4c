"""All deep checks, and one hash of what each made: equal wherever and whenever they run over the same log."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from skeet.config import Settings
from skeet.parity.agents import AgentsReplay
from skeet.parity.answers import check_answers
from skeet.parity.bars import check_bars
from skeet.parity.desk import check_desk, combined
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
    answers = Check(
        name="A",
        title="every command and report that the desk read was answered",
        covers="what the topics still hold",
    )
    with answers.timed():
        check_answers(settings, codec, answers)
    if not answers.compared and not answers.differences:
        answers.not_judged = "the desk has read nothing that the topics still hold"
    agents = Check(
        name="S",
        title="strategies run again along their journals give the recorded commands",
        covers="what the topics still hold",
    )
    with agents.timed():
        replay = AgentsReplay(settings, codec, agents)
        hashes["S"] = combined(replay.run())
    if not agents.compared and not agents.differences:
        agents.not_judged = "no strategy has written a journal"
    bars = Check(
        name="B",
        title="bars made again from the trades they name equal the published ones",
        covers="what the topics still hold, from the second bar of a series on",
    )
    with bars.timed():
        hashes["B"] = combined(check_bars(settings, codec, bars))
    if not bars.compared and not bars.differences:
        bars.not_judged = "no bar was published"
    report = Report(
        checks=(fold, decisions, answers, agents, bars),
        records=records + replay.records_read,
        duration_s=time.perf_counter() - begun,
    )
    return DeepReport(report=report, hashes=hashes)
