"""A process that gave up its rights tries what it no longer may. Every layer is also tried without the others."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from skeet.confinement import landlock, seccomp

ATTEMPTS = """
import ctypes, json, os, resource, socket, sys, threading
from pathlib import Path
from skeet.confinement.process import Confinement, code_paths, confine
from skeet.confinement import landlock, seccomp

home, secret, port, layer, uid = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
victim = int(sys.argv[6])
match layer:
    case "all":
        layers = confine(Confinement(home=home, readable=code_paths(secret), ports=(), uid=uid, memory_mb=128, threads=32,
                                     open_files=64, file_mb=1))
    case "landlock":
        layers = landlock.restrict(code_paths(secret), (home,), (port,))
    case "seccomp":
        layers = ["system calls"] if seccomp.restrict() else []

def fork():
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)

def thread():
    started = threading.Thread(target=list)
    started.start()
    started.join()

def ptrace():
    if ctypes.CDLL(None, use_errno=True).ptrace(16, victim, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")

attempts = {
    "read a secret": secret.read_text,
    "write at home": lambda: (home / "x").write_text("x"),
    "write elsewhere": lambda: (secret.parent / "x").write_text("x"),
    "connect": lambda: socket.create_connection(("127.0.0.1", port), 1),
    "fork": fork,
    "thread": thread,
    "signal to another": lambda: os.kill(victim, 0),
    "signal to itself": lambda: os.kill(os.getpid(), 0),
    "ptrace": ptrace,
    "memory": lambda: bytearray(512 * 1024 ** 2),
    "import": lambda: __import__("sqlite3"),
    "user": lambda: os.setuid(0) or os.getuid() == 0 or 1 / 0,
}
done = []
for name, attempt in attempts.items():
    try:
        attempt()
        done.append(name)
    except Exception:
        pass
print(json.dumps({"layers": list(layers), "done": done, "uid": os.getuid()}))
"""


class Tried:
    """What a confined process could still do."""

    def __init__(self, folder: Path, layer: str, uid: int = 0) -> None:
        home, secret = folder / "home", folder / "secrets" / "dsn"
        home.mkdir()
        secret.parent.mkdir()
        secret.write_text("canary")
        # The victim is not us: one that could be traced would stand still for ever.
        with subprocess.Popen(["/bin/sleep", "60"]) as victim, socket.create_server(("127.0.0.1", 0)) as server:
            arguments = (str(home), str(secret), str(server.getsockname()[1]), layer, str(uid), str(victim.pid))
            ran = subprocess.run(
                [sys.executable, "-c", ATTEMPTS, *arguments], capture_output=True, text=True, timeout=60, check=False
            )
            victim.kill()
        assert ran.returncode == 0, ran.stderr
        answer = json.loads(ran.stdout)
        self.layers: list[str] = answer["layers"]
        self.done = set(answer["done"])
        self.uid: int = answer["uid"]


HARMLESS = {"write at home", "thread", "signal to itself", "import"}

needs_landlock = pytest.mark.skipif(landlock.version() < 6, reason="this kernel's Landlock is older than 6.12's")


@needs_landlock
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another user")
def test_process_with_a_user_of_its_own_keeps_only_what_is_harmless(tmp_path: Path) -> None:
    tried = Tried(tmp_path, "all", uid=74_123)
    assert tried.done == HARMLESS
    assert tried.uid == 74_123
    assert tried.layers == ["limits", "user", "files", "ports", "signals", "system calls"]


@needs_landlock
def test_process_that_keeps_its_user_is_confined_as_well(tmp_path: Path) -> None:
    tried = Tried(tmp_path, "all")
    assert tried.done - {"user"} == HARMLESS, "its user may be root's id still, but without root's rights"


@needs_landlock
def test_landlock_alone_keeps_files_and_ports_and_signals(tmp_path: Path) -> None:
    tried = Tried(tmp_path, "landlock")
    assert not tried.done & {"read a secret", "write elsewhere", "signal to another", "ptrace"}
    assert {"connect", "fork", "write at home", "import"} <= tried.done, "the port was named"


def test_seccomp_alone_refuses_processes_and_signals_to_others(tmp_path: Path) -> None:
    tried = Tried(tmp_path, "seccomp")
    assert not tried.done & {"fork", "ptrace", "signal to another"}
    assert {"read a secret", "thread", "signal to itself"} <= tried.done


def test_filter_of_every_architecture_ends_in_a_verdict_on_each_way() -> None:
    for numbers in seccomp.ARCHITECTURES.values():
        lines = seccomp.program(numbers, 4711)
        assert lines[-1] == (seccomp.RETURN, 0, 0, seccomp.ALLOW)
        for at, (code, if_true, if_false, _) in enumerate(lines):
            if code in (seccomp.JUMP_EQUAL, seccomp.JUMP_AT_LEAST, seccomp.JUMP_ANY_BIT):
                assert at + 1 + max(if_true, if_false) < len(lines)
