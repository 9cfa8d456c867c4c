"""The few calls of the C library that Python has no names for."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)


def supported() -> bool:
    """Whether this is Linux: elsewhere only resource limits and a watchdog confine."""
    return sys.platform == "linux"


def system_call(number: int, *arguments: Any) -> int:
    """The call's result. Raises OSError with its errno."""
    if not supported():
        raise OSError(38, "only Linux has this system call")
    result = _libc.syscall(ctypes.c_long(number), *(_widened(value) for value in arguments))
    return _checked(result)


def prctl(option: int, *arguments: Any) -> int:
    """``prctl(2)``. Raises OSError with its errno."""
    padded = [*(_widened(value) for value in arguments), *(ctypes.c_ulong(0),) * (4 - len(arguments))]
    return _checked(_libc.prctl(option, *padded))


def _widened(value: Any) -> Any:
    return ctypes.c_ulong(value & (2**64 - 1)) if isinstance(value, int) else value


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result)
