"""Confining this process, in the only order that works: limits, user, capabilities, files and ports, system calls.

Each layer holds without the others, so that a system that lacks one is still guarded by the rest; what is enforced is
returned to be logged. Why these: docs/adr/0009-what-confines-a-strategy.md.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from skeet.confinement import landlock, seccomp
from skeet.confinement.libc import prctl, supported, system_call
from skeet.core.errors import InfrastructureError

MIB = 1024 * 1024
SPARE_MEMORY_MB = 256
"""On top of resident memory: thread stacks and pools that are reserved and not touched."""
SET_PDEATHSIG, SET_DUMPABLE, SET_KEEPCAPS, CAPBSET_DROP, SET_SECUREBITS = 1, 4, 8, 24, 28
CAPSET = {"x86_64": 126, "aarch64": 91}
CAPABILITY_VERSION = 0x20080522
DAC_READ_SEARCH = 2
LAST_CAPABILITY = 63

SYSTEM_PATHS = (
    *("/usr", "/lib", "/lib64", "/bin", "/dev/urandom", "/dev/random", "/proc/self", "/sys/devices/system/cpu"),
    *("/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/services"),
    *("/etc/localtime", "/etc/timezone", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d"),
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs", "/etc/pki/ca-trust"),
)
"""What libraries read: programs, devices, name resolution, time zone, certificates. Not all of /etc: keys and password
hashes are there, and a mode that forbids them does not count for who may read everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What is left to the process.

    ``home`` is its own and the place to write to, beside what ``writable`` names. ``uid`` of 0 keeps its user. ``threads`` is only enforced with a user of its
    own: the system counts them per user.
    """

    home: Path
    readable: tuple[Path, ...]
    writable: tuple[Path, ...] = ()
    ports: tuple[int, ...]
    uid: int
    memory_mb: int
    threads: int
    open_files: int
    file_mb: int


def confine(wanted: Confinement) -> list[str]:
    """Give everything else up, for good. To be called while the process has one thread. Returns the layers in force.

    Raises
    ------
    InfrastructureError
        the process has more threads, which would keep their rights; or a user was asked for and not taken.
    """
    _resource_limits(wanted)
    layers = ["limits"]
    if not supported():
        return layers
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise InfrastructureError("a process is confined before it starts threads; this one has some already")
    if wanted.uid and os.geteuid() == 0:
        _become(wanted.uid, wanted.home, reads_everything=bool(landlock.version()))
        resource.setrlimit(resource.RLIMIT_NPROC, (wanted.threads, wanted.threads))
        layers.append("user")
    elif os.geteuid() == 0:
        _drop_capabilities(keep=0)
    prctl(SET_PDEATHSIG, int(signal.SIGKILL))
    prctl(SET_DUMPABLE, 0)
    layers += landlock.restrict(wanted.readable, (wanted.home, *wanted.writable, Path("/dev/null")), wanted.ports)
    if seccomp.restrict():
        layers.append("system calls")
    return layers


def code_paths(secret: Path) -> tuple[Path, ...]:
    """What a Python process reads to run at all: interpreter, libraries, our code, time zones, name resolution.

    Nothing that holds ``secret`` is among them.
    """
    import skeet

    roots = {Path(sys.prefix), Path(sys.base_prefix), *(Path(entry) for entry in sys.path if entry)}
    roots |= {Path(file).resolve().parent for file in _package_files(skeet.__path__)}
    found = {root.resolve() for root in roots} | {Path(name) for name in SYSTEM_PATHS}
    return tuple(sorted(path for path in found if path.exists() and not secret.resolve().is_relative_to(path)))


def _package_files(folders: list[str]) -> list[Path]:
    """The packages' files where they are: an editable install links to them one by one."""
    return [file for folder in folders for file in Path(folder).rglob("__init__.py")]


def _resource_limits(wanted: Confinement) -> None:
    memory = (wanted.memory_mb + SPARE_MEMORY_MB) * MIB
    # RLIMIT_DATA, not RLIMIT_AS: only memory that can be written counts, not what a library reserves in address space.
    _lower(resource.RLIMIT_DATA, memory)
    _lower(resource.RLIMIT_NOFILE, wanted.open_files)
    _lower(resource.RLIMIT_FSIZE, wanted.file_mb * MIB)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (lowered, lowered))


def _become(uid: int, home: Path, *, reads_everything: bool) -> None:
    """Another user, with no capability, or with the one that reads what file modes forbid: where Landlock says what may be
    read, the interpreter may well stand in a directory that is closed to other users."""
    for folder, _, files in os.walk(home):
        for entry in (folder, *(str(Path(folder) / file) for file in files)):
            os.chown(entry, uid, uid, follow_symlinks=False)
    home.chmod(0o700)
    prctl(SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if os.getuid() != uid:
        raise InfrastructureError(f"user {uid} was not taken; it is {os.getuid()}")
    _drop_capabilities(keep=1 << DAC_READ_SEARCH if reads_everything else 0)


def _drop_capabilities(*, keep: int) -> None:
    """Keep only these capabilities, and no way to gain others by starting a program."""
    for capability in range(LAST_CAPABILITY + 1):
        try:
            prctl(CAPBSET_DROP, capability)
        except OSError:  # after the last one that the kernel knows, or when the right to drop is gone already
            break
    number = CAPSET.get(os.uname().machine)
    if number is None:
        raise InfrastructureError(f"capabilities cannot be given up on {os.uname().machine}; run as an ordinary user")
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)(keep & 0xFFFFFFFF, keep & 0xFFFFFFFF, 0, keep >> 32, keep >> 32, 0)
    system_call(number, ctypes.byref(header), ctypes.byref(sets))
