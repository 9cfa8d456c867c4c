"""Kernels stay within their buffers, are compiled once, and are loaded only where they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from numba import types

from skeet.schemas.columns import compiling

SOURCE = "def twice(number):\n    return 2 * number\n"
SIGNATURE = types.int64(types.int64)


def test_no_byte_beyond_a_buffer_is_touched() -> None:
    script = Path(__file__).with_name("kernels_at_the_edge.py")
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=250)
    assert ended.returncode == 0, f"ended by {ended.returncode}: {ended.stderr[-2000:]}"
    assert int(ended.stdout.split()[0]) > 1_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kept = tmp_path / "kernels"
    monkeypatch.setattr(compiling, "kernel_dir", lambda: kept)
    return kept


def hits(kernel: object) -> int:
    return sum(kernel.stats.cache_hits.values())  # type: ignore[attr-defined]


def test_a_kernel_is_compiled_once_for_all_processes(folder: Path) -> None:
    first, second = (compiling.compiled(SOURCE, "twice", SIGNATURE) for _ in range(2))
    assert (hits(first), hits(second), second(4)) == (0, 1, 8)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_changed_code_below_a_kernel_makes_it_another_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiling.compiled(SOURCE, "twice", SIGNATURE)
    monkeypatch.setattr(compiling, "_called", lambda: "something else")
    assert hits(compiling.compiled(SOURCE, "twice", SIGNATURE)) == 0


def test_where_nothing_can_be_kept_kernels_are_compiled_in_memory(folder: Path) -> None:
    folder.write_text("no folder")
    assert compiling.compiled(SOURCE, "twice", SIGNATURE)(4) == 8


def test_machine_code_is_not_loaded_from_a_folder_that_others_may_write(folder: Path) -> None:
    compiling.compiled(SOURCE, "twice", SIGNATURE)
    folder.chmod(0o777)
    kernel = compiling.compiled(SOURCE, "twice", SIGNATURE)
    assert (kernel(4), hits(kernel)) == (8, 0)


def test_a_kept_source_that_was_changed_is_not_run(folder: Path) -> None:
    compiling.compiled(SOURCE, "twice", SIGNATURE)
    (kept,) = folder.glob("*.py")
    kept.write_text(SOURCE.replace("2", "3"))
    assert compiling.compiled(SOURCE, "twice", SIGNATURE)(4) == 8


@pytest.mark.parametrize(
    "module", ["skeet.cli.main", "skeet.schemas.codec", "skeet.schemas.columns.building", "skeet.agents.strategies"]
)
def test_no_compiler_is_loaded_where_no_batch_is_read(module: str) -> None:
    code = f"import sys, {module}; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
