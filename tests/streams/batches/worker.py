"""A batch worker in a process of its own: notes each chunk in a file before it is acknowledged, and emits one record of it.

``python worker.py BOOTSTRAP GROUP TOPIC OUT FILE [NS]``. A line is: monotonic time, partition, first, next offset. ``NS`` is how
long each record takes in the slow sink behind it, in ns.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from skeet.streams.batches.app import batch_app, each_chunk
from skeet.streams.batches.chunk import Chunk
from skeet.streams.batches.emission import Outputs


async def main(bootstrap: str, group: str, topic: str, out: str, file: Path, slow_ns: int) -> None:
    notes = os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    app = batch_app(group, bootstrap, broker_session_timeout=6.0, broker_heartbeat_interval=1.0)

    async def note(chunk: Chunk, outputs: Outputs) -> None:
        line = f"{time.monotonic()} {chunk.partition} {chunk.first} {chunk.next_offset}\n"
        os.write(notes, line.encode())
        outputs.add(out, b"%d" % chunk.partition, b"%d:%d-%d" % (chunk.partition, chunk.first, chunk.next_offset))
        await asyncio.sleep(len(chunk) * slow_ns / 1e9)

    app.agent(app.topic(topic, value_type=bytes), concurrency=1, name="noting")(each_chunk(app, note))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await app.start()
    await asyncio.wait(
        {asyncio.ensure_future(stop.wait()), asyncio.ensure_future(app._crashed.wait())}, return_when="FIRST_COMPLETED"
    )
    crashed = app._crashed.is_set()
    await app.stop()
    os._exit(1 if crashed else 0)


if __name__ == "__main__":
    bootstrap, group, topic, out, file, *slow = sys.argv[1:]
    asyncio.run(main(bootstrap, group, topic, out, Path(file), int(slow[0]) if slow else 0))
