"""Some examples of every fuzz target, in ``make test``; ``make fuzz`` runs them for as long as wanted."""

from __future__ import annotations

import resource
import sys
import tracemalloc
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing import fuzz
from targets import TARGETS, Target, run_codec, run_door, sound

from skeet.core.errors import SkeetError
from skeet.schemas.catalogue import EVENTS
from skeet.schemas.golden import sample
from skeet.streams.topics import TOPICS

EXAMPLES = 120
MAX_GROWTH_KB = 200 * 1024
"""No target may make the process larger by more than this, whatever it is told about lengths."""
MAX_RECORD_PEAK = 8 * 1024 * 1024


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_only_our_typed_errors_escape(target: Target) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert fuzz(target, examples=EXAMPLES) >= EXAMPLES / 4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_GROWTH_KB


@pytest.mark.parametrize("length", [b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f", b"\xfe\xff\xff\xff\x1f", b"\x01"])
def test_a_length_field_asks_for_no_memory(length: bytes) -> None:
    """2^62, 2^32 and -1 put at every place of a record of every type."""
    tracemalloc.start()
    try:
        for event_class in EVENTS:
            record = sound(sample(event_class))
            for at in range(5, len(record), 3):
                try:
                    run_codec(record[:at] + length + record[at:])
                except SkeetError:
                    pass
        assert tracemalloc.get_traced_memory()[1] < MAX_RECORD_PEAK
    finally:
        tracemalloc.stop()


def test_a_record_of_the_largest_size_becomes_a_letter_that_fits() -> None:
    for topic in TOPICS[:2]:
        with pytest.raises(SkeetError):
            run_door((topic, b"k" * 100_000, b"\x00" * 900_000, 0))
