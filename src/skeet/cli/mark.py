"""``skeet mark``: a place in the log to come back to, with what the desk remembered there."""

from __future__ import annotations

from typing import Annotated

import typer

from skeet.cli import control
from skeet.cli.arguments import Json
from skeet.cli.output import console, print_json
from skeet.config import load_settings
from skeet.core.control import SessionMark
from skeet.core.errors import InvalidInput

LABEL_MAX_LENGTH = 80


def mark(
    label: Annotated[str, typer.Argument(metavar="LABEL", help="What begins or ends here, in a few words.")],
    as_json: Json = False,
) -> None:
    """Mark this place in the log. Every partition of the desk adds a hash of what it remembers (StateMarked), which
    `skeet verify --deep` compares with the fold of the log."""
    if not 0 < len(label) <= LABEL_MAX_LENGTH:
        raise InvalidInput(f"LABEL is {len(label)} characters long; expected 1 to {LABEL_MAX_LENGTH}")
    record = control.post(load_settings(), SessionMark(label=label), control.PLATFORM)
    if as_json:
        print_json({"label": label, "position": str(record.at)})
    else:
        console().print(f"marked at {record.at}", highlight=False)
