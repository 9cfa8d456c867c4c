"""Recorded sessions: files of lines ``<local receive time, ns> <frame>``, plain or gzip.

One file holds the frames of one connection in the order they were received; the REST order book that a book begins with
stands among them as a line of its own. Several files of one session continue each other.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from skeet.core.errors import InvalidInput

GZIP_MAGIC = b"\x1f\x8b"
MAX_LINE_BYTES = 16 * 1024 * 1024
"""Far above any frame (a REST book of 5,000 levels is 400 kB); a longer line is no capture."""
MAX_TIME_DIGITS = 19
"""Nanoseconds since the epoch have as many until the year 2286."""
_STREAM = re.compile(rb'"stream":\s*"([^"@]+)@([^"]+)"')
_SYMBOL = re.compile(rb'"s":\s*"([^"]+)"')
ENVELOPE_BYTES = 200
"""Stream name and symbol stand within the first bytes of a frame."""


@dataclass(frozen=True, slots=True)
class CapturedFrame:
    """One line: its number from 1, when it was received (ns), and the frame's bytes."""

    line: int
    received_ns: int
    payload: bytes

    @property
    def stream(self) -> str:
        """Name of its stream, ``btcusdt@trade``; empty when the frame has no envelope."""
        found = _STREAM.search(self.payload, 0, ENVELOPE_BYTES)
        return f"{_text(found[1])}@{_text(found[2])}" if found else ""

    @property
    def symbol(self) -> str:
        """Venue symbol in upper case; empty when the frame does not name one."""
        found = _STREAM.search(self.payload, 0, ENVELOPE_BYTES) or _SYMBOL.search(self.payload, 0, ENVELOPE_BYTES)
        return _text(found[1]).upper() if found else ""


def read_capture(path: Path) -> Iterator[CapturedFrame]:
    """The frames of a file, in order.

    Raises
    ------
    InvalidInput
        the file cannot be read, is cut off, or a line is no ``<ns> <json>``; the message names file and line.
    """
    number = 0
    try:
        with closing(_open(path)) as lines:
            # Bounded: a file of one endless line is refused, not read.
            for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE_BYTES + 1), b""), start=1):
                if not line.strip():
                    continue
                received, _, payload = line.rstrip().partition(b" ")
                if (
                    not (received.isdigit() and len(received) <= MAX_TIME_DIGITS and payload)
                    or len(line) > MAX_LINE_BYTES
                ):
                    raise InvalidInput(
                        f"{path}, line {number}: expected '<receive time in ns> <json>', found {line[:60]!r}"
                    )
                yield CapturedFrame(number, int(received), payload)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidInput(f"{path}, after line {number}: {reason}") from error


def _text(name: bytes) -> str:
    return name.decode(errors="replace")


def _open(path: Path) -> BinaryIO:
    opened = path.open("rb")
    if opened.peek(2)[:2] == GZIP_MAGIC:
        opened.close()
        return cast(BinaryIO, gzip.open(path, "rb"))
    return opened


def symbols_of(frames: Iterable[CapturedFrame]) -> Counter[str]:
    """How many frames each venue symbol has."""
    return Counter(symbol for frame in frames if (symbol := frame.symbol))


def stream_counts(paths: Iterable[Path]) -> Counter[str]:
    """How many frames each stream has in all files together."""
    return Counter(stream for path in paths for frame in read_capture(path) if (stream := frame.stream))
