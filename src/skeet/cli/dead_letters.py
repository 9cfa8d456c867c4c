"""``skeet dead-letters``: what was turned away, why, and sending it again once the reason is gone."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from skeet.cli import letters
from skeet.cli.arguments import Json
from skeet.cli.letters import Letter
from skeet.cli.output import console, plain, print_json, print_rows, time_text
from skeet.config import load_settings
from skeet.core.errors import InvalidInput

app = typer.Typer(no_args_is_help=True, help="Records that were turned away: list, show, send again.")

SHOWN_BYTES = 512
"""Of the record, in the dump for people; `--json` gives all that is kept."""
DUMP_WIDTH = 16

Id = Annotated[
    str, typer.Argument(metavar="ID", help="Id of a dead letter, or the beginning of it (8 digits or more).")
]


@app.command("list")
def list_letters(
    topic: Annotated[str, typer.Option("--topic", help="Only of this topic; prefix and .v1 may be left out.")] = "",
    role: Annotated[str, typer.Option("--role", help="Only those that this role wrote.")] = "",
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="Only from this UTC time on.")] = "",
    as_json: Json = False,
) -> None:
    """Every dead letter, oldest first, each once however often it was written; whether it was sent again."""
    settings = load_settings()
    found = letters.read(settings, topic=topic, role=role, since=since)
    if as_json:
        print_json([_as_object(letter) for letter in found])
        return
    print_rows("", [_row(letter) for letter in found], as_json=False)
    if not found:
        console().print("no dead letters")


@app.command()
def show(letter_id: Id, as_json: Json = False) -> None:
    """One dead letter: where it stood, why it was turned away, what its bytes read as now, and the bytes."""
    settings = load_settings()
    letter = letters.find(settings, letter_id)
    attempt = letters.decoded(settings, letter)
    if as_json:
        print_json(_as_object(letter) | {"value": letter.event.value.hex(), "decoded": attempt})
        return
    for name, value in (_row(letter) | {"key": _text(letter.event.key)} | attempt).items():
        console().print(f"{name:12} {value}", markup=False, highlight=False)
    for line in _dump(letter.event.value[:SHOWN_BYTES]):
        console().print(line, markup=False, highlight=False)


@app.command()
def redrive(
    letter_id: Id,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Send the original bytes again, to their topic and key, once: a second time nothing is sent.

    The record is then judged anew, as of now: a command whose time is over is refused as expired.
    """
    settings = load_settings()
    letter = letters.find(settings, letter_id)
    if not letter.redriven_at and not yes:
        question = f"send {letter.size} bytes again to {letter.event.topic}, key {_text(letter.event.key)!r}?"
        if not typer.confirm(question, err=True):
            raise InvalidInput("not confirmed: nothing was sent (--yes does not ask)")
    place, sent = letters.redrive(settings, letter)
    if as_json:
        print_json({"id": letter.id, "sent": sent, "redriven_at": place})
    elif sent:
        console().print(f"sent again; recorded at {place}")
    else:
        console().print(f"was sent again before ({place}): nothing was sent")


def _row(letter: Letter) -> dict[str, Any]:
    event = letter.event
    return {
        "id": letter.id,
        "time": time_text(letter.log_ns),
        "role": event.role,
        "at": f"{event.topic}/{event.partition}/{event.offset}",
        "bytes": letter.size,
        "redriven": letter.redriven_at or "no",
        "cause": event.cause,
    }


def _as_object(letter: Letter) -> dict[str, Any]:
    event = letter.event
    return {
        "id": letter.id,
        "log_ns": letter.log_ns,
        "role": event.role,
        "topic": event.topic,
        "partition": event.partition,
        "offset": event.offset,
        "key": plain(event.key),
        "bytes": letter.size,
        "kept_bytes": len(event.value),
        "cause": event.cause,
        "redriven_at": letter.redriven_at or None,
    }


def _text(content: bytes) -> str:
    return content.decode(errors="replace")


def _dump(content: bytes) -> list[str]:
    lines = []
    for start in range(0, len(content), DUMP_WIDTH):
        part = content[start : start + DUMP_WIDTH]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{start:06x}  {part.hex(' '):{DUMP_WIDTH * 3}} {text}")
    return lines
