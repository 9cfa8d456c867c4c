"""``skeet bench feed``: frames a second into Kafka."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from skeet.cli.feed_bench import Measured, from_files, from_socket
from skeet.cli.output import print_rows
from skeet.config import load_settings
from skeet.streams.topics_admin import apply as apply_topics

Files = Annotated[list[Path], typer.Argument(metavar="FILE…", help="Captures: '<ns> <json>' lines, plain or gzip.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def bench_feed(files: Files, as_json: Json = False) -> None:
    """Frames a second from recorded files and from a local socket into Kafka, raw frames and events together.

    Writes into the running platform's topics, under venue names of this run. To measure the feed alone, stop the roles
    that consume.
    """
    settings = load_settings()
    apply_topics(settings)
    run = time.strftime("%H%M%S")
    with tempfile.TemporaryDirectory(prefix="skeet-bench-") as home:
        measured = {
            "file": from_files(settings, files, f"BENCHF{run}"),
            "socket": from_socket(settings, files, f"BENCHS{run}", Path(home)),
        }
    print_rows("Feed", [_row(source, each) for source, each in measured.items()], as_json=as_json)


def _row(source: str, measured: Measured) -> dict[str, str | int | float]:
    return {
        "from": source,
        "frames": measured.frames,
        "records": sum(measured.records.values()),
        "seconds": round(measured.seconds, 2),
        "frames per second": round(measured.frames_per_second),
    }
