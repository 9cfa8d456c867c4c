"""``skeet trace ORDER_ID``: where an order came from and what became of it, with the time each step took."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text
from rich.tree import Tree

from skeet.cli.arguments import Json
from skeet.cli.output import console, print_json, time_text
from skeet.cli.tracing import Hop, Tracer
from skeet.config import load_settings
from skeet.core.errors import InvalidInput
from skeet.streams.registry import registered_codec

STYLES = {"market": "cyan", "signals": "magenta", "orders": "yellow", "accounts": "green", "venue": "blue"}


def trace(
    order_id: Annotated[str, typer.Argument(metavar="ORDER_ID", help="As `skeet order list` shows it.")],
    as_json: Json = False,
) -> None:
    """Show the tree from the market tick to signal, command, decision, attempt, venue answer and fill.

    Each line has the time of the step (UTC) and the milliseconds since the step that caused it. Times of the log have
    millisecond resolution; received frames, socket writes and answers are nanoseconds of this machine's clock.
    """
    settings = load_settings()
    root = Tracer(settings, registered_codec(settings)).trace(order_id)
    if root is None:
        raise InvalidInput(f"order {order_id!r} is not in the log; `skeet order list` shows recent ones")
    if as_json:
        print_json(_object(root))
        return
    tree = Tree(_line(root), guide_style="dim")
    _grow(tree, root)
    console().print(tree)


def _grow(branch: Tree, hop: Hop) -> None:
    for child in hop.children:
        _grow(branch.add(_line(child)), child)


def _line(hop: Hop) -> Text:
    text = Text(f"{time_text(hop.ts_ns)[11:]}", style="dim")
    text.append(
        f" {'' if hop.delta_ms is None else f'{hop.delta_ms:+.1f} ms':>11}  ", style="bold" if hop.delta_ms else "dim"
    )
    text.append(hop.kind, style=f"bold {STYLES.get(hop.at.partition('.')[0], 'white')}")
    fields = " ".join(f"{name}={value}" for name, value in hop.fields.items())
    text.append(f"  {fields}" if fields else "")
    return text.append(f"  {hop.at}" if hop.at else "", style="dim")


def _object(hop: Hop) -> dict[str, Any]:
    return {
        "kind": hop.kind,
        "at": hop.at,
        "event_id": hop.event_id,
        "ts_ns": hop.ts_ns,
        "delta_ms": hop.delta_ms,
        "fields": hop.fields,
        "children": [_object(child) for child in hop.children],
    }
