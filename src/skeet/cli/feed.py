"""``skeet feed``: recorded sessions into the log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skeet.cli.output import console, print_json, table
from skeet.config import load_settings
from skeet.core.errors import InvalidInput
from skeet.roles.replay import ReplayOptions, ReplaySummary, replay
from skeet.streams.topics_admin import apply as apply_topics

app = typer.Typer(no_args_is_help=True, help="Market data: replay recorded sessions.")

Files = Annotated[list[Path], typer.Argument(metavar="FILE…", help="Captures: '<ns> <json>' lines, plain or gzip.")]
Venue = Annotated[str, typer.Option(help="Venue named in the instrument ids: VENUE:BASE/QUOTE.")]
Symbol = Annotated[str, typer.Option(help="BASE/QUOTE, for files whose frames do not tell it.")]
Speed = Annotated[str, typer.Option(help="'max', or a multiple of the recorded pace.")]
DropSeed = Annotated[int | None, typer.Option(help="Lose frames by this seed, to see the gaps reported.")]
DropRate = Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of trade and depth frames lost.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("replay")
def replay_command(
    files: Files,
    venue: Venue = "BINANCE",
    symbol: Symbol = "",
    speed: Speed = "max",
    drop_seed: DropSeed = None,
    drop_rate: DropRate = 0.01,
    as_json: Json = False,
) -> None:
    """Push recorded captures through the feed's parser, sequence checks and topics.

    Files of one session continue each other; frames of all files are merged by their time. What the log already holds is
    not written again. A gap in a recording ends as unfillable: there is no venue to ask.
    """
    options = ReplayOptions(
        venue=venue.upper(),
        symbol=symbol.upper(),
        speed=parse_speed(speed),
        drop_seed=drop_seed,
        drop_rate=drop_rate,
    )
    for path in files:
        if not path.is_file():
            raise InvalidInput(f"FILES names {str(path)!r}, which is no file; expected recorded captures")
    settings = load_settings()
    apply_topics(settings)
    if as_json:
        print_json(summary_rows(replay(settings, files, options)))
        return
    summary = _with_progress(lambda progress: replay(settings, files, options, progress))
    console().print(table("Replayed", ("what", "count"), summary_rows(summary).items()))
    for line in summary.unreadable_lines:
        console().print(f"unreadable: {line}")
    if summary.diffs_without_book:
        console().print(
            f"{summary.diffs_without_book} book diffs were held back: no REST book came before them; "
            "replay the session's first file too"
        )
    if summary.repeated == summary.frames:
        console().print("the log holds all of this, or later data of these instruments (see --venue)")


def parse_speed(text: str) -> float | None:
    """``max`` is None; otherwise a positive multiple.

    Raises
    ------
    InvalidInput
        anything else.
    """
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise InvalidInput(f"--speed is {text!r}; expected 'max' or a number above 0")
    return speed


def summary_rows(summary: ReplaySummary) -> dict[str, Any]:
    """The summary by name; zero counts of what is no record type are kept, so that programs find them."""
    return {
        "frames": summary.frames,
        **{f"written {name}": count for name, count in sorted(summary.written.items())},
        "already in the log": summary.repeated,
        "dropped": summary.dropped,
        "unreadable": summary.unreadable,
        "trade gaps": summary.gaps["TRADES"],
        "book gaps": summary.gaps["BOOK"],
        "diffs without book": summary.diffs_without_book,
        "seconds": round(summary.seconds, 3),
        "frames per second": round(summary.frames_per_second),
    }


def _with_progress(run: Any) -> ReplaySummary:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,} frames"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(), transient=True) as progress:
        task = progress.add_task("replay", total=None)
        summary: ReplaySummary = run(lambda done: progress.update(task, completed=done))
    return summary
