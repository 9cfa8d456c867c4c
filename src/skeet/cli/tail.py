"""``skeet tail TOPIC``: decoded records of a topic, as a read_committed consumer is delivered them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.text import Text

from skeet.cli.log import Line, follow, read_to_end, resolve_topic, start_offsets
from skeet.cli.output import console, plain, print_json_line, time_text
from skeet.config import Settings, load_settings
from skeet.core.errors import InvalidInput
from skeet.core.record import Record
from skeet.streams.registry import registered_codec
from skeet.streams.topics import Topic, topic_name

HIDDEN_FIELDS = frozenset({"postings", "bid_prices", "bid_sizes", "ask_prices", "ask_sizes", "payload", "state"})
"""Left out of the one-line form; `--json` shows everything."""


def tail(
    topic: Annotated[
        str, typer.Argument(metavar="TOPIC", help="As in `skeet topics list`; prefix and .v1 may be left out.")
    ],
    start: Annotated[
        str, typer.Option("--from", metavar="WHERE", help="beginning, end, -N (the last N records), or a UTC time.")
    ] = "end",
    follow_on: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new records after the end.")] = False,
    count: Annotated[int | None, typer.Option("-n", min=1, help="Stop after this many records.")] = None,
    key: Annotated[str, typer.Option("--key", help="Only records of this key (account or instrument).")] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, with envelope and position.")
    ] = False,
) -> None:
    """Show decoded records of a topic.

    From the end (the default) it follows until Ctrl-C; from anywhere else it stops at the end it found when it began,
    unless -f is given. Records that cannot be decoded are shown as such, with their bytes.
    """
    settings = load_settings()
    wanted = resolve_topic(settings, topic)
    shown = 0
    for line in _lines(settings, wanted, start, follow_on=follow_on):
        if not key or line.key == key:
            _print(line, as_json=as_json)
            shown += 1
        if shown == count:
            return


def _lines(settings: Settings, topic: Topic, start: str, *, follow_on: bool) -> Iterator[Line]:
    codec = registered_codec(settings)
    offsets, last = start_offsets(settings, topic, start)
    if start == "end":
        yield from follow(settings, codec, topic, offsets)
        return
    after, _ = start_offsets(settings, topic, "end")
    for line in read_to_end(settings, codec, topic, offsets, last=last):
        place = (topic_name(topic, settings.kafka), line.at.partition)
        after[place] = max(after[place], line.at.offset + 1)
        yield line
    if follow_on:
        yield from follow(settings, codec, topic, after)


def _print(line: Line, *, as_json: bool) -> None:
    if as_json:
        print_json_line(as_object(line))
    else:
        console().print(as_text(line))


def as_object(line: Line) -> dict[str, Any]:
    """The record as JSON: position, log time, key, type, envelope (where it has one), event."""
    place = {"at": str(line.at), "log_ns": line.log_ns, "key": line.key}
    if isinstance(line.record, InvalidInput):
        return place | {"error": str(line.record), "value": line.value.hex()}
    record: Record[Any] = line.record
    return place | {
        "type": type(record.event).__name__,
        "event_id": record.event_id,
        "meta": plain(record.meta) if record.meta else None,
        "event": plain(record.event),
    }


def as_text(line: Line) -> Text:
    """The record on one line: time, position, type, key, fields."""
    text = Text(f"{time_text(line.log_ns)[11:]}  ", style="dim")
    text.append(f"{line.at.partition}/{line.at.offset}  ", style="dim")
    if isinstance(line.record, InvalidInput):
        return text.append(f"cannot be decoded: {line.record}", style="red")
    event = plain(line.record.event)
    text.append(type(line.record.event).__name__, style="bold")
    text.append(f"  {line.key}  ", style="cyan")
    fields = (
        f"{name}={_short(value)}" for name, value in event.items() if name not in HIDDEN_FIELDS | {"instrument_id"}
    )
    return text.append(" ".join(fields), style="default")


def _short(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "; ".join(" ".join(str(item) for item in entry.values()) for entry in value)
    return str(value)
