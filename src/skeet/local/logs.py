"""The log files of the platform's processes, read together: the last lines, or followed with a prefix per process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from skeet.core.errors import InvalidInput

FOLLOW_INTERVAL_S = 0.2
LAST_LINES_BYTES = 256 * 1024


def log_files(folder: Path, names: Sequence[str]) -> list[Path]:
    """The files of the named processes, of all when none is named.

    Raises
    ------
    InvalidInput
        a process has no log; the message lists those that have.
    """
    present = {path.stem: path for path in sorted(folder.glob("*.log"))}
    for name in names:
        if name not in present:
            raise InvalidInput(f"no log of {name!r}; there are {', '.join(present) or 'none yet'}")
    return [present[name] for name in names] if names else list(present.values())


def last_lines(path: Path, count: int) -> list[str]:
    """Up to ``count`` last lines of a file."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LAST_LINES_BYTES))
        return file.read().decode(errors="replace").splitlines()[-count:] if count > 0 else []


class Follower:
    """New lines of the log files in a folder as ``(process, line)``; files that appear later are followed, too.

    A file that became shorter (it was trimmed) is read from its start.
    """

    def __init__(self, folder: Path, names: Sequence[str] = ()) -> None:
        self._folder = folder
        self._names = set(names)
        self._positions = {path: path.stat().st_size for path in folder.glob("*.log")}

    def new_lines(self) -> Iterator[tuple[str, str]]:
        """Whole lines written since the last call."""
        for path in sorted(self._folder.glob("*.log")):
            if not self._names or path.stem in self._names:
                yield from ((path.stem, line) for line in self._read(path))

    def _read(self, path: Path) -> list[str]:
        position = self._positions.get(path, 0)
        if path.stat().st_size < position:
            position = 0
        with path.open("rb") as file:
            file.seek(position)
            fresh = file.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._positions[path] = position + len(whole)
        return whole.decode(errors="replace").splitlines()


def follow(follower: Follower, show: Callable[[str, str], None], stopping: Callable[[], bool]) -> None:
    """Show new lines until ``stopping`` says so."""
    while not stopping():
        for name, line in follower.new_lines():
            show(name, line)
        time.sleep(FOLLOW_INTERVAL_S)
