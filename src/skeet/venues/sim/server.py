"""The exchange on the network: Binance's spot REST under ``/api/v3``, its streams, its WebSocket API, administration.

One process, one event loop; the loop plays the background flow every few milliseconds between requests.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qsl

import orjson
from aiohttp import web

from skeet.core.errors import InfrastructureError
from skeet.metrics import counter
from skeet.streams.crash_points import SIM_BEFORE_ANSWER, reach
from skeet.venues.sim import private_api, public_api
from skeet.venues.sim.admin import Admin, FlowControl
from skeet.venues.sim.behaviour import Behaviour, Faults
from skeet.venues.sim.exchange import Exchange
from skeet.venues.sim.market_streams import MarketStreams, Subscriber
from skeet.venues.sim.orders import OrderKind, Rejection, UniqueAmong
from skeet.venues.sim.parameters import Parameters
from skeet.venues.sim.signing import KeyRing, check_time
from skeet.venues.sim.sockets import Client, accept, texts
from skeet.venues.sim.user_streams import UserStreams

FLOW_INTERVAL_S = 0.01
DEPTH_INTERVAL_S = 0.1
API = "/api/v3"
PLACE = ("POST", "order")
_UNAUTHORIZED = (-2014, -2015)
REQUEST_KINDS = ("order", "other", "refused")
"""How the metric counts REST requests: new orders, everything else, and what was answered with an error."""


class Server:
    """Serves one exchange. ``start`` binds and returns the port; ``stop`` leaves everything on disk."""

    def __init__(
        self,
        exchange: Exchange,
        *,
        admin_token: str,
        speed: float = 1.0,
        unique_among: UniqueAmong = UniqueAmong.OPEN,
    ) -> None:
        self.exchange = exchange
        self.keys = KeyRing(exchange.directory)
        for account in exchange.engine.accounts:
            self.keys.pair(account)
        self.flow = FlowControl(speed=speed)
        self.behaviour = Behaviour(faults=Faults(duplicate_client_ids=unique_among))
        self._streams = MarketStreams(exchange, self.behaviour)
        self._users = UserStreams(exchange, self.behaviour)
        self._admin = Admin(exchange, self.keys, self.flow, self.behaviour, admin_token)
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, host: str, port: int) -> int:
        """Listen on host:port (0: any free one) and start the flow; returns the port.

        Raises
        ------
        InfrastructureError
            the address is in use.
        """
        app = web.Application()
        app.add_routes(
            [
                web.route("*", API + "/{path:.+}", self._rest),
                web.get("/stream", self._market_socket),
                web.get("/{form:ws|stream/ws}", self._market_socket),
                web.get("/{form:ws|stream/ws}/{streams:.+}", self._market_socket),
                web.get("/ws-api/v3", self._api_socket),
                *self._admin.routes(),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise InfrastructureError(f"cannot listen on {host}:{port}: {error.strerror}; is it in use?") from error
        self._tasks = [asyncio.create_task(self._play_flow()), asyncio.create_task(self._tick_streams())]
        bound: int = self._runner.addresses[0][1]
        return bound

    async def run_until(self, stopped: asyncio.Future[None]) -> None:
        """Serve until `stopped` is done; a failure of the flow or the journal ends it at once."""
        await asyncio.wait([*self._tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
        for task in self._tasks:
            if task.done():
                task.result()

    async def stop(self) -> None:
        """Stop listening, write a snapshot, close the files."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        self.exchange.close()

    # --- the clockwork ------------------------------------------------------------------------------------------------

    async def _play_flow(self) -> None:
        while True:
            self._advance()
            await asyncio.sleep(FLOW_INTERVAL_S)

    def _advance(self) -> None:
        if self.flow.paused:
            self.exchange.rest_flow()
        else:
            self.exchange.step_flow(self.flow.speed)

    async def _tick_streams(self) -> None:
        while True:
            await asyncio.sleep(DEPTH_INTERVAL_S)
            self._streams.tick()

    # --- REST ---------------------------------------------------------------------------------------------------------

    async def _rest(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        body = (await request.read()).decode("utf-8", "replace")
        if (request.method, path) == PLACE and self.behaviour.uses_up("limit_next"):
            return _json({"code": -1003, "msg": "Too many requests."}, 429)
        try:
            answer = self._answer(request.method, path, request, body)
        except Rejection as rejection:
            status = 401 if rejection.code in _UNAUTHORIZED else 400
            counter("skeet_venue_requests_total", "refused").inc()
            return _json({"code": rejection.code, "msg": rejection.message}, status)
        if answer is None:
            return _json({"code": -1000, "msg": f"No such endpoint: {request.method} {path}"}, 404)
        placed = (request.method, path) == PLACE
        counter("skeet_venue_requests_total", "order" if placed else "other").inc()
        return await self._placed(request, answer) if placed else _json(answer)

    async def _placed(self, request: web.Request, answer: public_api.Json) -> web.Response:
        """The answer to an order that stands, or what the exchange was told to do to it."""
        reach(SIM_BEFORE_ANSWER)
        if delay_ms := self.behaviour.faults.answer_delay_ms:
            self.behaviour.happened["delay"] += 1
            await asyncio.sleep(delay_ms / 1_000)
        if self.behaviour.drops_this_answer() and request.transport is not None:
            request.transport.abort()  # the answer goes into a closed connection
        elif self.behaviour.uses_up("unavailable_next"):
            return _json({"code": -1007, "msg": "Timeout waiting for response from backend server."}, 504)
        return _json(answer)

    def _answer(self, method: str, path: str, request: web.Request, body: str) -> public_api.Json | None:
        query = request.rel_url.raw_query_string
        parameters = Parameters(parse_qsl(query, keep_blank_values=True) + parse_qsl(body, keep_blank_values=True))
        if method == "GET" and path in public_api.ROUTES:
            if "X-MBX-APIKEY" in request.headers:  # market data asks for no key, but refuses a wrong one
                self.keys.account_of(request.headers["X-MBX-APIKEY"])
            return public_api.ROUTES[path](self.exchange, parameters)
        if (method, path) not in private_api.ROUTES and (method, path) not in (
            ("POST", "order"),
            ("POST", "order/test"),
        ):
            return None
        account = self.keys.account_of(request.headers.get("X-MBX-APIKEY"))
        check_time(parameters, self.exchange.now_ns // 1_000_000)
        self.keys.check(account, _without_signature(query) + _without_signature(body), parameters.get("signature"))
        return self._private(method, path, account, parameters)

    def _private(self, method: str, path: str, account: str, parameters: Parameters) -> public_api.Json:
        # Flow first, so that times in the log never go back: the flow's next step would start before this request.
        self._advance()
        if path == "order/test":
            private_api.read_order(self.exchange, account, parameters, self.behaviour)
            return {}
        if (method, path) == PLACE:
            order = private_api.read_order(self.exchange, account, parameters, self.behaviour)
            order_id = self.exchange.execute(order)
            default = "ACK" if order.kind is OrderKind.LIMIT_MAKER else "FULL"
            wanted = parameters.get("newOrderRespType", default)
            return private_api.accepted(self.exchange, account, order.symbol, order_id, wanted)
        return self._shown(path, private_api.ROUTES[method, path](self.exchange, account, parameters))

    def _shown(self, path: str, answer: public_api.Json) -> public_api.Json:
        """The answer without what the exchange was told to hide for a while: orders and fills that are too new."""
        if not self.behaviour.faults.hide_ms or path not in ("order", "openOrders", "allOrders", "myTrades"):
            return answer
        if isinstance(answer, list):
            return [row for row in answer if not self._hides(row)]
        if self._hides(answer):
            raise Rejection(*private_api.ORDER_DOES_NOT_EXIST)
        return answer

    def _hides(self, row: dict[str, Any]) -> bool:
        return self.behaviour.hides(int(row.get("time", 0)) * 1_000_000, self.exchange.now_ns)

    # --- WebSockets ---------------------------------------------------------------------------------------------------

    async def _market_socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = accept()
        await socket.prepare(request)
        client = Client(socket, request)
        subscriber = Subscriber(client, combined=request.path == "/stream")
        named = request.query.get("streams") or request.match_info.get("streams", "")
        self._streams.subscribe(subscriber, [each for each in named.split("/") if "@" in each])
        try:
            async for text in texts(socket):
                self._streams.request(subscriber, text)
        finally:
            self._streams.leave(subscriber)
            await client.close()
        return socket

    async def _api_socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = accept()
        await socket.prepare(request)
        client = Client(socket, request)
        try:
            async for text in texts(socket):
                client.send(orjson.dumps(self._api_answer(client, text)).decode())
        finally:
            self._users.leave(client)
            await client.close()
        return socket

    def _api_answer(self, client: Client, text: str) -> dict[str, Any]:
        request_id: Any = None
        try:
            message = orjson.loads(text)
            request_id, method = message.get("id"), message.get("method")
            parameters = Parameters({name: str(value) for name, value in (message.get("params") or {}).items()})
            if method == "ping":
                result: dict[str, Any] = {}
            elif method == "time":
                result = {"serverTime": self.exchange.now_ns // 1_000_000}
            elif method == "userDataStream.subscribe.signature":
                result = {"subscriptionId": self._users.subscribe(client, self._api_account(parameters))}
            else:
                raise Rejection(-1020, f"Method {method!r} is not supported.")
        except Rejection as rejection:
            return {"id": request_id, "status": 400, "error": {"code": rejection.code, "msg": rejection.message}}
        except (orjson.JSONDecodeError, AttributeError, TypeError, RecursionError) as error:
            return {"id": request_id, "status": 400, "error": {"code": -1135, "msg": f"Invalid JSON request: {error}"}}
        return {"id": request_id, "status": 200, "result": result, "rateLimits": []}

    def _api_account(self, parameters: Parameters) -> str:
        """The account that signed a WebSocket API request: all parameters but the signature, sorted by name."""
        account = self.keys.account_of(parameters.get("apiKey"))
        check_time(parameters, self.exchange.now_ns // 1_000_000)
        payload = "&".join(f"{name}={value}" for name, value in sorted(parameters.items()) if name != "signature")
        self.keys.check(account, payload, parameters.get("signature"))
        return account


def _without_signature(text: str) -> str:
    return "&".join(part for part in text.split("&") if not part.startswith("signature="))


def _json(body: public_api.Json, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
