"""``/livez``, ``/readyz`` and ``/metrics`` over HTTP: one small thread in every process of ours.

It reads what :mod:`skeet.health` and :mod:`skeet.metrics` hold and makes nothing wait. A process that cannot answer any more
(stopped, or hanging in a C library that keeps the interpreter) is told by that, too.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.health import HEALTH, Health, Word
from skeet.metrics import Source, describe_process, exposition
from skeet.process import logger

REQUEST_TIMEOUT_S = 2.0
"""One thread serves one request after another; a client that says nothing is hung up on."""


def serve(settings: Settings, role: str, health: Health = HEALTH) -> str:
    """Answer on the address of the settings from a thread that dies with the process; returns ``http://host:port``.

    The address is written beside the ready file, for ``skeet status`` and whoever scrapes.

    Raises
    ------
    InfrastructureError
        the port is taken.
    """
    host, port = settings.health.host, settings.health.port
    try:
        server = _Server((host, port), _Handler)
    except OSError as error:
        raise InfrastructureError(
            f"SKEET_HEALTH__PORT is {port}: cannot listen on {host}:{port}: {error.strerror}; 0 takes a free one"
        ) from error
    server.health = health
    describe_process(role)
    Source("skeet_ready", lambda: {(role,): float(health.ready().ok)}).register()
    Source("skeet_loop_age_seconds", lambda: {(n,): age for n, age in health.live().loops.items()}).register()
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    url = f"http://{host}:{server.server_address[1]}"
    _write_address(address_file(settings, role), url)
    logger().info("health", url=url)
    return url


def address_file(settings: Settings, role: str) -> Path:
    """Where a process says at which address it answers: beside its ready file, else in ``run/`` of its data directory."""
    ready = os.environ.get("SKEET_READY_FILE")
    return Path(ready).with_suffix(".health") if ready else settings.data / "run" / f"{role}.health"


def read_address(path: Path) -> str:
    """The address in the file; empty when there is none, or when its process is gone."""
    try:
        written = json.loads(path.read_text())
        os.kill(int(written["pid"]), 0)
        return str(written["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _write_address(path: Path, url: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"url": url, "pid": os.getpid()}))


class _Server(HTTPServer):
    health: Health

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left in the middle is no news."""


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        match self.path.partition("?")[0]:
            case "/livez":
                self._word(server.health.live())
            case "/readyz":
                self._word(server.health.ready())
            case "/metrics":
                self._answer(200, "text/plain; version=0.0.4; charset=utf-8", exposition())
            case _:
                self._answer(404, "text/plain", b"/livez, /readyz or /metrics\n")

    def _word(self, word: Word) -> None:
        self._answer(200 if word.ok else 503, "application/json", json.dumps(asdict(word)).encode() + b"\n")

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Probes come every few seconds; nobody reads them in a log."""
