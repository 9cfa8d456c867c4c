"""Control records that cannot be acted on: bytes decide nothing, a newer version's decision lets no order out."""

from __future__ import annotations

from skeet.core.control import KillSwitchSet
from skeet.core.controls import Control, active_kills, apply_control, apply_unreadable

AT = "control.events.v1/0/7"


def test_bytes_that_are_no_record_only_move_the_offset() -> None:
    assert apply_unreadable(Control(offset=6), AT, 7, newer=False) == Control(offset=7)


def test_a_decision_of_a_newer_version_denies_every_account_until_that_version_runs() -> None:
    control = apply_unreadable(Control(offset=6), AT, 7, newer=True)
    (kill,) = active_kills(control, "main", "alice")
    assert AT in kill.reason
    assert "run the version that wrote it" in kill.reason


def test_nobody_switches_it_off_by_naming_a_scope() -> None:
    control = apply_unreadable(Control(offset=6), AT, 7, newer=True)
    off = KillSwitchSet(scope="platform", active=False, cancel_open=False, reason="")
    assert len(active_kills(apply_control(control, off, 8), "main", "alice")) == 1
