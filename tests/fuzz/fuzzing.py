"""Runs the fuzz targets for a while, and says how many examples each was given: ``make fuzz SECONDS=60``."""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings

sys.path.insert(0, str(Path(__file__).parent))

from targets import TARGETS, Target

from skeet.core.errors import SkeetError

ROUND = 500


def fuzz(target: Target, *, examples: int, derandomize: bool = True) -> int:
    """Give the target so many examples; returns how many it took. What is no SkeetError is raised, made small."""
    count = 0

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=derandomize,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
    )
    @given(target.given)
    def run(value: Any) -> None:
        nonlocal count
        count += 1
        try:
            target.run(value)
        except SkeetError:
            pass

    run()
    return count


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(seconds: float) -> int:
    """Each target for so long. Returns the exit code: how many of them let something escape."""
    failed = total = 0
    for target in TARGETS:
        until, count, escaped = time.monotonic() + seconds, 0, ""
        while time.monotonic() < until and not escaped:
            try:
                count += fuzz(target, examples=ROUND, derandomize=False)
            except Exception as error:
                escaped = f"ESCAPED {''.join(traceback.format_exception(error))[-1500:]}"
                failed += 1
        total += count
        _say(f"{target.name:45} {count:>9} examples  {escaped or 'only typed errors'}")
    _say(f"{'all':45} {total:>9} examples, {failed} of {len(TARGETS)} targets let something escape")
    return failed


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0))
