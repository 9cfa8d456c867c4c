"""Crash points fire where and when they are asked to, once, and are nothing while nobody asks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skeet.config import load_settings
from skeet.core.errors import InvalidInput
from skeet.streams import crash_points
from skeet.streams.crash_points import (
    BY_NAME,
    CATALOGUE,
    DESK_AFTER_COMMIT,
    DESK_BEFORE_COMMIT,
    Action,
    Arming,
    ChaosDirectory,
    chaos_environment,
    parse_armings,
)
from skeet.wiring import ROLES

HOUSE = Path(__file__).parents[2]
SOURCES = [path for room in ("agents", "projections", "streams", "src") for path in (HOUSE / room).rglob("*.py")]

PASSES = """
import sys
from skeet.config import load_settings
from skeet.process import configure_logging
from skeet.streams.crash_points import DESK_AFTER_COMMIT, DESK_BEFORE_COMMIT, install, reach
configure_logging("desk")
install(load_settings())
for passage in range(1, 4):
    reach(DESK_BEFORE_COMMIT)
    reach(DESK_AFTER_COMMIT)
    print(passage, flush=True)
"""


def passages(data: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process that passes two points three times, and prints after each time."""
    settings = {"SKEET_DATA": str(data), **environment}
    command = [sys.executable, "-c", PASSES]
    return subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def chaos(tmp_path: Path) -> ChaosDirectory:
    return ChaosDirectory(tmp_path / "chaos")


def test_armed_point_kills_at_its_nth_passage(tmp_path: Path, chaos: ChaosDirectory) -> None:
    chaos.arm(DESK_AFTER_COMMIT, Arming(nth=2))
    done = passages(tmp_path, SKEET_CHAOS__ENABLED="1")
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["1"])
    assert chaos.spent_by(DESK_AFTER_COMMIT.name) is not None


def test_successor_of_a_crash_does_not_crash(tmp_path: Path, chaos: ChaosDirectory) -> None:
    chaos.arm(DESK_BEFORE_COMMIT, Arming())
    assert passages(tmp_path, SKEET_CHAOS__ENABLED="1").returncode == -signal.SIGKILL
    assert passages(tmp_path, SKEET_CHAOS__ENABLED="1").stdout.split() == ["1", "2", "3"]


def test_setting_arms_from_the_start_and_once_per_data_directory(tmp_path: Path) -> None:
    setting = {"SKEET_CHAOS__CRASH_AT": "desk.after_commit:3"}
    first, second = passages(tmp_path, **setting), passages(tmp_path, **setting)
    assert (first.returncode, first.stdout.split()) == (-signal.SIGKILL, ["1", "2"])
    assert (second.returncode, second.stdout.split()) == (0, ["1", "2", "3"])


def test_armed_point_is_nothing_while_chaos_is_off(tmp_path: Path, chaos: ChaosDirectory) -> None:
    chaos.arm(DESK_AFTER_COMMIT, Arming())
    assert passages(tmp_path).stdout.split() == ["1", "2", "3"]


def test_point_of_another_name_does_not_fire(tmp_path: Path, chaos: ChaosDirectory) -> None:
    chaos.arm(BY_NAME["gateway.between_sends"], Arming())
    assert passages(tmp_path, SKEET_CHAOS__ENABLED="1").returncode == 0


def test_frozen_process_goes_on_when_it_is_continued(tmp_path: Path, chaos: ChaosDirectory) -> None:
    chaos.arm(DESK_BEFORE_COMMIT, Arming(action=Action.STOP))
    environment = os.environ | {"SKEET_DATA": str(tmp_path), "SKEET_CHAOS__ENABLED": "1"}
    process = subprocess.Popen([sys.executable, "-c", PASSES], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        assert chaos.spent_by(DESK_BEFORE_COMMIT.name) == process.pid
        process.send_signal(signal.SIGCONT)
        assert process.communicate(timeout=30)[0].split() == ["1", "2", "3"]
    finally:
        process.kill()
        process.wait()


def test_disarmed_point_is_forgotten(chaos: ChaosDirectory) -> None:
    chaos.arm(DESK_AFTER_COMMIT, Arming(nth=7))
    assert chaos.arming(DESK_AFTER_COMMIT.name) == Arming(nth=7)
    chaos.disarm(DESK_AFTER_COMMIT)
    assert chaos.arming(DESK_AFTER_COMMIT.name) is None


def test_one_of_two_processes_takes_the_point(chaos: ChaosDirectory) -> None:
    chaos.arm(DESK_AFTER_COMMIT, Arming())
    assert [chaos.spend(DESK_AFTER_COMMIT.name) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("text", ["desk.after_comit", "desk.after_commit:0", "desk.after_commit:x"])
def test_setting_that_names_no_point_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"desk\.after_com"):
        parse_armings(text)


@pytest.fixture
def _off() -> Iterator[None]:
    yield
    crash_points.install(load_settings())


@pytest.mark.usefixtures("_off")
def test_chaos_beside_live_trading_is_refused(tmp_path: Path) -> None:
    settings = load_settings(data=tmp_path, allow_live=True, chaos={"enabled": True})
    with pytest.raises(InvalidInput, match="SKEET_ALLOW_LIVE"):
        crash_points.install(settings)


def test_strategy_instances_get_the_installations_directory_and_only_with_chaos(tmp_path: Path) -> None:
    assert chaos_environment(load_settings(data=tmp_path)) == {}
    made = chaos_environment(load_settings(data=tmp_path, chaos={"enabled": True}))
    assert made["SKEET_CHAOS__DIRECTORY"] == str(tmp_path / "chaos")


def test_every_point_is_reached_by_its_role_and_named_once() -> None:
    constants = {name for name, value in vars(crash_points).items() if value in CATALOGUE}
    text = "\n".join(path.read_text() for path in SOURCES if path.name != "crash_points.py" and "cli" not in path.parts)
    assert {name for name in constants if not re.search(rf"\b{name}\b(?=[,)])", text)} == set()
    assert len(BY_NAME) == len(CATALOGUE) == len(constants)
    assert {point.role for point in CATALOGUE} <= {*ROLES, "supervisor"}


def test_point_that_nobody_armed_costs_next_to_nothing() -> None:
    crash_points.install(load_settings())
    began = time.perf_counter()
    for _ in range(100_000):
        crash_points.reach(DESK_AFTER_COMMIT)
    assert (time.perf_counter() - began) / 100_000 < 2e-6
