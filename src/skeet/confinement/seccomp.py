"""seccomp: system calls that this process never makes again: new processes, other processes' memory, signals to others.

A refused call fails with EPERM (``clone3`` with ENOSYS: its flags lie in memory, and the C library then falls back to
``clone``, whose flags can be looked at: threads are allowed, processes are not). ``seccomp(2)``, ``linux/bpf_common.h``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from skeet.confinement.libc import prctl

SET_SECCOMP, MODE_FILTER, NO_NEW_PRIVILEGES = 22, 2, 38
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
"""Where the filter finds things; arguments are 8 bytes each, low half first."""
CLONE_THREAD = 0x00010000
X32_BIT = 0x40000000
"""Calls of another numbering that x86-64 kernels may offer beside their own."""

Instruction = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Architecture:
    """Numbers of the calls on one kind of processor. ``own_process`` take a process id first, ours or 0 is allowed."""

    audit: int
    clone: int
    clone3: int
    socket: int
    own_process: tuple[int, ...]
    forbidden: tuple[int, ...]


# fork vfork execve execveat ptrace process_vm_readv/writev pidfd_open/send_signal/getfd setns unshare bpf perf_event_open
# userfaultfd io_uring_* (it makes calls that no filter sees) add_key request_key keyctl mount umount2 pivot_root
# sched_setscheduler sched_setaffinity sched_setattr setpriority ioprio_set rt_sigqueueinfo rt_tgsigqueueinfo tkill
ARCHITECTURES = {
    "x86_64": Architecture(
        audit=0xC000003E,
        clone=56,
        clone3=435,
        socket=41,
        own_process=(62, 234, 302),  # kill tgkill prlimit64
        forbidden=(
            *(57, 58, 59, 322, 101, 310, 311, 434, 424, 438, 308, 272, 321, 298, 323, 425, 426, 427),
            *(248, 249, 250, 165, 166, 155, 144, 203, 314, 141, 251, 129, 297, 200),
        ),
    ),
    "aarch64": Architecture(
        audit=0xC00000B7,
        clone=220,
        clone3=435,
        socket=198,
        own_process=(129, 131, 261),
        forbidden=(
            *(221, 281, 117, 270, 271, 434, 424, 438, 268, 97, 280, 241, 282, 425, 426, 427),
            *(217, 218, 219, 40, 39, 41, 119, 122, 274, 140, 30, 138, 240, 130),
        ),
    ),
}


def restrict() -> bool:
    """Install the filter for this thread and all it starts; whether this machine's numbers are known and it was taken."""
    found = ARCHITECTURES.get(platform.machine())
    if found is None:
        return False
    lines = program(found, os.getpid())
    filters = (_Filter * len(lines))(*(_Filter(*line) for line in lines))
    try:
        prctl(NO_NEW_PRIVILEGES, 1)
        prctl(SET_SECCOMP, MODE_FILTER, ctypes.byref(_Program(len(lines), filters)))
    except OSError:
        return False
    return True


def program(numbers: Architecture, pid: int) -> Sequence[Instruction]:
    """The filter's instructions: (code, jump if true, jump if false, value)."""
    refuse = (RETURN, 0, 0, ERRNO | errno.EPERM)
    lines: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (JUMP_EQUAL, 1, 0, numbers.audit),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, NUMBER_AT),
        (JUMP_AT_LEAST, 0, 1, X32_BIT),
        refuse,
    ]
    for number in numbers.forbidden:
        lines += [(JUMP_EQUAL, 0, 1, number), refuse]
    lines += [(JUMP_EQUAL, 0, 1, numbers.clone3), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    lines += [
        (JUMP_EQUAL, 0, 3, numbers.clone),
        (LOAD, 0, 0, ARGUMENTS_AT),
        (JUMP_ANY_BIT, 1, 0, CLONE_THREAD),
        refuse,
        (LOAD, 0, 0, NUMBER_AT),
    ]
    lines += [
        (JUMP_EQUAL, 0, 3, numbers.socket),
        (LOAD, 0, 0, ARGUMENTS_AT),
        (JUMP_EQUAL, 0, 1, int(socket.AF_UNIX)),
        refuse,
        (LOAD, 0, 0, NUMBER_AT),
    ]
    for number in numbers.own_process:
        lines += [
            (JUMP_EQUAL, 0, 4, number),
            (LOAD, 0, 0, ARGUMENTS_AT),
            (JUMP_EQUAL, 2, 0, pid),
            (JUMP_EQUAL, 1, 0, 0),
            refuse,
            (LOAD, 0, 0, NUMBER_AT),
        ]
    return [*lines, (RETURN, 0, 0, ALLOW)]


class _Filter(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("true", ctypes.c_uint8), ("false", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("filters", ctypes.POINTER(_Filter)))
