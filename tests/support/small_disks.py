"""Small file systems of their own for tests of full disks; only root may make them, others skip with the reason."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FILLER = "filler"


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A tmpfs at a folder, with mount options such as ``size=4m,ro``; gone at the end, whoever still uses it."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"this machine lets nobody mount: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int = 0) -> None:
    """Take all space on the folder's file system but ``leave`` bytes, while others may be writing there."""
    share = 1
    with (folder / FILLER).open("ab") as file:
        while (free := shutil.disk_usage(folder).free - leave) > 0 and share < 1024:
            try:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), max(1, free // share))
                share = 1
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                share *= 2  # somebody took some of it in between


def make_room(folder: Path) -> None:
    """Give the space back."""
    (folder / FILLER).unlink(missing_ok=True)
