"""A ClickHouse engine behind its HTTP protocol, as a process of its own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skeet.local.ports import free_port
from skeet.local.server import ChildServer


@contextmanager
def clickhouse_server(home: Path) -> Iterator[tuple[str, str]]:
    """Address and token of an engine whose files lie in ``home/engine``."""
    port, token = free_port(), secrets.token_urlsafe(16)
    (home / "token").write_text(token)
    words = ["--data", str(home / "engine"), "--port", str(port), "--token-file", str(home / "token")]
    server = ChildServer("skeet.local.clickhouse", words, home)
    try:
        server.start()
        yield f"http://127.0.0.1:{port}", token
    finally:
        server.stop()
