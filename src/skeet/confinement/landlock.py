"""Landlock: the kernel refuses this thread, and all it starts, whatever files and ports are not named here.

It needs no privilege and cannot be undone. What the running kernel does not know is left out, and said: 1 (Linux 5.13) has
files, 4 (6.7) TCP ports, 6 (6.12) signals and abstract sockets to processes outside. ``landlock(7)``, ``linux/landlock.h``.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from skeet.confinement.libc import prctl, system_call

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls; the same on every architecture."""
VERSION_FLAG = 1
PATH_BENEATH, NET_PORT = 1, 2

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
ALL_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""Rights that exist, by version; later ones added none."""
READING = EXECUTE | READ_FILE | READ_DIR
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | 1 << 14 | 1 << 15
"""Rights that a single file can have: truncate and ioctl beside the first three."""
CONNECT_TCP = 1 << 1
SCOPE_ABSTRACT_UNIX, SCOPE_SIGNAL = 1 << 0, 1 << 1
NO_NEW_PRIVILEGES = 38


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("parent", ctypes.c_int32))


class _Port(ctypes.Structure):
    _fields_ = (("access", ctypes.c_uint64), ("port", ctypes.c_uint64))


def version() -> int:
    """What this kernel speaks; 0 where it has no Landlock."""
    try:
        return system_call(CREATE_RULESET, None, 0, VERSION_FLAG)
    except OSError:
        return 0


def restrict(readable: Iterable[Path], writable: Iterable[Path], ports: Iterable[int]) -> list[str]:
    """Keep only reading below ``readable``, everything below ``writable``, and connecting to ``ports``.

    Paths that do not exist are left out. To be called while the process has one thread: others would keep their rights.
    Returns what is enforced: a subset of ``files``, ``ports``, ``signals``; empty where the kernel has no Landlock.
    """
    known = version()
    if not known:
        return []
    rights = ALL_FILE_RIGHTS[min(known, max(ALL_FILE_RIGHTS))]
    scopes = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL if known >= 6 else 0
    asked = _Ruleset(rights, CONNECT_TCP if known >= 4 else 0, scopes)
    sizes = {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}
    ruleset = system_call(CREATE_RULESET, ctypes.byref(asked), sizes.get(known, ctypes.sizeof(asked)), 0)
    try:
        for path in readable:
            _allow(ruleset, path, READING & rights)
        for path in writable:
            _allow(ruleset, path, rights)
        if known >= 4:
            for port in set(ports):
                system_call(ADD_RULE, ruleset, NET_PORT, ctypes.byref(_Port(CONNECT_TCP, port)), 0)
        prctl(NO_NEW_PRIVILEGES, 1)
        system_call(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return ["files", *(["ports"] if known >= 4 else []), *(["signals"] if known >= 6 else [])]


def _allow(ruleset: int, path: Path, access: int) -> None:
    with suppress(FileNotFoundError, PermissionError):
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(opened).st_mode):
                access &= OF_FILES
            system_call(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(_Beneath(access, opened)), 0)
        finally:
            os.close(opened)
