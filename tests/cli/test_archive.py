"""``skeet archive`` as its user meets it, without a platform."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skeet.projections.archive_files import Manifest, segment_path, write_segment
from skeet.projections.records import StoredRecord


@pytest.fixture
def sealed(tmp_path: Path) -> Manifest:
    records = [StoredRecord(n, 1_700_000_000_000 + n, b"SIM:BTC/USDT", b"value%d" % n) for n in range(5)]
    return write_segment(tmp_path / "archive", "market.trades.v1", 0, 0, records)


def skeet(data: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SKEET_")}
    return subprocess.run(
        [sys.executable, "-m", "skeet", "archive", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**environment, "SKEET_DATA": str(data), **variables},
    )


def test_segments_are_listed(tmp_path: Path, sealed: Manifest) -> None:
    listed = json.loads(skeet(tmp_path, "list", "--json").stdout)
    assert [(row["topic"], row["next_offset"], row["records"]) for row in listed] == [("market.trades.v1", 5, 5)]
    shown = skeet(tmp_path, "list").stdout
    assert "2023-11-14 22:13:20" in shown and "market.trades.v1" in shown


def test_verify_without_clickhouse_says_what_it_needs_and_files_alone_can_be_verified(
    tmp_path: Path, sealed: Manifest
) -> None:
    assert skeet(tmp_path, "verify").returncode == 2
    done = skeet(tmp_path, "verify", "--files-only")
    assert (done.returncode, done.stdout.strip()) == (0, "1 segments are what was sealed")


def test_damaged_segment_ends_with_one_and_its_name(tmp_path: Path, sealed: Manifest) -> None:
    path = segment_path(tmp_path / "archive", sealed)
    path.write_bytes(path.read_bytes()[:-1])
    done = skeet(tmp_path, "verify", "--files-only", "--json")
    assert done.returncode == 1
    assert str(path) in done.stderr
    assert str(path) in json.loads(done.stdout)[0]["difference"]


def test_status_says_how_much_of_the_budget_is_used_and_whether_ingest_may_run(tmp_path: Path) -> None:
    (tmp_path / "filler").write_bytes(os.urandom(95 * 1024))
    done = skeet(tmp_path, "status", SKEET_DISK_BUDGET="100KiB", SKEET_DISK_RESERVE="0")
    assert done.returncode == 0
    assert "90 % of the disk budget of 100.0 KiB or more" in done.stdout
    seen = json.loads(skeet(tmp_path, "status", "--json", SKEET_DISK_BUDGET="1GiB", SKEET_DISK_RESERVE="0").stdout)
    assert seen["ingest_stops"] == ""
    assert seen["budget"] == 2**30
    wrong = skeet(tmp_path, "status", SKEET_DISK_BUDGET="plenty")
    assert wrong.returncode == 2
    assert "SKEET_DISK_BUDGET" in wrong.stderr
