"""What a process of chunks does with the memory of what it has fetched and done with."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKS, BLOCK = 64, 1024 * 1024

FETCHED_AND_DONE = f"""
import os, psutil
{{begin}}
bytes(4 * {BLOCK})  # mapped, and freed: from now on glibc would put smaller ones on its heap
held, small = [], []
process = psutil.Process()
before = process.memory_info().rss
for _ in range({BLOCKS}):
    held.append(os.urandom({BLOCK}))
    small.append(os.urandom(2048))  # outlives what was fetched
full = process.memory_info().rss
held.clear()
print(full - before, process.memory_info().rss - before)
"""
BEGINNINGS = {
    "an application of chunks": """
from skeet.streams.batches.app import batch_app
batch_app("any", "127.0.0.1:1")
""",
    "a client of chunks": """
from skeet.config import KafkaSettings, Settings
from skeet.streams.batches.client import ChunkClient
ChunkClient(Settings(kafka=KafkaSettings(bootstrap="127.0.0.1:1")), "any", "any")
""",
}


@pytest.mark.parametrize("begin", BEGINNINGS.values(), ids=BEGINNINGS.keys())
def test_fetched_bytes_go_back_to_the_system(begin: str) -> None:
    script = FETCHED_AND_DONE.format(begin=begin)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    full, left = map(int, done.stdout.split())
    assert full >= BLOCKS * BLOCK * 0.9, "the blocks were there"
    assert left <= BLOCKS * BLOCK * 0.1
