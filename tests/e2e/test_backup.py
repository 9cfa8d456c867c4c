"""A demo backed up while it stands, restored into an empty directory, started there: verify is clean and it trades on."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import Installation, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.acceptance, pytest.mark.timeout(900)]

HEAL_S = 120.0
MORE_ORDERS = 5


@pytest.fixture
def folders() -> Iterator[tuple[Installation, Installation, Path]]:
    """An installation, an empty one, and where the backup goes."""
    home = Path(tempfile.mkdtemp(prefix="skeet-backup-"))
    home.chmod(0o755)
    old, new = Installation(home / "old"), Installation(home / "new")
    try:
        yield old, new, home / "backup"
    finally:
        for installed in (old, new):
            installed.skeet("down", expect=None)
            installed.skeet("reset", "--yes", expect=None)
        shutil.rmtree(home, ignore_errors=True)


def test_a_restored_demo_verifies_and_trades_on(folders: tuple[Installation, Installation, Path]) -> None:
    old, new, folder = folders
    assert old.json("demo", "--for", "25")["complaints"] == []
    made = old.json("backup", "create", str(folder))
    assert made["records"] > 0 and made["positions"] > 0 and made["files"] > 0
    assert old.json("backup", "verify", str(folder))["records"] == made["records"]
    accounts = {(row["table"]): row["checksum"] for row in old.json("projection", "checksum", "postgres")}
    old.skeet("down")

    assert new.json("backup", "restore", str(folder))["records"] == made["records"]
    assert "is not empty" in new.skeet("backup", "restore", str(folder), expect=2).stderr
    new.skeet("up")
    # Both stores were empty: what they hold now, they have from the restored log.
    eventually(lambda: _checksums(new) == accounts, HEAL_S, "the same accounts, folded from the restored log")
    eventually(lambda: new.skeet("verify", expect=None).returncode == 0, HEAL_S, "a clean verify of the restored log")

    filled = new.count("OrderFilled")
    assert filled > 0
    new.skeet("demo", "--no-watch")
    eventually(lambda: new.count("OrderFilled") >= filled + MORE_ORDERS, HEAL_S, "new fills")
    report = new.json("demo", "--for", "10")
    assert report["complaints"] == []


def _checksums(installed: Installation) -> dict[str, str]:
    done = installed.skeet("projection", "checksum", "postgres", "--json", expect=None)
    if done.returncode:
        return {}
    return {row["table"]: row["checksum"] for row in installed.json("projection", "checksum", "postgres")}
