"""How long a side of a measurement took, without its first event."""

from __future__ import annotations

import asyncio
import time
from typing import Any


class Clock:
    """Counts records, and takes the time from the end of the first event on."""

    def __init__(self, count: int, compare_at: int = 0) -> None:
        self._count = count
        self.compare_at = compare_at
        """Records of each key after which results are compared."""
        self._left_out = 0
        self._records = 0
        self._began = self._cpu_began = 0.0
        self.done = asyncio.Event()
        self.found: dict[str, Any] = {}

    def ends_with(self, records: int) -> bool:
        """Whether so many more are enough."""
        return not self.done.is_set() and self._records + records >= self._count

    def add(self, records: int) -> None:
        """So many more."""
        self._records += records
        if not self._began:
            self._left_out, self._began, self._cpu_began = records, time.perf_counter(), time.process_time()
        elif self._records >= self._count and not self.done.is_set():
            seconds = time.perf_counter() - self._began
            cpu = time.process_time() - self._cpu_began
            records = self._records - self._left_out
            # The clock is the machine's, so that processes side by side can be put on one line of time.
            self.found = {"records": records, "seconds": seconds, "cpu_seconds": cpu, "began": self._began}
            self.done.set()
