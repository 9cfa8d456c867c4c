"""Files of the data directory that are no copy of the log: the archive's sealed segments, and the simulated exchange.

The exchange is the witness that a restored log is held against; its accounts' keys go with it. Other venues keep their own
books, and their keys are secrets of the user's: neither is ever in a backup.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from skeet.backup.layout import FILES, BackupDamaged, CopiedFile
from skeet.config import Settings
from skeet.core.errors import InfrastructureError

EXCHANGE = Path("sim")
ARCHIVE = Path("archive")
UNFINISHED = frozenset({".new", ".tmp"})
KEYS = Path("secrets") / "venue-keys"
TRIES = 5

ORDER = ("snapshot-", "accounts", "tape-", "trades-", "bars-", "commands-")
"""Of a running exchange: what a recovery cuts back to the snapshot after the snapshot, the command logs it replays last."""


def copy_files(settings: Settings, folder: Path) -> tuple[CopiedFile, ...]:
    """Copy what there is. Sealed segments never change; a running exchange's files are copied so that its recovery makes
    them whole.

    Raises
    ------
    InfrastructureError
        the exchange wrote snapshots faster than it could be copied.
    """
    for _ in range(TRIES):
        before = _snapshots(settings)
        copied = tuple(_copy(settings, folder, path) for path in _files(settings))
        if _snapshots(settings) == before:
            return copied
    raise InfrastructureError(
        f"{settings.data / EXCHANGE} changed while it was copied; pause the exchange (`skeet sim pause`)"
    )


def check_files(folder: Path, files: tuple[CopiedFile, ...]) -> Iterator[CopiedFile]:
    """Each file once its checksum is right.

    Raises
    ------
    BackupDamaged
        names the first bad file.
    """
    for each in files:
        path = folder / FILES / each.path
        found = sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
        if found != each.sha256:
            raise BackupDamaged(f"{FILES / each.path}: its SHA-256 is {found}, the manifest says {each.sha256}")
        yield each


def put_back(settings: Settings, folder: Path, files: tuple[CopiedFile, ...]) -> None:
    """Copy the files into a data directory, readable by their owner only."""
    for each in check_files(folder, files):
        target = place_of(settings, Path(each.path))
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(folder / FILES / each.path, target)
        target.chmod(0o600)


def place_of(settings: Settings, path: Path) -> Path:
    """Where a file of this path in the backup stands in an installation: the archive may be elsewhere."""
    if path.parts[0] == ARCHIVE.name:
        return settings.archive_dir.joinpath(*path.parts[1:])
    return settings.data / path


def _files(settings: Settings) -> list[Path]:
    data = settings.data
    exchange = [path for path in (data / EXCHANGE).glob("*") if _finished(path)]
    ordered = sorted(exchange, key=lambda path: (_rank(path.name), path.name))
    keys = sorted(path for path in (data / KEYS).glob("*.json") if _is_simulated(path))
    # A segment counts once its manifest is there, which is written last: whatever has one is copied whole.
    sealed = sorted(path for path in settings.archive_dir.rglob("*") if _finished(path))
    return [
        *(path.relative_to(data) for path in (*ordered, *keys)),
        *(ARCHIVE / path.relative_to(settings.archive_dir) for path in sealed),
    ]


def _finished(path: Path) -> bool:
    return path.is_file() and path.suffix not in UNFINISHED


def _rank(name: str) -> int:
    return next((rank for rank, start in enumerate(ORDER) if name.startswith(start)), len(ORDER) - 2)


def _snapshots(settings: Settings) -> set[str]:
    return {path.name for path in (settings.data / EXCHANGE).glob("snapshot-*.json")}


def _copy(settings: Settings, folder: Path, path: Path) -> CopiedFile:
    target = folder / FILES / path
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    content = place_of(settings, path).read_bytes()
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return CopiedFile(path=str(path), size_bytes=len(content), sha256=sha256(content).hexdigest())


def _is_simulated(key_file: Path) -> bool:
    try:
        return bool(json.loads(key_file.read_text())["venue"] == "sim")
    except (OSError, ValueError, KeyError, TypeError):
        return False
