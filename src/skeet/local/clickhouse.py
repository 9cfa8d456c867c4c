"""ClickHouse's HTTP protocol on loopback over the embedded engine: the stock clients work against it unchanged.

The role ``clickhouse``; ``python -m skeet.local.clickhouse --data DIR --port N --token-file F`` runs one by hand. Every
request but ``/ping`` needs the token, as the password of any user, as ``X-ClickHouse-Key`` or as a bearer token.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import hmac
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from skeet.config import Settings, load_settings
from skeet.core.errors import InfrastructureError
from skeet.health import HEALTH, STORE_LIVE_LIMIT_S
from skeet.local.clickhouse_engine import Counts, Engine, EngineError, Session
from skeet.local.clickhouse_protocol import (
    AUTHENTICATION_FAILED,
    NOT_IMPLEMENTED,
    STATUS_OF_CODE,
    STREAMED_FORMATS,
    ProtocolError,
    Statement,
    decoded,
    encoded,
    negotiated,
    statement_of,
)
from skeet.local.disks import require_space
from skeet.local.ports import LOOPBACK, loopback_port, require_free
from skeet.metrics import counter, declare
from skeet.process import StopSignal, announce_ready, configure_logging, logger

MAX_BODY_BYTES = 1024 * 1024 * 1024
MAX_READS = 8
MAX_WRITES = 4
"""Statements at a time, reads and writes apart; the rest waits in line, so that reads never hold an insert."""

MAX_SESSIONS = 64
SESSION_IDLE_S = 60.0
COMPRESS_ABOVE_BYTES = 4096

# The engine takes its time zone from the process; a database whose answers depend on the laptop's is no database.
ENGINE_TIMEZONE = "UTC"


@dataclass(slots=True)
class KeptSession:
    """A session that a client named, kept between its requests."""

    session: Session
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    used_s: float = 0.0


class ClickHouseServer:
    """The routes over one engine."""

    def __init__(self, engine: Engine, token: str) -> None:
        self._engine = engine
        self._token = token.encode()
        self._reads = ThreadPoolExecutor(MAX_READS, "read")
        self._writes = ThreadPoolExecutor(MAX_WRITES, "write")
        self._sessions: dict[str, KeptSession] = {}

    def application(self) -> web.Application:
        """The HTTP application."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.add_routes(
            [
                web.get("/ping", _ping),
                web.get("/replicas_status", _ping),
                web.get("/", self.handle),
                web.post("/", self.handle),
            ]
        )
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One statement: GET or POST, the query in the URL, the body, or a form."""
        try:
            self._authenticate(request)
            statement = await _read_statement(request)
            if not statement.sql.strip():
                return web.Response(text="Ok.\n", headers=_headers(statement))
            answer = await self._answer(request, statement)
            counter("skeet_queries_total", "ok").inc()
            return answer
        except (ProtocolError, EngineError) as error:
            counter("skeet_queries_total", "refused").inc()
            return _refusal(error.code, str(error))

    async def _answer(self, request: web.Request, statement: Statement) -> web.StreamResponse:
        streamed = (
            statement.is_read and statement.format in STREAMED_FORMATS and request.query.get("wait_end_of_query") != "1"
        )
        answer = self._stream if streamed else self._whole
        kept = self._kept(request.query.get("session_id", ""))
        if kept is not None:
            async with kept.lock:
                return await answer(request, statement, kept.session, keep=True)
        return await answer(request, statement, self._engine.session(), keep=False)

    async def _whole(
        self, request: web.Request, statement: Statement, session: Session, *, keep: bool
    ) -> web.StreamResponse:
        pool = self._reads if statement.is_read else self._writes
        work = asyncio.get_running_loop().run_in_executor(pool, session.run, statement)
        # In every case, also when the client left while the engine was still at it.
        work.add_done_callback(lambda done: _end(done, session, statement, keep=keep))
        try:
            answer, counts = await asyncio.shield(work)
        except asyncio.CancelledError:
            # A read is of no use to anybody now; a write goes on to its end.
            if statement.is_read and statement.query_id:
                self._writes.submit(self._engine.kill, statement.query_id)
            raise
        encoding = _encoding(request) if len(answer) > COMPRESS_ABOVE_BYTES else ""
        headers = {**_headers(statement, encoding), "X-ClickHouse-Summary": _summary(counts)}
        body = await asyncio.to_thread(encoded, answer, encoding) if encoding else answer
        return web.Response(body=body, headers=headers)

    async def _stream(
        self, request: web.Request, statement: Statement, session: Session, *, keep: bool
    ) -> web.StreamResponse:
        blocks = session.stream(statement)
        response = web.StreamResponse(headers=_headers(statement))
        work = self._next(blocks)
        try:
            block = await asyncio.shield(work)
            # Most errors come before the first block, while a status can still be told.
            await response.prepare(request)
            while block is not None:
                await response.write(block)
                work = self._next(blocks)
                block = await asyncio.shield(work)
            await response.write_eof()
        except EngineError:
            if not response.prepared or request.transport is None:
                raise
            # The status is out: a cut connection is the only way left to say that the answer is not whole.
            request.transport.abort()
        finally:
            # Finished by itself even when this handler is cancelled: the engine may still be at the last block.
            await asyncio.shield(asyncio.ensure_future(self._end_stream(work, blocks, session, statement, keep=keep)))
        return response

    def _next(self, blocks: Iterator[bytes]) -> asyncio.Future[bytes | None]:
        return asyncio.get_running_loop().run_in_executor(self._reads, next, blocks, None)

    async def _end_stream(
        self,
        work: asyncio.Future[bytes | None],
        blocks: Iterator[bytes],
        session: Session,
        statement: Statement,
        *,
        keep: bool,
    ) -> None:
        await asyncio.wait([work])
        await asyncio.to_thread(blocks.close)  # type: ignore[attr-defined]  # of a generator: cancels the query
        _end(work, session, statement, keep=keep)

    def _kept(self, session_id: str) -> KeptSession | None:
        if not session_id:
            return None
        now = time.monotonic()
        for name, kept in list(self._sessions.items()):
            if now - kept.used_s > SESSION_IDLE_S and not kept.lock.locked():
                self._sessions.pop(name).session.close()
        if session_id not in self._sessions:
            if len(self._sessions) >= MAX_SESSIONS:
                raise ProtocolError(202, f"Too many sessions: {MAX_SESSIONS} are open. (TOO_MANY_SIMULTANEOUS_QUERIES)")
            self._sessions[session_id] = KeptSession(self._engine.session())
        self._sessions[session_id].used_s = now
        return self._sessions[session_id]

    def _authenticate(self, request: web.Request) -> None:
        offered = _offered_secret(request)
        if not hmac.compare_digest(offered.encode(), self._token):
            raise ProtocolError(
                AUTHENTICATION_FAILED,
                "default: Authentication failed: password is incorrect, or there is no user with such name."
                " (AUTHENTICATION_FAILED)",
            )

    async def close(self) -> None:
        """Wait for running statements, then close the engine."""
        await asyncio.to_thread(self._writes.shutdown)
        await asyncio.to_thread(self._reads.shutdown)
        for kept in self._sessions.values():
            kept.session.close()
        await asyncio.to_thread(self._engine.close)


def _end(work: asyncio.Future[Any], session: Session, statement: Statement, *, keep: bool) -> None:
    work.exception()  # told to the client already, or nobody is left to hear it
    if keep:
        session.reset(statement)
    else:
        session.close()


async def _read_statement(request: web.Request) -> Statement:
    parameters: Mapping[str, str] = request.query
    if parameters.get("compress") == "1" or parameters.get("decompress") == "1":
        message = "ClickHouse's own block compression is not spoken here; switch compression off, or use HTTP's"
        raise ProtocolError(NOT_IMPLEMENTED, f"{message}. (NOT_IMPLEMENTED)")
    default_format = request.headers.get("X-ClickHouse-Format", "TabSeparated")
    database = request.headers.get("X-ClickHouse-Database", "")
    parameters = {"database": database, "query_id": str(uuid.uuid4()), **parameters}
    if request.content_type == "multipart/form-data":
        parameters, body = {**parameters, **await _form(request)}, b""
    else:
        raw = await request.read()
        body = await asyncio.to_thread(decoded, raw, request.headers.get("Content-Encoding", ""))
    # In a kept session this could not be taken back.
    read_only = request.method == "GET" and "session_id" not in parameters
    return statement_of(parameters, body, read_only=read_only, default_format=default_format)


async def _form(request: web.Request) -> dict[str, str]:
    fields = await request.post()
    if any(not isinstance(value, str) for value in fields.values()):
        raise ProtocolError(NOT_IMPLEMENTED, "external tables are not supported here. (NOT_IMPLEMENTED)")
    return {name: str(value) for name, value in fields.items()}


def _offered_secret(request: web.Request) -> str:
    key = request.headers.get("X-ClickHouse-Key") or request.query.get("password")
    if key is not None:
        return key
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return value
    try:
        return base64.b64decode(value).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _encoding(request: web.Request) -> str:
    wanted = request.query.get("enable_http_compression") == "1"
    return negotiated(request.headers.get("Accept-Encoding", "")) if wanted else ""


def _headers(statement: Statement, encoding: str = "") -> dict[str, str]:
    headers = {
        "Content-Type": "application/octet-stream" if statement.format == "Native" else "text/plain; charset=UTF-8",
        "X-ClickHouse-Format": statement.format,
        "X-ClickHouse-Query-Id": statement.query_id,
        "X-ClickHouse-Timezone": ENGINE_TIMEZONE,
        "X-ClickHouse-Server-Display-Name": "skeet",
    }
    return {**headers, "Content-Encoding": encoding} if encoding else headers


def _summary(counts: Counts) -> str:
    return json.dumps(
        {
            "read_rows": str(counts.read_rows),
            "read_bytes": str(counts.read_bytes),
            "written_rows": str(counts.written_rows),
            "written_bytes": str(counts.written_bytes),
            "elapsed_ns": str(counts.elapsed_ns),
        }
    )


def _refusal(code: int, message: str) -> web.Response:
    status = STATUS_OF_CODE.get(code, 500)
    return web.Response(text=message + "\n", status=status, headers={"X-ClickHouse-Exception-Code": str(code)})


async def _ping(_: web.Request) -> web.Response:
    return web.Response(text="Ok.\n")


async def serve(folder: Path, port: int, token: str) -> int:
    """Serve until SIGTERM, then finish what runs and close the engine."""
    stop = StopSignal().install()
    require_space("clickhouse", folder)
    require_free("ClickHouse", port)
    server = ClickHouseServer(Engine(folder), token)
    # Bodies are decompressed by us: aiohttp knows no lz4. A client that leaves cancels its handler.
    runner = web.AppRunner(server.application(), access_log=None, auto_decompress=False, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, port).start()
    declare("skeet_queries_total", ("ok", "refused"))
    beats = asyncio.create_task(HEALTH.beat_regularly(limit_s=STORE_LIVE_LIMIT_S))
    announce_ready()
    await stop.wait_async()
    beats.cancel()
    await runner.cleanup()
    await server.close()
    return 0


def main(settings: Settings) -> int:
    """The role ``clickhouse``."""
    os.environ["TZ"] = ENGINE_TIMEZONE
    port = loopback_port(settings.clickhouse.url)
    return asyncio.run(serve(settings.data / "clickhouse", port, settings.clickhouse.password.get_secret_value()))


def foreground() -> int:
    """``python -m skeet.local.clickhouse``: an engine by hand, until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve a ClickHouse directory on loopback until Ctrl-C.")
    parser.add_argument("--data", type=Path, required=True, help="directory of the engine")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token-file", type=Path, required=True, help="file that holds the token")
    chosen = parser.parse_args()
    configure_logging("clickhouse", load_settings().log_level)
    os.environ["TZ"] = ENGINE_TIMEZONE
    try:
        return asyncio.run(serve(chosen.data, chosen.port, chosen.token_file.read_text().strip()))
    except InfrastructureError as error:
        logger().error(str(error))
        return error.exit_code


if __name__ == "__main__":
    raise SystemExit(foreground())
