"""Memory of a process that takes megabytes many times a second, for hours."""

from __future__ import annotations

import asyncio
import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""``mallopt(3)``."""
HELD_BYTES = 32 * 1024 * 1024
"""Blocks up to this size lie on the heap; the largest threshold that glibc takes."""
KEPT_BYTES = 16 * 1024 * 1024
"""What the heap keeps free at its end. With 8 or 32 MiB a record takes the same processor time."""
GIVE_BACK_S = 7.0
"""Between two looks for what is free. What is needed again at once costs its page faults again: some milliseconds."""

_libc = ctypes.CDLL(None)


def hold_large_blocks() -> None:
    """Have large blocks come from the heap and go back to it, in this process from now on.

    An answer of megabytes is copied four times on its way into a chunk. Blocks of their own mapping would cost a page fault for
    every 4 KiB of each: two fifths of the processor time of reading. Other C libraries have no such call, or ignore it.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, HELD_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def give_back() -> None:
    """Let the system have all free pages of the heap, those between blocks that are in use among them.

    Fetched bytes lie among small blocks that outlive them; without this the holes between those would add up.
    """
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)


async def give_back_regularly() -> None:
    """:func:`give_back` until cancelled."""
    while True:
        await asyncio.sleep(GIVE_BACK_S)
        give_back()
