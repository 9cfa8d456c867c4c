"""What counts as a full disk, and how it is said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from skeet.core.errors import DiskFull
from skeet.local import disks, kafka


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes free at every path whose end is named here; plenty elsewhere."""
    named: dict[str, int] = {}

    def disk_usage(path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=next((size for end, size in named.items() if str(path).endswith(end)), 2**40))

    monkeypatch.setattr("skeet.local.disks.shutil.disk_usage", disk_usage)
    return named


def test_part_is_not_started_on_a_full_disk(tmp_path: Path, free: dict[str, int]) -> None:
    disks.require_space("kafka", tmp_path)
    free[tmp_path.name] = disks.FULL_BELOW - 1
    with pytest.raises(DiskFull, match=f"disk full: kafka at {tmp_path}, free 8.0 MiB; free at least 8.0 MiB there"):
        disks.require_space("kafka", tmp_path)


def test_parts_on_one_full_disk_are_one_line(tmp_path: Path, free: dict[str, int]) -> None:
    for name in ("kafka", "postgres"):
        (tmp_path / name).mkdir()
    assert disks.full_disks(tmp_path) == []
    free |= {"kafka": 5, "postgres": 5, tmp_path.name: 5}
    assert disks.full_disks(tmp_path) == [f"disk full: kafka at {tmp_path / 'kafka'}, free 5 B"]


def test_broker_gives_up_its_ballast_only_when_its_disk_is_full(
    tmp_path: Path, free: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "BALLAST_BYTES", 4096)
    ballast = tmp_path / kafka.BALLAST
    kafka.keep_ballast(tmp_path)
    kafka.spend_ballast(tmp_path)
    assert ballast.stat().st_size == 4096
    free[tmp_path.name] = disks.FULL_BELOW - 1
    kafka.spend_ballast(tmp_path)
    assert not ballast.exists()
    kafka.keep_ballast(tmp_path)
    assert ballast.exists()  # 16 times its size is free
    ballast.unlink()
    free[tmp_path.name] = kafka.BALLAST_SHARE * 4096 - 1
    kafka.keep_ballast(tmp_path)
    assert not ballast.exists()
