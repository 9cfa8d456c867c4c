"""Memory of a process that takes megabytes many times a second, for hours."""

from __future__ import annotations

import ctypes

M_MMAP_THRESHOLD = -3
"""``mallopt(3)``."""
MAPPED_BYTES = 256 * 1024
"""Blocks from this size on are mapped by themselves. A fetched answer or a large chunk's columns are, small ones are not: a
mapping costs a page fault for every 4 KiB."""


def give_back_large_blocks() -> None:
    """Have large blocks go back to the system when they are freed, in this process from now on.

    glibc maps them by itself at first, but takes the size of each one that is freed for its new threshold (up to 32 MiB).
    Fetched bytes then lie on the heap, among small blocks that outlive them, and the holes between those add up. A threshold
    that was set stays. Other C libraries have no such call, or ignore it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
