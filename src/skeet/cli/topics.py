"""``skeet topics``: the table of topics, and the broker compared with it."""

from __future__ import annotations

from typing import Annotated

import typer

from skeet.cli.output import console, print_json, print_rows
from skeet.config import load_settings
from skeet.streams.topics import FOREVER, HOUR_MS, TOPICS, Topic, partition_count, topic_name
from skeet.streams.topics_admin import Difference
from skeet.streams.topics_admin import apply as apply_table
from skeet.streams.topics_admin import plan as plan_table

app = typer.Typer(no_args_is_help=True, help="The table of topics against the broker.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_topics(as_json: Json = False) -> None:
    """Every topic: name, key, partitions, retention with its reason, writer and record types."""
    kafka = load_settings().kafka
    rows = [
        {
            "topic": topic_name(topic, kafka),
            "key": topic.key,
            "partitions": partition_count(topic, kafka),
            "kept": retention_text(topic),
            "in ClickHouse": "yes" if topic.history else "",
            "writer": topic.writer,
        }
        for topic in TOPICS
    ]
    if as_json:
        extra = [{"why": t.reason, "events": [event.__name__ for event in t.events]} for t in TOPICS]
        print_json([row | more for row, more in zip(rows, extra, strict=True)])
    else:
        print_rows("", rows, as_json=False)


@app.command()
def plan(as_json: Json = False) -> None:
    """What `apply` would change at the broker. Changes nothing."""
    _show(plan_table(load_settings()), as_json=as_json, done="the broker agrees with the table of topics")


@app.command()
def apply(as_json: Json = False) -> None:
    """Create missing topics, correct their settings, register schemas, write genesis. Safe to repeat."""
    _show(apply_table(load_settings()), as_json=as_json, done="nothing to change; schemas and genesis are in place")


def retention_text(topic: Topic) -> str:
    """How long records are kept: ``24 h``, ``7 d``, ``for ever``, ``newest per key``, ``disk budget``."""
    if topic.compacted:
        return "newest per key"
    if topic.by_budget:
        days = topic.kept_at_least_ms // (24 * HOUR_MS)
        return f"disk budget, {days} d at least" if days else "disk budget"
    if topic.retention_ms == FOREVER:
        return "for ever"
    hours = topic.retention_ms // HOUR_MS
    return f"{hours // 24} d" if hours % 24 == 0 and hours > 24 else f"{hours} h"


def _show(differences: list[Difference], *, as_json: bool, done: str) -> None:
    if as_json:
        print_json(differences)
    elif differences:
        rows = [{"topic": d.topic, "difference": d.detail, "action": d.remedy} for d in differences]
        print_rows("", rows, as_json=False)
    else:
        console().print(done)
