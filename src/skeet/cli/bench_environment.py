"""A virtual environment for the peers of ``skeet bench peers``: their pins are not ours.

Made on demand from ``peers.lock`` (versions and hashes) under the user's cache directory, and named by what is in it: another
lock or another Python has another one.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import platformdirs

from skeet.core.errors import InfrastructureError

LOCK = "peers.lock"
INSTALL_DEADLINE_S = 900.0
COMPLETE = "complete"
"""A file that is there once everything is; a directory without it is what an interrupted installation left."""


def lock_text() -> str:
    """The peers' requirements."""
    return (files("skeet.cli") / LOCK).read_text(encoding="utf-8")


def peer_versions() -> dict[str, str]:
    """The peers themselves and their versions, without what they need."""
    pinned = dict(line.split()[0].split("==") for line in lock_text().splitlines() if "==" in line and line[0] != " ")
    return {name: pinned[name] for name in ("quixstreams", "bytewax")}


def peer_python(lock: str | None = None) -> Path:
    """The interpreter of the environment, which is made if it is not there; a minute the first time.

    Raises
    ------
    InfrastructureError
        it cannot be made: no network and no index, or no package for this Python; with the installer's last words.
    """
    lock = lock_text() if lock is None else lock
    identity = hashlib.sha256(f"{lock}\0{sys.version}\0{platform.machine()}".encode()).hexdigest()[:16]
    folder = platformdirs.user_cache_path("skeet") / "peers" / identity
    python = folder / "bin" / "python"
    if not (folder / COMPLETE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        _install(folder, python, lock)
        (folder / COMPLETE).touch()
    return python


def _install(folder: Path, python: Path, lock: str) -> None:
    requirements = folder / LOCK
    requirements.write_text(lock, encoding="utf-8")
    _call(folder, sys.executable, "-m", "venv", str(folder))
    options = ("--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:")
    _call(folder, str(python), "-m", "pip", "install", *options, "-r", str(requirements))


def _call(folder: Path, *words: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=INSTALL_DEADLINE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InfrastructureError(f"the peers' environment {folder} could not be made: {error}") from error
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise InfrastructureError(
            f"the peers' environment {folder} could not be made: `{' '.join(words[:4])} …` ended with {done.returncode}: {said}"
        )
