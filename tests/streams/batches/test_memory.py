"""What a process of chunks does with the memory of what it has fetched and done with."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKS, BLOCK = 64, 1024 * 1024

FETCHED_AND_DONE = f"""
import asyncio, os, psutil, time
from skeet.streams.batches import memory
memory.GIVE_BACK_S = 0.05
{{begin}}
held, small = [], []
process = psutil.Process()
before = process.memory_info().rss
for _ in range({BLOCKS}):
    held.append(os.urandom({BLOCK}))
    small.append(os.urandom(2048))  # outlives what was fetched
full = left = process.memory_info().rss - before
held.clear()
deadline = time.monotonic() + 10
while left > full * 0.1 and time.monotonic() < deadline:
    {{meanwhile}}
    left = process.memory_info().rss - before
print(full, left)
"""
CASES = {
    "an application of chunks": (
        """
from skeet.streams.batches.app import batch_app
app = batch_app("any", "127.0.0.1:1")

async def its_own_task():
    tasks = {task.fun.__name__: task for task in app.consumer._get_tasks()}
    await asyncio.wait({asyncio.ensure_future(tasks["_give_back"](app.consumer))}, timeout=0.1)
""",
        "asyncio.run(its_own_task())",
    ),
    "a client of chunks": (
        """
from skeet.config import KafkaSettings, Settings
from skeet.streams.batches.client import ChunkClient
ChunkClient(Settings(kafka=KafkaSettings(bootstrap="127.0.0.1:1")), "any", "any")
""",
        "time.sleep(0.05)",
    ),
}


@pytest.mark.parametrize(("begin", "meanwhile"), CASES.values(), ids=CASES.keys())
def test_fetched_bytes_go_back_to_the_system(begin: str, meanwhile: str) -> None:
    script = FETCHED_AND_DONE.format(begin=begin, meanwhile=meanwhile)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    full, left = map(int, done.stdout.split())
    assert full >= BLOCKS * BLOCK * 0.9, "the blocks were there"
    assert left <= BLOCKS * BLOCK * 0.1


HELD = f"""
import os, resource
from skeet.streams.batches.app import batch_app
batch_app("any", "127.0.0.1:1")
os.urandom({BLOCK})
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({BLOCKS}):
    os.urandom({BLOCK})
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_a_large_block_after_another_costs_no_page_faults() -> None:
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True, timeout=120)
    assert int(done.stdout) < BLOCKS * BLOCK / 4096 * 0.1
