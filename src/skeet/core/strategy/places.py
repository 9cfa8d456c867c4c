"""Where in a strategy's own code something went wrong: what its author is shown."""

from __future__ import annotations

import traceback

PLATFORM_FILES = ("skeet/core/", "skeet/agents/", "skeet/cli/")
LIBRARY_FILES = ("/lib/python3", "/lib64/python3", "/site-packages/")


def place_of(error: BaseException) -> tuple[str, int]:
    """File and line where the error was raised, in the strategy's code if any of it is on the way; of a syntax error, the
    place that does not parse."""
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno or 0
    return innermost([(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)])


def innermost(frames: list[tuple[str, int]]) -> tuple[str, int]:
    """The strategy's own frame among these (outermost first), else a library's, else the last; ``("", 0)`` for none."""
    for others in (PLATFORM_FILES + LIBRARY_FILES, PLATFORM_FILES):
        own = [frame for frame in frames if not _in(frame[0], others)]
        if own:
            return own[-1]
    return frames[-1] if frames else ("", 0)


def _in(path: str, folders: tuple[str, ...]) -> bool:
    place = path.replace("\\", "/")
    return place.startswith("<frozen ") or any(folder in place for folder in folders)
