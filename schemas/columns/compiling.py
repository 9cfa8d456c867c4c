"""Generated source to a compiled kernel, kept on disk so that a process compiles only what no process did before.

numba keeps machine code beside the source file of a function. A generated function's file is named by the hash of all that
decides what it does: its text, that of the functions it calls, the compiler's version. So a file never changes, and a kernel
of older code is never run. The folder belongs to this user alone, because machine code is loaded from it; where there can be
no such folder, kernels are compiled in memory: slower to start, otherwise the same.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import platformdirs

CALLED = ("machine.py", "utf8.py", "reading.py", "keying.py", "called.py", "writing.py", "interning.py")
"""What kernels are linked with: a change in any of these makes every kept kernel another one."""


def kernel_dir() -> Path:
    """Where this user's compiled kernels are kept."""
    return platformdirs.user_cache_path("skeet") / "kernels"


def compiled(source: str, function: str, signature: Any) -> Any:
    """The function of this source, compiled for exactly this signature; it runs without the interpreter's lock."""
    name = f"kernel_{_fingerprint(source)}"
    kept = _kept(name, source)
    module = _loaded(name, kept) if kept is not None else _in_memory(name, source)
    options = {"nogil": True, "error_model": "numpy", "cache": kept is not None}
    return numba.njit(signature, **options)(getattr(module, function))


def _fingerprint(source: str) -> str:
    parts = (source, _called(), numba.__version__, sys.version)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


@cache
def _called() -> str:
    return "".join((files("skeet.schemas.columns") / name).read_text() for name in CALLED)


def _kept(name: str, source: str) -> Path | None:
    """The file that holds this source; None where nothing can be kept."""
    folder = kernel_dir()
    path = folder / f"{name}.py"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(folder):
            return None
        if not path.exists():
            _write_once(path, source)
        (folder / "__pycache__").mkdir(mode=0o700, exist_ok=True)
        usable = path.read_text() == source and os.access(folder / "__pycache__", os.W_OK)
    except OSError:
        return None
    return path if usable else None


def _is_private(folder: Path) -> bool:
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022 and os.access(folder, os.W_OK)


def _write_once(path: Path, source: str) -> None:
    """Whole or not at all, and never over a file that another process began to use: numba looks at its time."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as written:
        written.write(source)
    try:
        os.link(written.name, path)
    except FileExistsError:
        pass
    finally:
        Path(written.name).unlink()


def _loaded(name: str, path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # numba looks generated functions up by their module's name
    specification.loader.exec_module(module)
    return module


def _in_memory(name: str, source: str) -> ModuleType:
    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, f"<{name}>", "exec"), module.__dict__)
    return module
