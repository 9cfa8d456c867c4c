"""Sealed segments on disk: what was sealed comes back, and nothing else passes for it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skeet.core.errors import InfrastructureError, InvalidInput
from skeet.projections.archive_files import (
    Manifest,
    difference,
    manifests,
    read_segment,
    segment_path,
    write_segment,
)
from skeet.projections.records import StoredRecord

TOPIC = "market.trades.v1"


def records(*offsets: int) -> list[StoredRecord]:
    return [
        StoredRecord(offset, 1_700_000_000_000 + offset, b"SIM:BTC/USDT", b"\x00value%d" % offset) for offset in offsets
    ]


@pytest.fixture
def sealed(tmp_path: Path) -> Manifest:
    return write_segment(tmp_path, TOPIC, 3, 5, records(7, 8, 10))


def test_segment_covers_its_range_and_gives_back_every_byte(tmp_path: Path, sealed: Manifest) -> None:
    assert (sealed.first_offset, sealed.next_offset, sealed.records) == (5, 11, 3)
    assert read_segment(tmp_path, sealed) == records(7, 8, 10)
    assert manifests(tmp_path) == [sealed]
    assert difference(tmp_path, sealed) == ""


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=200)), min_size=1, max_size=30))
def test_any_bytes_survive(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[bytes, bytes]]) -> None:
    root = tmp_path_factory.mktemp("archive")
    written = [StoredRecord(number, number, key, value) for number, (key, value) in enumerate(rows)]
    manifest = write_segment(root, TOPIC, 0, 0, written)
    assert read_segment(root, manifest) == written
    assert difference(root, manifest) == ""


@pytest.mark.parametrize("position", [0, 100, -1])
def test_flipped_bit_is_named(tmp_path: Path, sealed: Manifest, position: int) -> None:
    path = segment_path(tmp_path, sealed)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    assert f"{path} has SHA-256" in difference(tmp_path, sealed)


def test_truncated_and_missing_files_are_named(tmp_path: Path, sealed: Manifest) -> None:
    path = segment_path(tmp_path, sealed)
    path.write_bytes(path.read_bytes()[:-20])
    assert str(path) in difference(tmp_path, sealed)
    with pytest.raises(InfrastructureError, match=path.name):
        read_segment(tmp_path, sealed)
    path.unlink()
    assert "cannot be read" in difference(tmp_path, sealed)


def test_whole_file_of_other_records_is_a_difference(tmp_path: Path, sealed: Manifest) -> None:
    """The hash alone would be believed if somebody sealed again by hand."""
    for wrong in (records(7, 8), records(7, 8, 11), records(7, 8, 9)):
        other = write_segment(tmp_path / "other", TOPIC, 3, 5, wrong)
        segment_path(tmp_path, sealed).write_bytes(segment_path(tmp_path / "other", other).read_bytes())
        assert difference(tmp_path, dataclasses.replace(sealed, sha256=other.sha256))


def test_file_without_a_manifest_does_not_count(tmp_path: Path, sealed: Manifest) -> None:
    segment_path(tmp_path, sealed).with_suffix(".json").unlink()
    assert manifests(tmp_path) == []


def test_unreadable_manifest_is_named_with_the_remedy(tmp_path: Path, sealed: Manifest) -> None:
    path = segment_path(tmp_path, sealed).with_suffix(".json")
    path.write_text("{")
    with pytest.raises(InvalidInput, match=rf"{path.name} is no manifest .* delete it"):
        manifests(tmp_path)


def test_manifest_of_a_newer_version_is_refused(tmp_path: Path, sealed: Manifest) -> None:
    path = segment_path(tmp_path, sealed).with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(InvalidInput, match="format 2; this version reads up to 1"):
        manifests(tmp_path)


def test_directory_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InfrastructureError, match="archive"):
        write_segment(tmp_path / "file", TOPIC, 0, 0, records(1))


SEALS_AND_DIES = """
import sys
from pathlib import Path
from skeet.config import load_settings
from skeet.projections.archive_files import write_segment
from skeet.projections.records import StoredRecord
from skeet.streams.crash_points import install
install(load_settings())
write_segment(Path(sys.argv[1]), "market.trades.v1", 3, 5, [StoredRecord(7, 1, b"key", b"value")])
"""


def test_segment_whose_writer_died_before_the_manifest_counts_for_nothing_and_is_written_again(tmp_path: Path) -> None:
    environment = os.environ | {"SKEET_DATA": str(tmp_path), "SKEET_CHAOS__CRASH_AT": "archive.before_manifest"}
    root = tmp_path / "archive"
    command = [sys.executable, "-c", SEALS_AND_DIES, str(root)]
    assert subprocess.run(command, env=environment, check=False, timeout=60).returncode == -signal.SIGKILL
    assert list(root.rglob("*.parquet"))
    assert manifests(root) == []
    assert subprocess.run(command, env=environment, check=False, timeout=60).returncode == 0
    (sealed,) = manifests(root)
    assert difference(root, sealed) == ""
