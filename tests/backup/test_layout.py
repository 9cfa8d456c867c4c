"""A backup's folder: what is written is read back, and what was altered is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skeet.backup.checking import check
from skeet.backup.files import copy_files, put_back
from skeet.backup.layout import (
    FORMAT,
    MANIFEST,
    MANIFEST_SUM,
    BackupDamaged,
    Manifest,
    PartitionBackup,
    Position,
    TopicBackup,
    read_manifest,
    write_manifest,
)
from skeet.backup.segments import Stored, read_segment, write_segments
from skeet.config import Settings
from skeet.core.errors import InvalidInput

RECORDS = [
    Stored(3, 1_700_000_000_000, b"k", b"v" * 100, (("h", b"x"), ("none", None))),
    Stored(4, 1_700_000_000_001, None, b""),
    Stored(9, 1_700_000_000_002, b"", None),
]


def backup(folder: Path, data: Path) -> Manifest:
    """A small one, with a file of the exchange's and one simulated key."""
    (data / "sim").mkdir(parents=True)
    (data / "sim" / "accounts.jsonl").write_text("a line\n")
    sealed = data / "archive" / "t" / "0"
    sealed.mkdir(parents=True)
    for suffix in (".parquet", ".json", ".tmp"):
        (sealed / f"0-9{suffix}").write_text("sealed\n")
    keys = data / "secrets" / "venue-keys"
    keys.mkdir(parents=True)
    for name, venue in (("alpha", "sim"), ("real", "binance")):
        (keys / f"{name}.json").write_text(json.dumps({"venue": venue, "api_key": "k", "secret": "s"}))
    segments = tuple(write_segments(folder, "skeet.t", 0, RECORDS))
    manifest = Manifest(
        created_ns=1,
        skeet_version="0",
        topic_prefix="skeet.",
        account_partitions=8,
        market_partitions=8,
        topics=(
            TopicBackup(
                name="skeet.t",
                config={"retention.ms": "-1"},
                partitions=(PartitionBackup(partition=0, first=3, end=11, segments=segments),),
            ),
        ),
        positions=(Position(group="skeet.g", topic="skeet.t", partition=0, offset=10, metadata="{}"),),
        files=copy_files(Settings(data=data), folder),
    )
    write_manifest(folder, manifest)
    return manifest


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Manifest]:
    folder = tmp_path / "backup"
    return folder, backup(folder, tmp_path / "data")


def test_a_manifest_and_its_records_come_back_equal(made: tuple[Path, Manifest]) -> None:
    folder, manifest = made
    assert read_manifest(folder) == manifest == check(folder)
    assert read_segment(folder, next(manifest.segments())) == RECORDS


@settings(deadline=None)  # files on a busy machine's disk
@given(
    st.lists(
        st.builds(
            Stored,
            offset=st.integers(0, 2**40),
            timestamp_ms=st.integers(-1, 2**45),
            key=st.none() | st.binary(max_size=20),
            value=st.none() | st.binary(max_size=200),
            headers=st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3).map(tuple),
        ),
        min_size=1,
        unique_by=lambda record: record.offset,
    )
)
def test_any_records_come_back_equal(tmp_path_factory: pytest.TempPathFactory, records: list[Stored]) -> None:
    folder = tmp_path_factory.mktemp("segment")
    records.sort()
    (segment,) = write_segments(folder, "t", 0, records)
    assert read_segment(folder, segment) == records


def test_keys_of_real_venues_are_left_out(made: tuple[Path, Manifest]) -> None:
    names = {file.path for file in made[1].files}
    assert "secrets/venue-keys/alpha.json" in names
    assert "secrets/venue-keys/real.json" not in names


def test_files_come_back_where_they_were(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    folder, manifest = made
    put_back(Settings(data=tmp_path / "new"), folder, manifest.files)
    found = {str(path.relative_to(tmp_path / "new")) for path in (tmp_path / "new").rglob("*") if path.is_file()}
    sealed = {"archive/t/0/0-9.json", "archive/t/0/0-9.parquet"}
    assert (
        found
        == {file.path for file in manifest.files}
        == sealed | {"sim/accounts.jsonl", "secrets/venue-keys/alpha.json"}
    )


def test_the_first_damaged_segment_is_named(made: tuple[Path, Manifest]) -> None:
    folder, manifest = made
    path = folder / next(manifest.segments()).path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BackupDamaged, match=path.name):
        check(folder)


def test_a_segment_that_reads_well_and_says_something_else_is_named(
    made: tuple[Path, Manifest], tmp_path: Path
) -> None:
    folder, manifest = made
    segment = next(manifest.segments())
    forged = [RECORDS[0]._replace(value=b"w" * 100), *RECORDS[1:]]
    (other,) = write_segments(tmp_path / "forged", "skeet.t", 0, forged)
    shutil.copy(tmp_path / "forged" / other.path, folder / segment.path)
    with pytest.raises(BackupDamaged, match=Path(segment.path).name):
        check(folder)


def test_a_missing_segment_and_an_altered_file_are_named(made: tuple[Path, Manifest]) -> None:
    folder, manifest = made
    file = folder / "files" / "sim" / "accounts.jsonl"
    file.write_text("another line\n")
    with pytest.raises(BackupDamaged, match=r"accounts\.jsonl"):
        check(folder)
    segment = folder / next(manifest.segments()).path
    segment.unlink()
    with pytest.raises(BackupDamaged, match=segment.name):
        check(folder)


def test_an_altered_manifest_a_newer_format_and_no_backup_are_refused(
    made: tuple[Path, Manifest], tmp_path: Path
) -> None:
    folder, _ = made
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace('"account_partitions": 8', '"account_partitions": 4'))
    with pytest.raises(BackupDamaged, match=MANIFEST_SUM):
        check(folder)
    newer = Manifest(
        created_ns=1, skeet_version="9", topic_prefix="skeet.", account_partitions=8, market_partitions=8,
        topics=(), positions=(), files=(), format=FORMAT + 1,
    )  # fmt: skip
    write_manifest(folder, newer)
    with pytest.raises(InvalidInput, match="newer skeet"):
        check(folder)
    with pytest.raises(InvalidInput, match="no backup"):
        check(tmp_path)
