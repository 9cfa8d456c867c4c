"""A schema registry that speaks Confluent's routes, with its state in ``_schemas`` and nowhere else.

The role ``registry``; ``python -m skeet.local.registry --bootstrap HOST:PORT --port N`` runs one by hand. No deletion:
a schema whose id stands in a stored record is needed for ever. It listens on loopback; beyond it only where
``SKEET_REGISTRY__LISTEN`` says so, and then only to who knows the password.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from skeet.config import RegistrySettings, Settings, load_settings
from skeet.connections.tls import basic_auth, present
from skeet.core.errors import InfrastructureError, InvalidInput, SkeetError
from skeet.health import HEALTH
from skeet.local.ports import LOOPBACK, LOOPBACK_HOSTS, loopback_port, require_free
from skeet.local.registry_log import RegistryLog
from skeet.local.registry_state import LogRecord, RegistryError, RegistryState, Version, is_number, parse
from skeet.metrics import counter, declare
from skeet.process import StopSignal, announce_ready, configure_logging, logger
from skeet.streams.crash_points import REGISTRY_AFTER_APPEND, reach

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
MAX_BODY_BYTES = 4 * 1024 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Registry:
    """The routes over one state and one log. Writes go one at a time: planned, appended, then applied and answered."""

    def __init__(self, log: RegistryLog, on_lost_log: Callable[[], None]) -> None:
        self._log = log
        self._state = RegistryState()
        self._writing = asyncio.Lock()
        self._on_lost_log = on_lost_log
        for record in log.read():
            self._state.apply(record)

    def application(self, login: Mapping[str, str]) -> web.Application:
        """The HTTP application; ``login`` is the header that every request must bring (empty: none)."""
        app = web.Application(
            middlewares=[_counted, _errors_as_json, _requiring(login)], client_max_size=MAX_BODY_BYTES
        )
        app.add_routes(
            [
                web.get("/", _empty),
                web.get("/subjects", self.list_subjects),
                web.post("/subjects/{subject}", self.look_up),
                web.get("/subjects/{subject}/versions", self.list_versions),
                web.post("/subjects/{subject}/versions", self.register),
                web.get("/subjects/{subject}/versions/{version}", self.get_version),
                web.get("/subjects/{subject}/versions/{version}/schema", self.get_version_schema),
                web.get("/schemas/types", _types),
                web.get("/schemas/ids/{id}", self.get_schema),
                web.get("/schemas/ids/{id}/versions", self.get_schema_versions),
                web.get("/config", self.get_config),
                web.put("/config", self.put_config),
                web.get("/config/{subject}", self.get_config),
                web.put("/config/{subject}", self.put_config),
                web.get("/mode", _mode),
                web.post("/compatibility/subjects/{subject}/versions", self.check),
                web.post("/compatibility/subjects/{subject}/versions/{version}", self.check),
            ]
        )
        return app

    async def list_subjects(self, _: web.Request) -> web.Response:
        """GET /subjects"""
        return _json(sorted(self._state.subjects))

    async def list_versions(self, request: web.Request) -> web.Response:
        """GET /subjects/{subject}/versions"""
        return _json(list(self._state.versions(request.match_info["subject"])))

    async def get_version(self, request: web.Request) -> web.Response:
        """GET /subjects/{subject}/versions/{number or latest}"""
        return _json(_version(self._state.version(request.match_info["subject"], request.match_info["version"])))

    async def get_version_schema(self, request: web.Request) -> web.Response:
        """GET /subjects/{subject}/versions/{number or latest}/schema: the schema alone"""
        version = self._state.version(request.match_info["subject"], request.match_info["version"])
        return web.Response(text=version.schema, content_type=CONTENT_TYPE)

    async def get_schema(self, request: web.Request) -> web.Response:
        """GET /schemas/ids/{id}"""
        return _json({"schema": self._schema(request.match_info["id"])})

    async def get_schema_versions(self, request: web.Request) -> web.Response:
        """GET /schemas/ids/{id}/versions: where this schema is used"""
        self._schema(request.match_info["id"])
        wanted = int(request.match_info["id"])
        held = (version for versions in self._state.subjects.values() for version in versions.values())
        return _json([{"subject": v.subject, "version": v.version} for v in held if v.schema_id == wanted])

    async def register(self, request: web.Request) -> web.Response:
        """POST /subjects/{subject}/versions: the id, once the log holds it; the same id for the same schema."""
        subject, schema = request.match_info["subject"], await _schema_of(request)
        parse(schema)
        async with self._writing:
            if self._state.find(subject, schema) is None:
                await self._write(self._state.plan_schema(subject, schema))
            found = self._state.find(subject, schema)
        assert found is not None
        return _json({"id": found.schema_id, "version": found.version})

    async def look_up(self, request: web.Request) -> web.Response:
        """POST /subjects/{subject}: the version that holds this very schema"""
        subject, schema = request.match_info["subject"], await _schema_of(request)
        self._state.versions(subject)
        found = self._state.find(subject, schema)
        if found is None:
            raise RegistryError(404, 40403, "Schema not found")
        return _json(_version(found))

    async def get_config(self, request: web.Request) -> web.Response:
        """GET /config and /config/{subject}"""
        subject = request.match_info.get("subject")
        to_global = request.query.get("defaultToGlobal", "false").lower() == "true"
        if subject and subject not in self._state.levels and not to_global:
            message = f"Subject '{subject}' does not have subject-level compatibility configured"
            raise RegistryError(404, 40408, message)
        return _json({"compatibilityLevel": self._state.level(subject or "")})

    async def put_config(self, request: web.Request) -> web.Response:
        """PUT /config and /config/{subject}"""
        level = str((await _body(request)).get("compatibility", "")).upper()
        async with self._writing:
            await self._write(self._state.plan_config(request.match_info.get("subject"), level))
        return _json({"compatibility": level})

    async def check(self, request: web.Request) -> web.Response:
        """POST /compatibility/subjects/{subject}/versions[/{version}]: would it be accepted, and why not"""
        subject, schema = request.match_info["subject"], await _schema_of(request)
        number = request.match_info.get("version")
        against = [self._state.version(subject, number)] if number else None
        reasons = self._state.incompatibilities(subject, schema, against)
        answer: dict[str, Any] = {"is_compatible": not reasons}
        if request.query.get("verbose", "false").lower() == "true":
            answer["messages"] = reasons
        return _json(answer)

    def _schema(self, schema_id: str) -> str:
        if not is_number(schema_id) or int(schema_id) not in self._state.schemas:
            raise RegistryError(404, 40403, f"Schema {schema_id} not found")
        return self._state.schemas[int(schema_id)]

    async def _write(self, record: LogRecord) -> None:
        try:
            await asyncio.to_thread(self._log.append, record)
        except InfrastructureError as error:
            # Fenced, or the outcome is unknown: only a new start, which reads the log, knows the truth.
            self._on_lost_log()
            raise RegistryError(500, 50001, f"Error in the backend data store: {error}") from error
        reach(REGISTRY_AFTER_APPEND)
        self._state.apply(record)


@web.middleware
async def _counted(request: web.Request, handler: Handler) -> web.StreamResponse:
    answer = await handler(request)
    counter("skeet_registry_requests_total", str(answer.status)).inc()
    return answer


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RegistryError as error:
        return _json({"error_code": error.code, "message": str(error)}, status=error.status)
    except web.HTTPException as error:
        return _json({"error_code": error.status, "message": f"HTTP {error.status} {error.reason}"}, error.status)


def _requiring(login: Mapping[str, str]) -> Any:
    expected = login.get("Authorization", "").encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if expected and not hmac.compare_digest(request.headers.get("Authorization", "").encode(), expected):
            headers = {"WWW-Authenticate": 'Basic realm="skeet registry"'}
            return _json({"error_code": 401, "message": "name or password is wrong"}, 401, headers)
        return await handler(request)

    return check


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise RegistryError(422, 42201, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise RegistryError(422, 42201, "the body must be a JSON object")
    return body


async def _schema_of(request: web.Request) -> str:
    body = await _body(request)
    if body.get("schemaType", "AVRO") != "AVRO" or body.get("references"):
        raise RegistryError(422, 42201, "Invalid schema: only AVRO without references is supported here")
    if not isinstance(body.get("schema"), str):
        raise RegistryError(422, 42201, "Empty schema: the body needs a string member 'schema'")
    return str(body["schema"])


def _version(version: Version) -> dict[str, Any]:
    return {
        "subject": version.subject,
        "version": version.version,
        "id": version.schema_id,
        "schema": version.schema,
    }


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(text=json.dumps(value), status=status, content_type=CONTENT_TYPE, headers=headers)


async def _empty(_: web.Request) -> web.Response:
    return _json({})


async def _types(_: web.Request) -> web.Response:
    return _json(["AVRO"])


async def _mode(_: web.Request) -> web.Response:
    return _json({"mode": "READWRITE"})


def listening_at(registry: RegistrySettings) -> tuple[str, int]:
    """Host and port to listen on.

    Raises
    ------
    InvalidInput
        no port; or a place beyond loopback without a password for it.
    """
    if not registry.listen:
        return LOOPBACK, loopback_port(registry.url)
    host, _, port = registry.listen.rpartition(":")
    if not host or not port.isdigit():
        raise InvalidInput(f"SKEET_REGISTRY__LISTEN is {registry.listen!r}; expected HOST:PORT, such as 0.0.0.0:8081")
    if host not in LOOPBACK_HOSTS and not (registry.user and registry.password.get_secret_value()):
        raise InvalidInput(
            f"SKEET_REGISTRY__LISTEN is {registry.listen!r}, beyond this machine: set SKEET_REGISTRY__USER and"
            " SKEET_REGISTRY__PASSWORD, or strangers could register schemas"
        )
    return host, int(port)


def _tls(registry: RegistrySettings) -> ssl.SSLContext | None:
    files = {"certificate": registry.tls_certificate, "key": registry.tls_key}
    if not present("SKEET_REGISTRY__TLS_", files):
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(str(registry.tls_certificate), str(registry.tls_key) if registry.tls_key else None)
    return context


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM (0) or until the log is lost (1)."""
    registry_settings = settings.registry
    host, port = listening_at(registry_settings)
    stop = StopSignal().install()
    lost: list[bool] = []

    def lose() -> None:
        lost.append(True)
        stop.stop()

    require_free("the registry", port)
    registry = Registry(RegistryLog(settings.kafka), lose)
    login = basic_auth(registry_settings.user, registry_settings.password.get_secret_value())
    runner = web.AppRunner(registry.application(login), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port, ssl_context=_tls(registry_settings)).start()
    declare("skeet_registry_requests_total", ("200",))
    beats = asyncio.create_task(HEALTH.beat_regularly())
    announce_ready()
    await stop.wait_async()
    beats.cancel()
    await runner.cleanup()
    return 1 if lost else 0


def main(settings: Settings) -> int:
    """The role ``registry``."""
    return asyncio.run(serve(settings))


def foreground() -> int:
    """``python -m skeet.local.registry``: a registry by hand, until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Run the schema registry on loopback until Ctrl-C.")
    parser.add_argument("--bootstrap", required=True, help="Kafka's address")
    parser.add_argument("--port", type=int, required=True)
    chosen = parser.parse_args()
    settings = load_settings()
    configure_logging("registry", settings.log_level)
    kafka = settings.kafka.model_copy(update={"bootstrap": chosen.bootstrap})
    registry = settings.registry.model_copy(update={"url": f"http://{LOOPBACK}:{chosen.port}"})
    try:
        return asyncio.run(serve(settings.model_copy(update={"kafka": kafka, "registry": registry})))
    except SkeetError as error:
        logger().error(str(error))
        return 1


if __name__ == "__main__":
    raise SystemExit(foreground())
