"""A supervisor over a tiny table of fake processes, run as a program by the supervisor's tests: DATA is argv[1]."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from skeet.config import load_settings
from skeet.local.installation import Installation
from skeet.local.plan import ProcessSpec
from skeet.local.supervisor import Supervisor
from skeet.process import StopSignal, configure_logging
from skeet.streams import crash_points

# Ready at once; ends on SIGTERM; has a child of its own, whose pid it writes beside its ready file.
WORKER = textwrap.dedent("""
    import os, pathlib, signal, subprocess, sys
    helper = subprocess.Popen(["sleep", "600"])
    ready = pathlib.Path(os.environ["SKEET_READY_FILE"])
    ready.with_suffix(".helper").write_text(str(helper.pid))
    signal.signal(signal.SIGTERM, lambda *_: (helper.kill(), sys.exit(0)))
    ready.write_text("")
    print("at work", flush=True)
    signal.pause()
""")


def specs() -> tuple[ProcessSpec, ...]:
    return (
        ProcessSpec(name="log", command=(sys.executable, "-c", WORKER)),
        ProcessSpec(name="step", command=(sys.executable, "-c", ""), after=("log",), once=True),
        ProcessSpec(name="desk", command=(sys.executable, "-c", WORKER), after=("step",)),
    )


if __name__ == "__main__":
    configure_logging("supervisor")
    crash_points.install(load_settings(data=Path(sys.argv[1])))
    installation = Installation(Path(sys.argv[1]))
    installation.create()
    Supervisor(installation, specs()).run(StopSignal().install())
