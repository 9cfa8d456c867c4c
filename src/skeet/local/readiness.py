"""Says that a server which is not ours (a broker, a database) is ready.

A role that replaces itself by such a server leaves this process behind: it asks until the server answers, writes the ready
file on its behalf, and ends; it ends as well when the server does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import psutil

from skeet.config import Settings, load_settings
from skeet.connections.kafka import kafka_options
from skeet.process import announce_ready, configure_logging

DEADLINE_S = 600.0
"""Recovery of a large log after power loss takes minutes; the supervisor has its own, shorter patience."""

INTERVAL_S = 0.1


def watch_in_background(part: str) -> None:
    """Begin watching the server that this process is about to become. Returns at once."""
    command = [sys.executable, "-m", "skeet.local.readiness", part, str(os.getpid())]
    # The process started here forks and ends, so that the server, which knows nothing of it, has no child to reap.
    subprocess.run(command, check=True)


def _check(part: str, settings: Settings) -> Callable[[], bool]:
    if part == "kafka":
        from skeet.local.kafka import answers

        return lambda: answers(kafka_options(settings.kafka))
    from skeet.local.postgres import accepts

    return lambda: accepts(settings.postgres.dsn.get_secret_value())


def _main() -> None:
    part, server = sys.argv[1], int(sys.argv[2])
    if os.fork() > 0:
        return
    settings = load_settings()
    configure_logging(part, settings.log_level)
    check = _check(part, settings)
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and psutil.pid_exists(server):
        if check():
            announce_ready()
            return
        time.sleep(INTERVAL_S)


if __name__ == "__main__":
    _main()
