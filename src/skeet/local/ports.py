"""TCP ports on loopback: chosen free once, remembered in the data directory, and a busy one names its holder."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from skeet.core.errors import Damaged, InvalidInput, PortTaken

LOOPBACK = "127.0.0.1"
LOOPBACK_HOSTS = frozenset({LOOPBACK, "localhost", "::1"})

# Below the ranges from which systems give ports to outgoing connections (Linux from 32768, macOS from 49152): a port that
# is chosen now and bound seconds later, or after tomorrow's restart, must not have gone to somebody's connection meanwhile.
CHOSEN_FROM = range(10_000, 32_000)


def free_port() -> int:
    """A TCP port on loopback that nobody listens on at this moment; by chance, so that two who choose at once differ."""
    for _ in CHOSEN_FROM:
        if is_free(port := secrets.choice(CHOSEN_FROM)):
            return port
    raise PortTaken(
        f"no port of {CHOSEN_FROM.start} to {CHOSEN_FROM.stop - 1} is free; stop what holds them, or choose others with --port-base N"
    )


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now (sockets in TIME_WAIT do not count)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def holder(port: int) -> str:
    """Who listens on a port, as ``pid 123 (java …)``; an unnamed process when the system does not tell us."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return "a process of another user"
    for connection in connections:
        if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
            return describe(connection.pid)
    return "an unknown process"


def describe(pid: int | None) -> str:
    """A process for people: its pid and the start of its command line."""
    if pid is None:
        return "a process of another user"
    try:
        return f"pid {pid} ({' '.join(psutil.Process(pid).cmdline())[:80]})"
    except psutil.Error:
        return f"pid {pid}"


def require_free(name: str, port: int) -> None:
    """Raise PortTaken, naming who holds the port, when it is taken. Kills nothing."""
    if not is_free(port):
        raise PortTaken(
            f"port {port} of {name} is in use by {holder(port)}; stop it, or choose others with --port-base N"
        )


class PortBook:
    """The ports of one installation: the same name gets the same port for as long as the file lives.

    Parameters
    ----------
    path
        JSON file ``{name: port}``, written whenever a port is added.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ports = _read(path) if path.exists() else {}

    def get(self, name: str) -> int:
        """The port of ``name``; chosen now if it has none."""
        if name not in self._ports:
            self._ports[name] = self._choose()
            self._path.write_text(json.dumps(self._ports, indent=1))
        return self._ports[name]

    def set(self, name: str, port: int) -> None:
        """Give a name this port."""
        self._ports[name] = port
        self._path.write_text(json.dumps(self._ports, indent=1))

    def rebase(self, base: int, names: Iterable[str]) -> None:
        """Give every name a new port, counted from ``base`` in order."""
        self._ports = {name: base + index for index, name in enumerate(names)}
        self._path.write_text(json.dumps(self._ports, indent=1))

    def _choose(self) -> int:
        taken = set(self._ports.values())
        while (port := free_port()) in taken:
            pass
        return port


def _read(path: Path) -> dict[str, int]:
    try:
        ports = json.loads(path.read_text())
        return {str(name): int(port) for name, port in ports.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Damaged(
            f"{path} is no table of ports ({error}); if a backup has none, write {{}} into it: new ports are chosen, but a "
            "formatted broker keeps its kafka-controller port (kafka/server.properties names it)"
        ) from error


def loopback_port(url: str) -> int:
    """The port of a ``scheme://host:port`` or ``host:port`` on which one of our own servers is to listen.

    Raises
    ------
    InvalidInput
        the host is not loopback (these servers are for one machine), or there is no port.
    """
    parts = urlsplit(url if "://" in url else f"tcp://{url}")
    if parts.hostname not in LOOPBACK_HOSTS:
        raise InvalidInput(f"{url!r}: the embedded server listens on loopback only; run a real one for other hosts")
    if parts.port is None:
        raise InvalidInput(f"{url!r} names no port; write http://127.0.0.1:PORT")
    return parts.port
