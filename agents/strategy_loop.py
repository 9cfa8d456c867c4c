"""The event loop of an instance's process: it starts its one thread before the user's code runs, and none after.

The number of threads is limited, and the user's code may take all that are left. What the process still has to do then, to
write down its halt and end in order, must not need another: asyncio's own loop starts threads as it goes, and one more
to shut them down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class OneThreadLoop(asyncio.SelectorEventLoop):
    """A loop whose blocking calls (``asyncio.to_thread``) share one thread, which runs from the start."""

    def __init__(self) -> None:
        super().__init__()
        self._blocking_calls = ThreadPoolExecutor(1, "blocking")
        self._blocking_calls.submit(bool).result()
        self.set_default_executor(self._blocking_calls)

    async def shutdown_default_executor(self, *_: Any) -> None:
        """Wait for the blocking call that is running, here: each has a deadline of its own."""
        self._blocking_calls.shutdown(cancel_futures=True)


def run_on_one_thread(main: Coroutine[Any, Any, int]) -> int:
    """As ``asyncio.run``, on such a loop."""
    with asyncio.Runner(loop_factory=OneThreadLoop) as runner:
        return runner.run(main)
