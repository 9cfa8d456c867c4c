"""What commands print: tables for people, JSON for programs. Amounts are strings in JSON, never floats."""

from __future__ import annotations

import base64
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from skeet.core.values import NS_PER_S

MASK = "********"
"""Stands where a secret is."""


def console() -> Console:
    """Standard output; wide enough for whole rows when it is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 200, soft_wrap=True)


def count_down(what: str, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Wait so long, with a bar on standard error; ``meanwhile`` is called twice a second."""
    columns = (TextColumn(what), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=seconds)
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(0.5, left))
            meanwhile()
            progress.update(task, completed=seconds - left)


def decimal_text(value: Decimal) -> str:
    """A decimal without exponent and without trailing zeros: ``0.5``, ``100``."""
    text = f"{value:f}"
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def time_text(ns: int) -> str:
    """Nanoseconds since the epoch as UTC with milliseconds; empty for 0."""
    if not ns:
        return ""
    seconds, rest = divmod(ns, NS_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest // 1_000_000:03d}"


def plain(value: Any) -> Any:
    """The value in JSON's types: decimals as strings, bytes as UTF-8 or base64, dataclasses as objects."""
    match value:
        case Decimal():
            return decimal_text(value)
        case bytes():
            return _bytes_text(value)
        case datetime():
            return value.isoformat()
        case Path():
            return str(value)
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _:
            return value


def _bytes_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def print_json(value: Any) -> None:
    """One JSON document, indented."""
    sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")


def print_json_line(value: Any) -> None:
    """One JSON document on one line, flushed: for streams that another program reads."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table whose numbers stand on the right."""
    drawn = Table(title=title or None, title_justify="left", header_style="bold", expand=False)
    cells = [list(row) for row in rows]
    for index, column in enumerate(columns):
        numeric = bool(cells) and all(isinstance(row[index], (int, Decimal, float)) for row in cells)
        drawn.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        drawn.add_row(*(_cell(value) for value in row))
    return drawn


def print_rows(title: str, rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str = "nothing to show") -> None:
    """The rows as a table or as a JSON list; columns are the first row's names."""
    if as_json:
        print_json(list(rows))
    elif rows:
        columns = list(rows[0])
        console().print(table(title, columns, ([row[column] for column in columns] for row in rows)))
    else:
        console().print(empty)


def _cell(value: Any) -> Text:
    match value:
        case None:
            return Text("-", style="dim")
        case Decimal():
            return Text(decimal_text(value))
        case _:
            return Text(str(value))
