"""``skeet watch``: prices, positions, orders and lag on one screen, drawn again a few times a second."""

from __future__ import annotations

import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from skeet.cli.watch_frame import draw
from skeet.cli.watch_state import Watcher
from skeet.config import load_settings

REFRESH_S = 0.5
FIRST_LOOK_S = 2.0
"""How long `--once` waits for a first price of every instrument."""
ONCE_SIZE = (100, 30)


def watch(
    once: Annotated[bool, typer.Option("--once", help="Print one picture and end.")] = False,
) -> None:
    """Live view of the platform: q or Ctrl-C ends it; everything goes on without it."""
    with Watcher(load_settings()) as watcher:
        if once or not sys.stdout.isatty():
            watcher.look(FIRST_LOOK_S)
            width, height = ONCE_SIZE
            Console(width=width, height=height).print(draw(watcher.picture(), width, height))
            return
        console = Console()
        with _keys(), Live(console=console, screen=True, auto_refresh=False) as live:
            while not _quit_pressed():
                began = time.monotonic()
                watcher.look(REFRESH_S)
                live.update(draw(watcher.picture(), console.width, console.height), refresh=True)
                time.sleep(max(0.0, REFRESH_S - (time.monotonic() - began)))


@contextmanager
def _keys() -> Iterator[None]:
    """Keys arrive one by one, unechoed; the terminal is put back whatever happens. Ctrl-C ends the view quietly."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    except KeyboardInterrupt:
        pass
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _quit_pressed() -> bool:
    if not sys.stdin.isatty():
        return False
    ready, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(ready) and sys.stdin.read(1) in ("q", "Q", "\x1b")
