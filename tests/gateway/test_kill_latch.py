"""The kill latch: what stands in it stops orders, what cannot be read stops all of them."""

from __future__ import annotations

from pathlib import Path

from skeet.agents.kill_latch import KillLatch, LatchEntry, read_latch, release_latch, set_latch


def entry(scope: str, reason: str = "drill") -> LatchEntry:
    return LatchEntry(scope=scope, reason=reason, cancel_open=False, set_ns=1)


def test_no_file_blocks_nothing(tmp_path: Path) -> None:
    assert KillLatch(tmp_path / "kill.latch").blocks("main", "alpha") == ""


def test_entry_blocks_its_scope_only(tmp_path: Path) -> None:
    path = tmp_path / "kill.latch"
    latch = KillLatch(path)
    set_latch(path, entry("account:alpha"))
    assert "drill" in latch.blocks("main", "alpha") and latch.blocks("main", "beta") == ""
    set_latch(path, entry("tenant:main"))
    assert latch.blocks("main", "beta") and latch.blocks("other", "beta") == ""
    set_latch(path, entry("platform"))
    assert latch.blocks("other", "beta")


def test_release_of_one_scope_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "kill.latch"
    latch = KillLatch(path)
    set_latch(path, entry("account:alpha"))
    set_latch(path, entry("account:beta"))
    assert release_latch(path, "account:alpha") and not release_latch(path, "account:alpha")
    assert latch.blocks("main", "alpha") == "" and latch.blocks("main", "beta")
    assert release_latch(path, "account:beta") and not path.exists()


def test_unreadable_latch_blocks_everything_until_the_platform_is_released(tmp_path: Path) -> None:
    path = tmp_path / "kill.latch"
    path.write_text("{")
    assert "cannot be read" in KillLatch(path).blocks("any", "account")
    assert read_latch(path)[0].scope == "platform"
    assert release_latch(path, "platform") and KillLatch(path).blocks("any", "account") == ""
