"""The kill latch: a file that stops orders at the gateway, also with Kafka away.

Set-only while it stands: each setting adds an entry, and the entries are OR-ed. The gateway looks before each socket write
that could open a position. What cannot be read blocks everything. ``skeet kill on`` sets it besides the control event;
only an operator's ``skeet kill off`` releases a scope.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from skeet.config import Settings

FILE_NAME = "kill.latch"
PLATFORM = "platform"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatchEntry:
    """``scope`` is ``platform``, ``tenant:ID`` or ``account:ID``; ``cancel_open``: open orders in it are canceled too."""

    scope: str
    reason: str
    cancel_open: bool
    set_ns: int

    def covers(self, tenant_id: str, account_id: str) -> bool:
        """Whether orders of this account are stopped."""
        return self.scope in (PLATFORM, f"tenant:{tenant_id}", f"account:{account_id}")


UNREADABLE = LatchEntry(scope=PLATFORM, reason="the kill latch cannot be read", cancel_open=False, set_ns=0)


def latch_path(settings: Settings) -> Path:
    """Where the latch of this installation is."""
    return settings.data / FILE_NAME


class KillLatch:
    """Reads the latch; a look at an unchanged file costs one ``stat``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._entries: tuple[LatchEntry, ...] = ()

    def entries(self) -> tuple[LatchEntry, ...]:
        """What stands in the latch now; empty when there is none."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._seen, self._entries = None, ()
            return ()
        except OSError:
            return (UNREADABLE,)
        version = (found.st_mtime_ns, found.st_ino, found.st_size)
        if version != self._seen:
            self._entries = read_latch(self._path)
            self._seen = version
        return self._entries

    def blocks(self, tenant_id: str, account_id: str) -> str:
        """Why this account's orders may not leave; empty when they may."""
        for entry in self.entries():
            if entry.covers(tenant_id, account_id):
                return f"kill switch ({entry.scope}): {entry.reason}"
        return ""


def read_latch(path: Path) -> tuple[LatchEntry, ...]:
    """The entries of a latch file; one entry that blocks everything when it is unreadable."""
    try:
        return tuple(LatchEntry(**entry) for entry in json.loads(path.read_text())["entries"])
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError):
        return (UNREADABLE,)


def set_latch(path: Path, entry: LatchEntry) -> None:
    """Add an entry. On return it is on disk: file and directory are synced."""
    kept = tuple(other for other in read_latch(path) if other.scope != entry.scope and other != UNREADABLE)
    _write(path, (*kept, entry))


def release_latch(path: Path, scope: str) -> bool:
    """Take a scope's entry away (an unreadable latch counts as ``platform``); whether there was one."""
    entries = read_latch(path)
    kept = tuple(entry for entry in entries if entry.scope != scope)
    if len(kept) == len(entries):
        return False
    if kept:
        _write(path, kept)
    else:
        path.unlink(missing_ok=True)
        _sync_folder(path.parent)
    return True


def _write(path: Path, entries: tuple[LatchEntry, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    with draft.open("w") as file:
        json.dump({"entries": [asdict(entry) for entry in entries]}, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
