"""Guards and their patches: each patch takes one guard away, and the test that it names must then fail.

A patch is a unified diff below a head of three lines: ``Promise:`` what holds for the user, ``Guard:`` where the code sees
to it, ``Test:`` the pytest node that goes red without it. ``docs/guarantees.md`` is written from these heads.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATCHES = Path(__file__).resolve().parent / "patches"
PACKAGES = ("schemas", "streams", "agents", "projections")
"""Top-level folders that are packages inside ``skeet``."""

FAILED = 1
"""Pytest's exit code when tests ran and some failed; 2 to 5 say that it could not run them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """One patch: its file and what its head says."""

    path: Path
    promise: str
    guard: str
    test: str

    @property
    def name(self) -> str:
        """The patch's name without its suffix."""
        return self.path.stem


def guards() -> list[Guard]:
    """All patches, by name.

    Raises
    ------
    ValueError
        a head lacks a line; the message names file and line.
    """
    return [_read(path) for path in sorted(PATCHES.glob("*.patch"))]


def _read(path: Path) -> Guard:
    head = path.read_text().split("\ndiff ", 1)[0]
    lines = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
    missing = {"Promise", "Guard", "Test"} - lines.keys()
    if missing:
        raise ValueError(f"{path.name}: the head has no line {', '.join(sorted(missing))}")
    return Guard(path=path, promise=lines["Promise"], guard=lines["Guard"], test=lines["Test"])


def copy_checkout(target: Path) -> None:
    """The tracked files of this checkout, laid out so that ``target/packages`` imports as the package ``skeet``."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    package = target / "packages" / "skeet"
    package.mkdir(parents=True)
    for entry in (target / "src" / "skeet").iterdir():
        (package / entry.name).symlink_to(entry)
    for name in PACKAGES:
        (package / name).symlink_to(target / name)


def applies(guard: Guard, checkout: Path, *, check_only: bool = False) -> bool:
    """Apply the patch to a copied checkout (or only try); whether it fits."""
    words = ["git", "apply", *(["--check"] if check_only else []), str(guard.path)]
    # Outside a repository: inside one, git would look for the paths from its top.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(checkout.parent)}
    return subprocess.run(words, cwd=checkout, env=environment, capture_output=True, check=False).returncode == 0


def run_tests(checkout: Path, tests: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    """Pytest on a copied checkout, importing its code and not the installed one."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "packages"), "PYTHONDONTWRITEBYTECODE": "1"}
    # Recorded data is found beside the checkout; a copy has none beside it.
    environment.setdefault("SKEET_SHARED_DATA", str(ROOT.parent / "shared" / "data"))
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *(options or ("-x", "-p", "no:cacheprovider")), *tests],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def failing(checkout: Path, tests: list[str]) -> list[str]:
    """Which of the tests fail when all are run in one go; all of them when that could not be told."""
    cache = checkout / "guards-cache"
    done = run_tests(checkout, tests, "-o", f"cache_dir={cache}")
    if done.returncode == 0:
        return []
    noted = cache / "v" / "cache" / "lastfailed"
    nodes = json.loads(noted.read_text()) if noted.exists() else {}
    # A patch names a test, pytest each of its parameters.
    found = [test for test in tests if any(node == test or node.startswith(f"{test}[") for node in nodes)]
    return found or tests


def rendered() -> str:
    """``docs/guarantees.md``."""
    rows = [
        f"| {guard.promise} | {guard.guard} | `{guard.test.split('::')[-1]}`<br>{guard.test.split('::')[0]} | "
        f"[{guard.name}](../tests/guards/patches/{guard.path.name}) |"
        for guard in guards()
    ]
    return HEAD + "\n".join(rows) + "\n"


HEAD = """\
# What SKEET guarantees, and what proves it

Written by `python tests/guards/run.py --document > docs/guarantees.md` from the heads of the patches; a test keeps it current.

Each row is a promise, the guard that keeps it, the test that fails without the guard, and the patch that takes the guard
away. `make guards` applies the patches one by one to a copy of the checkout and requires each test to pass before and to fail
after. The promises by number (I1 to I10) are those that `skeet verify` checks from outside where it can.

| promise | guard | test | patch |
|---|---|---|---|
"""
