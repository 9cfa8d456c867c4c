"""The supervisor over real, tiny processes: it starts, heals, is taken over, and leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_disks import fill, make_room, mounted

from skeet.local.identity import Identity
from skeet.local.installation import Installation
from skeet.local.logs import Follower, last_lines, log_files
from skeet.local.state import ProcessRecord, read_state
from skeet.local.status import platform_status
from skeet.local.strays import stop_strays
from skeet.local.supervisor import TICK_S, stop_recorded

pytestmark = pytest.mark.integration

FAKE = Path(__file__).with_name("fake_platform.py")


def eventually(condition: Callable[[], bool], deadline_s: float = 15) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)


class Platform:
    """A data directory and the supervisors that run in it."""

    def __init__(self, data: Path) -> None:
        self.installation = Installation(data)
        self.supervisors: list[subprocess.Popen[bytes]] = []

    def up(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, str(FAKE), str(self.installation.data)], stderr=subprocess.DEVNULL)
        self.supervisors.append(process)

        def settled() -> bool:
            state = read_state(self.installation.state_file)
            return state.settled and state.supervisor is not None and state.supervisor.pid == process.pid

        eventually(settled)
        return process

    def record(self, name: str) -> ProcessRecord:
        state = read_state(self.installation.state_file)
        return next(record for record in state.processes if record.name == name)

    def identity(self, name: str) -> Identity:
        identity = self.record(name).identity
        assert identity is not None
        return identity

    def helper(self, name: str) -> Identity:
        return Identity.of(int((self.installation.ready / f"{name}.helper").read_text()))

    def down(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    made = Platform(tmp_path / "data")
    yield made
    for supervisor in made.supervisors:
        supervisor.kill()
        supervisor.wait()
    stop_recorded(read_state(made.installation.state_file).processes)


def test_down_leaves_no_process_behind(platform: Platform) -> None:
    supervisor = platform.up()
    identities = [platform.identity("log"), platform.identity("desk")]
    helpers = [platform.helper("log"), platform.helper("desk")]
    platform.down(supervisor)
    assert supervisor.returncode == 0
    assert not any(identity.alive for identity in identities)
    assert not any(helper.alive for helper in helpers)
    assert not platform_status(platform.installation).running


def test_killed_process_heals_and_its_own_children_go_with_it(platform: Platform) -> None:
    platform.up()
    killed, helper = platform.identity("desk"), platform.helper("desk")
    killed.send(signal.SIGKILL)
    eventually(lambda: platform.record("desk").restarts == 1 and platform_status(platform.installation).ready)
    assert platform.identity("desk") != killed
    assert platform.record("desk").last_exit == "SIGKILL"
    assert not helper.alive


def test_supervisor_lives_on_a_full_disk_and_says_so_when_it_can(tmp_path: Path) -> None:
    with mounted(tmp_path / "data", "size=16m") as data:
        made = Platform(data)
        try:
            supervisor = made.up()
            fill(data)
            made.identity("desk").send(signal.SIGKILL)
            eventually(lambda: not made.identity("desk").alive)
            before = time.monotonic()
            eventually(lambda: time.monotonic() > before + 5 * TICK_S or supervisor.poll() is not None)
            assert supervisor.poll() is None
            make_room(data)
            eventually(lambda: made.record("desk").restarts == 1 and platform_status(made.installation).ready)
            assert made.record("desk").last_exit.startswith(f"SIGKILL; disk full: data at {data}, free ")
            made.down(supervisor)
        finally:
            stop_recorded(read_state(made.installation.state_file).processes)


def test_supervisor_after_a_killed_one_takes_its_processes_over(platform: Platform) -> None:
    first = platform.up()
    before = [platform.identity("log"), platform.identity("desk")]
    first.kill()
    first.wait()
    assert all(identity.alive for identity in before)
    second = platform.up()
    assert [platform.identity("log"), platform.identity("desk")] == before
    before[1].send(signal.SIGKILL)
    eventually(lambda: platform.record("desk").restarts == 1 and platform_status(platform.installation).ready)
    platform.down(second)
    assert not before[0].alive


def test_process_that_died_with_its_supervisor_is_started_anew(platform: Platform) -> None:
    first = platform.up()
    desk = platform.identity("desk")
    first.kill()
    first.wait()
    desk.send(signal.SIGKILL)
    platform.up()
    assert platform.identity("desk") != desk


def test_recorded_processes_are_stopped_without_a_supervisor(platform: Platform) -> None:
    first = platform.up()
    identities, helper = [platform.identity("log"), platform.identity("desk")], platform.helper("log")
    first.kill()
    first.wait()
    assert stop_recorded(read_state(platform.installation.state_file).processes) == ["log", "desk"]
    assert not any(identity.alive for identity in identities)
    assert not helper.alive


def test_pid_that_belongs_to_somebody_else_is_never_touched(platform: Platform) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        stale = Identity(pid=bystander.pid, started=Identity.of(bystander.pid).started - 100)
        assert not stale.alive
        stale.send(signal.SIGKILL)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_second_supervisor_is_refused(platform: Platform) -> None:
    platform.up()
    second = subprocess.run(
        [sys.executable, str(FAKE), str(platform.installation.data)], capture_output=True, timeout=30, check=False
    )
    assert second.returncode != 0
    assert b"another supervisor runs" in second.stderr
    assert platform_status(platform.installation).ready


def test_logs_are_kept_per_process_and_followed(platform: Platform) -> None:
    platform.installation.create()
    follower = Follower(platform.installation.logs)
    platform.up()
    lines: list[tuple[str, str]] = []

    def both_spoke() -> bool:
        lines.extend(follower.new_lines())
        return {("log", "at work"), ("desk", "at work")} <= set(lines)

    eventually(both_spoke)
    assert last_lines(log_files(platform.installation.logs, ["desk"])[0], 1) == ["at work"]


def test_process_that_a_killed_supervisor_never_noted_is_not_left_beside_its_successor(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKEET_CHAOS__CRASH_AT", "supervisor.after_start")
    first = subprocess.Popen([sys.executable, str(FAKE), str(platform.installation.data)], stderr=subprocess.DEVNULL)
    platform.supervisors.append(first)
    assert first.wait(30) == -signal.SIGKILL
    assert read_state(platform.installation.state_file).processes == ()
    helper = platform.installation.ready / "log.helper"
    eventually(helper.exists)
    stray = Identity.of(int(helper.read_text()))
    platform.up()
    assert not stray.alive
    assert platform.helper("log") != stray


def test_what_known_processes_started_is_no_stray(platform: Platform) -> None:
    first = platform.up()
    known = [platform.identity("log"), platform.identity("desk")]
    first.kill()
    first.wait()
    assert stop_strays(platform.installation, known) == []
    assert all(each.alive for each in (*known, platform.helper("log")))
    assert stop_strays(platform.installation, known[:1]) == ["desk"]
    assert not known[1].alive


def test_all_killed_at_once_start_in_the_order_of_readiness_again(platform: Platform) -> None:
    platform.up()
    killed = [platform.identity("desk"), platform.identity("log")]
    for each in killed:
        each.send(signal.SIGKILL)
    eventually(lambda: platform.record("desk").restarts == 1 and platform_status(platform.installation).ready)
    # The log was seen to be ready at a later look than the one that started it. Without waiting both start in one.
    assert platform.identity("desk").started - platform.identity("log").started > TICK_S / 2
    assert platform.record("desk").last_exit == "SIGKILL"
