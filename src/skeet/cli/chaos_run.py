"""A chaos run: fault after fault, each followed by waiting until orders trade again, then quiet, then the judgement."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from skeet.cli import demo
from skeet.cli.chaos_faults import Faults, lenient_about_ids
from skeet.cli.chaos_platform import ChaosPlatform
from skeet.cli.chaos_report import ChaosReport, FaultResult, doubled_orders, percentile
from skeet.cli.chaos_schedule import Fault
from skeet.cli.chaos_trades import TradeWatch
from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.core.values import NS_PER_S
from skeet.verify.findings import CannotVerify
from skeet.verify.run import verify

RECOVERY_DEADLINE_S = 120.0
CALM_S = 3.0
"""Between a recovery and the next fault, at least."""
LOOK_S = 0.2

Tell = Callable[[FaultResult, int], None]
"""Called after each fault with its result and how many orders traded so far."""


class ChaosRun:
    """One run on a platform that trades."""

    def __init__(self, settings: Settings, seed: int, minutes: float, tell: Tell) -> None:
        self._settings = settings
        self._seed = seed
        self._minutes = minutes
        self._tell = tell
        self._platform = ChaosPlatform(settings)
        self._faults = Faults(settings, self._platform)
        self._results: list[FaultResult] = []
        self._complaints: list[str] = []
        self._over_ns: list[int] = []

    def run(self, schedule: Sequence[Fault]) -> ChaosReport:
        """Do the schedule until it or the time ends, or a fault is not recovered from."""
        began, began_ns = time.monotonic(), time.time_ns()
        with TradeWatch(self._settings) as watch:
            for fault in schedule:
                time.sleep(max(CALM_S if self._results else 0.0, began + fault.at_s - time.monotonic()))
                at_s = time.monotonic() - began
                if at_s > self._minutes * 60:
                    break
                result = self._one(fault, at_s, watch)
                self._results.append(result)
                self._tell(result, watch.traded)
                if self._complaints:
                    break
            time.sleep(max(0.0, began + self._minutes * 60 - time.monotonic()) if not self._complaints else 0.0)
            self._quiesce()
            traded = watch.between(began_ns, time.time_ns())
            results = self._with_trades(watch)
        return self._report(results, traded)

    def _one(self, fault: Fault, at_s: float, watch: TradeWatch) -> FaultResult:
        try:
            done = self._faults.do(fault)
        except InfrastructureError as error:
            self._complaints.append(f"{fault.text}: {error}")
            self._over_ns.append(time.time_ns())
            return FaultResult(at_s=round(at_s, 1), what=fault.text, fired=False, note=str(error))
        self._over_ns.append(done.over_ns)
        recovery_s, whole_s = recovered(self._settings, self._platform, watch, done.over_ns)
        if done.mend is not None:
            done.mend()
        if recovery_s is None or whole_s is None:
            trouble = "no new order filled" if recovery_s is None else f"not ready: {', '.join(self._platform.missing)}"
            self._complaints.append(f"{fault.text}: {trouble} within {RECOVERY_DEADLINE_S:.0f} s")
        return FaultResult(
            at_s=round(at_s, 1),
            what=fault.text,
            fired=done.fired,
            note=done.note,
            recovery_s=recovery_s if done.fired else None,
            whole_s=whole_s if done.fired else None,
        )

    def _quiesce(self) -> None:
        try:
            demo.quiesce(self._settings)
        except InfrastructureError as error:
            self._complaints.append(f"not quiet at the end: {error}")

    def _with_trades(self, watch: TradeWatch) -> list[FaultResult]:
        ends = [*self._over_ns[1:], time.time_ns()]
        return [
            FaultResult(
                at_s=each.at_s,
                what=each.what,
                fired=each.fired,
                note=each.note,
                recovery_s=each.recovery_s,
                whole_s=each.whole_s,
                traded=watch.between(begin_ns, end_ns),
            )
            for each, begin_ns, end_ns in zip(self._results, self._over_ns, ends, strict=True)
        ]

    def _report(self, results: list[FaultResult], traded: int) -> ChaosReport:
        verify_exit = self._verify()
        self._complaints += doubled_orders(self._settings.data)
        if not traded:
            self._complaints.append("no order traded")
        recoveries = [each.recovery_s for each in results if each.recovery_s is not None]
        return ChaosReport(
            seed=self._seed,
            minutes=self._minutes,
            faults=results,
            traded=traded,
            p50_s=percentile(recoveries, 0.5),
            max_s=percentile(recoveries, 1.0),
            verify_exit=verify_exit,
            complaints=self._complaints,
        )

    def _verify(self) -> int:
        try:
            report = verify(self._settings)
        except CannotVerify as error:
            self._complaints.append(f"verify: {error}")
            return 2
        self._complaints += [f"verify {c.name}: {text}" for c in report.checks for text in c.differences]
        self._complaints += [f"verify {c.name} was not judged: {c.not_judged}" for c in report.checks if c.not_judged]
        if report.exit_code and not self._complaints:
            self._complaints.append(f"`skeet verify` ended with {report.exit_code}")
        return report.exit_code


def recovered(
    settings: Settings, platform: ChaosPlatform, watch: TradeWatch, over_ns: int
) -> tuple[float | None, float | None]:
    """Wait until all is well after a fault that was over at ``over_ns``, at most :data:`RECOVERY_DEADLINE_S`.

    Returns the seconds until the first order authorised after it was filled, and until every process was ready; None for
    what did not come. The exchange forgets what it was told when it dies, so it is told again to take ids twice.
    """
    recovery_s: float | None = None
    whole_s: float | None = None
    lenient = False
    until = time.monotonic() + RECOVERY_DEADLINE_S
    while time.monotonic() < until and not (recovery_s is not None and whole_s is not None and lenient):
        lenient = lenient or lenient_about_ids(settings)
        if whole_s is None and platform.whole:
            whole_s = _seconds(time.time_ns() - over_ns)
        if recovery_s is None and (trade := watch.first_after(over_ns)) is not None:
            recovery_s = _seconds(trade.filled_ns - over_ns)
        time.sleep(LOOK_S)
    return recovery_s, whole_s


def _seconds(ns: int) -> float:
    return round(max(0, ns) / NS_PER_S, 2)
