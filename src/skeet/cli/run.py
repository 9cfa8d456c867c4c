"""``skeet run ROLE``: one process of the platform, in the foreground."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from skeet.config import load_settings
from skeet.core.errors import InvalidInput, SkeetError
from skeet.probes import serve
from skeet.process import configure_logging, logger
from skeet.streams import crash_points
from skeet.wiring import ROLES, role

OTHERS = frozenset({"kafka", "postgres", "strategy"})
"""The first two become programs that are not ours, with answers of their own. An instance of a strategy gives up its rights
while it has one thread, and begins to answer afterwards (:mod:`skeet.agents.strategy_guard`)."""


def run(
    name: Annotated[str, typer.Argument(metavar="ROLE", help="One of: " + ", ".join(ROLES))],
) -> None:
    """Run one part of the platform in the foreground; JSON logs on stderr, SIGTERM drains it within 20 s."""
    settings = load_settings()
    configure_logging(name, settings.log_level)
    try:
        crash_points.install(settings)
        if name not in OTHERS:
            serve(settings, name)
        code = role(name).load()(settings)
    except InvalidInput as error:
        logger().error("cannot start", reason=str(error))
        code = error.exit_code
    except SkeetError as error:
        logger().error("ended", reason=str(error), kind=type(error).__name__)
        code = error.exit_code
    except Exception:
        logger().exception("ended by a bug")
        code = 1
    sys.exit(code)
