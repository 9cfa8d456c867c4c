"""A strategy that tries everything it must not, chosen by its parameter; run by the isolation tests."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel

from skeet.core.market import Quote
from skeet.core.strategy import Intent, Strategy, StrategyContext, buy_limit

TRIGGER = 4711
"""The quote's number at which it begins."""


class HostileParameters(BaseModel):
    act: str
    secret: str = ""
    port: int = 0


@dataclass(slots=True)
class State:
    kept: list[Any] = field(default_factory=list)
    leaking: bool = False
    probed: int = -1


class Hostile(Strategy[State]):
    Parameters = HostileParameters
    parameters: HostileParameters

    def initial(self) -> State:
        return State()

    def on_quote(self, state: State, quote: Quote, context: StrategyContext) -> Iterator[Intent]:
        if state.leaking:
            state.kept.append(os.urandom(1024) * 20_000)
        if state.probed >= 0:
            self._probe_next(state, context)
        if quote.update_id == TRIGGER:
            yield from getattr(self, self.parameters.act)(state, quote, context)

    def loop(self, *_: Any) -> NoReturn:
        while True:  # the line that the halt must name
            with contextlib.suppress(BaseException):
                time.monotonic()

    def calm(self, *_: Any) -> Iterator[Intent]:
        yield from ()

    def hold(self, *_: Any) -> Iterator[Intent]:
        re.match(r"(a+)+$", "a" * 60 + "b")  # holds the interpreter's lock for ever
        yield from ()

    def leak(self, state: State, *_: Any) -> Iterator[Intent]:
        state.leaking = True
        yield from ()

    def grab(self, *_: Any) -> Iterator[Intent]:
        bytearray(64 * 1024**3)
        yield from ()

    def flood(self, state: State, quote: Quote, context: StrategyContext) -> Iterator[Intent]:
        while True:
            yield buy_limit(self._size(), quote.ask_price, rule="flood")

    def leave(self, *_: Any) -> NoReturn:
        sys.exit(0)

    def vanish(self, *_: Any) -> NoReturn:
        os._exit(0)

    def threads(self, *_: Any) -> Iterator[Intent]:
        for _number in range(10_000):
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        yield from ()

    def probe(self, state: State, *_: Any) -> Iterator[Intent]:
        state.probed = 0
        yield from ()

    def _probe_next(self, state: State, context: StrategyContext) -> None:
        """One attempt at a quote: all of them at once would take too long, and be halted for that."""
        for name, attempt in list(self._attempts().items())[state.probed : state.probed + 1]:
            context.log("probe", attempt=name, outcome=_outcome(attempt))
        state.probed += 1

    def _attempts(self) -> dict[str, Callable[[], Any]]:
        secret, parent = Path(self.parameters.secret), os.getppid()
        data = secret.parent.parent
        return {
            "environment": lambda: [value for value in os.environ.values() if "canary" in value] or _refused(),
            "secret": secret.read_text,
            "data directory": lambda: list(data.iterdir()),
            "readable file": (data / "endpoints.toml").read_text,
            "log": (data / "strategies.log").read_text,
            "neighbour's home": lambda: list((data / "instances" / "steady" / "home").iterdir()),
            "parent's environment": Path(f"/proc/{parent}/environ").read_bytes,
            "own settings": lambda: (data / "instances" / "probe" / "skeet.toml").write_text("x"),
            "home of root": lambda: list(Path("/root/.ssh").parent.iterdir()),
            "shadow": Path("/etc/shadow").read_text,
            "store's socket": lambda: socket.create_connection(("127.0.0.1", self.parameters.port), 1),
            "unix socket": lambda: socket.socket(socket.AF_UNIX),
            "fork": _fork,
            "program": lambda: subprocess.run(["/bin/true"], check=True),
            "shell": lambda: os.system("true") == 0 or _refused(),
            "kill of parent": lambda: os.kill(parent, 9),
            "kill of all": lambda: os.kill(-1, 9),
            "ptrace": lambda: _call("ptrace", 16, parent, 0, 0),
            "another's limits": lambda: _call("prlimit", parent, 7, 0, 0),
            "user": lambda: os.setuid(0),
            "big file": lambda: _big_file(Path(os.environ["TMPDIR"])),
            "many files": lambda: [Path("/dev/null").open() for _ in range(2_000)],
            "niceness": lambda: os.nice(-5),
        }

    def _size(self) -> Any:
        from decimal import Decimal

        return Decimal("0.01")


def _outcome(attempt: Callable[[], Any]) -> str:
    try:
        return f"GOT {str(attempt())[:80]}"
    except (OSError, ValueError) as error:
        return f"denied {type(error).__name__}: {error}"


def _refused() -> Any:
    raise PermissionError("nothing there")


def _fork() -> int:
    pid = os.fork()
    if not pid:
        os._exit(0)
    return pid


def _call(name: str, *arguments: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = getattr(libc, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def _big_file(folder: Path) -> int:
    with (folder / "big").open("wb") as file:
        return sum(file.write(bytes(1024 * 1024)) for _ in range(200))
