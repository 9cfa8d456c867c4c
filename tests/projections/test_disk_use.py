"""What an installation takes on disk, and which part of it is leaving."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skeet.config import Settings
from skeet.projections.disk_use import allocated, leaving_bytes, look, partition_bytes

KIB = 1024
PLACE = ("market.trades.v1", 0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A broker's directory with three segment files of one partition: offsets 0, 100 and 200 on."""
    partition = tmp_path / "kafka" / "logs" / "skeet.market.trades.v1-0"
    partition.mkdir(parents=True)
    for base, size in ((0, 40), (100, 40), (200, 8)):
        (partition / f"{base:020d}.log").write_bytes(os.urandom(size * KIB))
    return Settings(data=tmp_path)


def test_files_below_the_start_and_the_share_of_the_one_it_lies_in_are_leaving(settings: Settings) -> None:
    assert leaving_bytes(settings, PLACE, 0, 220) == 0
    assert leaving_bytes(settings, PLACE, 100, 220) == 40 * KIB
    assert leaving_bytes(settings, PLACE, 150, 220) == 60 * KIB
    assert leaving_bytes(settings, PLACE, 220, 220) == 88 * KIB


def test_deleted_files_that_the_broker_still_holds_are_leaving(settings: Settings) -> None:
    folder = settings.data / "kafka" / "logs" / "skeet.market.trades.v1-0"
    (folder / f"{0:020d}.log").rename(folder / f"{0:020d}.log.deleted")
    assert leaving_bytes(settings, PLACE, 100, 220) == 40 * KIB


def test_broker_elsewhere_has_nothing_here(tmp_path: Path) -> None:
    assert leaving_bytes(Settings(data=tmp_path), PLACE, 100, 220) == 0
    assert partition_bytes(Settings(data=tmp_path)) == {}


def test_use_counts_what_is_on_disk_holes_and_links_included(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = look(settings, {}, {}).used
    with (settings.data / "sparse").open("wb") as file:
        file.truncate(100 * KIB * KIB)  # an index that Kafka maps: all hole
    assert look(settings, {}, {}).used == before
    elsewhere = tmp_path_factory.mktemp("postgres")
    (elsewhere / "rows").write_bytes(os.urandom(64 * KIB))
    (settings.data / "postgres").symlink_to(elsewhere)
    seen = look(settings, {PLACE: 100}, {PLACE: 220})
    assert seen.used == before + 64 * KIB
    assert seen.leaving == 40 * KIB
    assert {volume.name: volume.path for volume in seen.volumes}["postgres"] == str(elsewhere)
    assert partition_bytes(settings)[PLACE] == 88 * KIB
    assert allocated(settings.data / "nothing") == 0
