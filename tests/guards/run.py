"""``make guards``: take each guard away in a copy of the checkout, and require its test to fail.

Exit 0 when every patch was caught; 1 when one was not, does not apply, or its test fails even with the guard in place.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path

from guards import FAILED, Guard, applies, copy_checkout, failing, guards, rendered, run_tests
from rich.console import Console
from rich.table import Table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="patches by name, or parts of names; all when none is given")
    parser.add_argument("--document", action="store_true", help="print docs/guarantees.md and do nothing else")
    parser.add_argument("--json", action="store_true", help="print the verdicts as JSON")
    options = parser.parse_args()
    if options.document:
        sys.stdout.write(rendered())
        return 0
    chosen = [g for g in guards() if not options.names or any(part in g.name for part in options.names)]
    if not chosen:
        parser.error(f"no patch is named like {', '.join(options.names)}")
    console = Console(stderr=True)
    trouble = _with_guards(chosen, console)
    verdicts = {}
    for guard in chosen:
        started = time.monotonic()
        verdicts[guard.name] = trouble.get(guard.test) or _without(guard)
        console.print(f"{guard.name}: {verdicts[guard.name]} ({time.monotonic() - started:.0f} s)", highlight=False)
    if options.json:
        sys.stdout.write(json.dumps(verdicts, indent=1) + "\n")
    else:
        Console().print(_table(chosen, verdicts))
    return 0 if all(verdict == CAUGHT for verdict in verdicts.values()) else 1


CAUGHT = "caught"


def _with_guards(chosen: list[Guard], console: Console) -> dict[str, str]:
    """What is wrong with tests that do not even pass with every guard in place, by test. Who fails is tried once more, alone."""
    tests = sorted({guard.test for guard in chosen})
    with tempfile.TemporaryDirectory() as folder:
        copy_checkout(Path(folder))
        with console.status(f"{len(tests)} tests with every guard in place"):
            suspects = failing(Path(folder), tests)
        trouble = {}
        for test in suspects:
            console.print(f"{test}: failed with every guard in place; once more, alone", highlight=False)
            if run_tests(Path(folder), [test]).returncode:
                trouble[test] = "its test fails with the guard in place"
        return trouble


def _without(guard: Guard) -> str:
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder)
        copy_checkout(checkout)
        if not applies(guard, checkout):
            return "the patch does not apply"
        done = run_tests(checkout, [guard.test])
    if done.returncode == FAILED and re.search(r"\d+ failed", done.stdout):
        return CAUGHT
    return "NOT caught" if done.returncode == 0 else f"its test could not run (pytest ended with {done.returncode})"


def _table(chosen: list[Guard], verdicts: dict[str, str]) -> Table:
    table = Table("promise", "patch", "verdict")
    for guard in chosen:
        table.add_row(guard.promise, guard.name, verdicts[guard.name])
    caught = sum(verdict == CAUGHT for verdict in verdicts.values())
    table.caption = f"{caught} of {len(chosen)} caught"
    return table


if __name__ == "__main__":
    sys.exit(main())
