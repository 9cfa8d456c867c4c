"""The platform's commands as a user meets them: exit codes and messages."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from skeet.cli.platform import _raise_if_hopeless
from skeet.core.errors import InfrastructureError
from skeet.local.installation import Installation
from skeet.local.plan import State
from skeet.local.state import PlatformState, ProcessRecord

pytestmark = pytest.mark.integration


def skeet(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SKEET_")}
    return subprocess.run(
        [sys.executable, "-m", "skeet", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**environment, "SKEET_DATA": str(data)},
    )


def test_port_in_use_names_its_holder_and_starts_nothing(tmp_path: Path) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        done = skeet(tmp_path, "up", "--port-base", str(port))
    assert done.returncode == 16
    assert f"port {port} of kafka is in use by pid {os.getpid()}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "state.json").exists()


def test_status_before_the_first_start_says_so(tmp_path: Path) -> None:
    done = skeet(tmp_path, "status", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["processes"] == []


def test_doctor_answers_with_a_verdict_for_each_check(tmp_path: Path) -> None:
    done = skeet(tmp_path / "data", "doctor", "--json")
    findings = json.loads(done.stdout)
    assert {"python", "packages", "disk", "memory", "java", "postgres", "ports"} <= {f["check"] for f in findings}
    assert done.returncode == (1 if any(f["verdict"] == "fail" for f in findings) else 0)
    assert all(f["remedy"] for f in findings if f["verdict"] != "ok")


def test_readable_secret_is_found_by_the_doctor(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("x")
    (tmp_path / "secrets" / "token").chmod(0o644)
    done = skeet(tmp_path, "doctor", "--json")
    secrets = next(f for f in json.loads(done.stdout) if f["check"] == "secrets")
    assert (secrets["verdict"], done.returncode) == ("fail", 1)
    assert "chmod -R go=" in secrets["remedy"]


def test_logs_of_an_unknown_part_lists_the_known(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "desk.log").write_text("one\ntwo\n")
    assert skeet(tmp_path, "logs", "desk", "-n", "1").stdout.strip() == "desk | two"
    unknown = skeet(tmp_path, "logs", "dusk")
    assert (unknown.returncode, "there are desk" in unknown.stderr) == (2, True)


def test_down_with_nothing_running_is_no_error(tmp_path: Path) -> None:
    done = skeet(tmp_path, "down")
    assert (done.returncode, done.stdout.strip()) == (0, "nothing was running")


def test_reset_of_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = skeet(tmp_path, "reset", "--yes")
    assert done.returncode == 2
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize(("then", "hopeless"), [(9, False), (12, False), (13, True)])
def test_only_restarts_since_the_wait_began_make_a_process_hopeless(tmp_path: Path, then: int, hopeless: bool) -> None:
    record = ProcessRecord(
        name="gateway",
        state=State.BACKOFF,
        identity=None,
        restarts=then,
        since=0.0,
        last_exit="ended",
        group="",
        stop_signal=15,
    )
    state = PlatformState(supervisor=None, processes=(record,))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "gateway.log").write_text("its last words\n")
    with pytest.raises(InfrastructureError, match="again and again") if hopeless else nullcontext():
        _raise_if_hopeless(Installation(tmp_path), state, {"gateway": 9})
