"""One account at Binance spot, or at the simulated exchange that speaks its dialect, through unpatched ccxt.

ccxt signs, sends and names errors; its rate limiter, retries and caches stay unused. A request's ``timestamp`` and
``recvWindow`` are parameters of ours, so what the write-ahead attempt says is exactly what was signed. Frames of the user
stream are taken raw, before ccxt's caches, which drop bursts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from importlib import import_module
from typing import Any

from skeet.core.errors import InfrastructureError, InvalidInput, SkeetError, VenueError
from skeet.core.values import NS_PER_MS, Side, TimeInForce
from skeet.streams.ports import (
    Acked,
    Attempt,
    Canceled,
    CancelOutcome,
    Capabilities,
    Evidence,
    Found,
    NotFound,
    NotSent,
    OrderKey,
    Rejected,
    SendGuard,
    SendOutcome,
    StreamConnected,
    StreamLost,
    Unanswered,
    Unknown,
    VenueBalance,
    VenueOrder,
    VenueReport,
    VenueTrade,
)
from skeet.venues.execution.answers import NO_SUCH_ORDER_CODES, code_of, outcome_of, reason_of
from skeet.venues.execution.binance_rows import balance_of, order_of, reports_of, trade_of
from skeet.venues.execution.keys import VenueKey
from skeet.venues.execution.session import open_session, refuse_live, watched_request

REQUEST_TIMEOUT_MS = 5_000
"""No answer for this long is no answer."""
TRADES_PAGE = 1_000
STREAM_BACKLOG = 100_000
"""Reports not yet read; past this the stream is declared lost and everything is asked again by REST, which is complete."""
RECONNECT_FIRST_S = 0.1
RECONNECT_MAX_S = 5.0

BINANCE = Capabilities(
    request_expiry=True,
    receive_window_ns=5_000 * NS_PER_MS,
    # Venue and gateway clocks are compared all the time; at more than this apart nothing is sent.
    clock_error_ns=1_000 * NS_PER_MS,
    # Reads may come from a replica: orders were reported missing for seconds, and listed open for 40 s after a fill.
    visibility_delay_ns=10_000 * NS_PER_MS,
    orders=50,
    request_weight=6_000,
)
SIMULATED = Capabilities(
    request_expiry=True,
    receive_window_ns=5_000 * NS_PER_MS,
    clock_error_ns=100 * NS_PER_MS,
    visibility_delay_ns=500 * NS_PER_MS,
    orders=5_000,
    request_weight=600_000,
)
"""The simulated exchange runs on this machine's clock and shows an order at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BinanceOptions:
    """Where and as whom. ``ccxt_config`` holds addresses and options for ccxt's constructor, without keys; ``prefix`` is
    the venue's part of instrument ids (``SIM``)."""

    prefix: str
    key: VenueKey
    capabilities: Capabilities
    ccxt_config: Mapping[str, Any] = field(default_factory=dict)
    allow_live: bool = False
    guard: SendGuard = lambda: ""


def load_library() -> None:
    """Import ccxt: seconds of one core, so it is done before a deadline runs, and never in the event loop."""
    import_module("ccxt.pro.binance")


class BinanceVenue:
    """The port ``Venue`` on ``ccxt.pro.binance``. Made inside the event loop."""

    def __init__(self, options: BinanceOptions) -> None:
        from ccxt.pro.binance import binance  # 4 s and 120 MB: only processes that trade pay for it; see load_library

        self._options = options
        self._exchange: Any = binance(
            {
                **options.ccxt_config,
                "apiKey": options.key.api_key,
                "secret": options.key.secret,
                "enableRateLimit": False,
                "timeout": REQUEST_TIMEOUT_MS,
            }
        )
        self._exchange.options["warnOnFetchOpenOrdersWithoutSymbol"] = False
        if not options.allow_live:
            refuse_live(self._addresses())
        self._session = open_session(allow_live=options.allow_live)
        self._exchange.session = self._session
        self._exchange.own_session = False
        self._original_handler = self._exchange.handle_message
        self._exchange.handle_message = self._frame  # before the first connection, which keeps a reference
        self._instruments: dict[str, str] = {}
        self._reports: asyncio.Queue[VenueReport] = asyncio.Queue()

    @property
    def capabilities(self) -> Capabilities:
        return self._options.capabilities

    def _addresses(self) -> list[str]:
        api = self._exchange.urls["api"]
        return [api["public"], api["private"], api["ws"]["spot"], api["ws"]["ws-api"]["spot"]]

    # --- asking -------------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        markets = await self._ask(self._exchange.load_markets())
        self._instruments = {
            market["id"]: f"{self._options.prefix}:{symbol}" for symbol, market in markets.items() if market["spot"]
        }

    async def _ask(self, request: Any) -> Any:
        """The answer to a question that changes nothing."""
        from ccxt.base.errors import BaseError, OperationFailed

        try:
            return await request
        except OperationFailed as error:
            raise InfrastructureError(f"{type(error).__name__}: {reason_of(error)}") from error
        except BaseError as error:
            raise VenueError(f"{code_of(error)}: {reason_of(error)}") from error

    async def lookup(self, key: OrderKey) -> Evidence:
        # The client's id is asked for where it is known: it is the one that both sides had from the first moment.
        by_client = {"origClientOrderId": key.client_order_id} if key.client_order_id else {}
        try:
            answer = await self._ask(
                self._exchange.fetch_order(key.venue_order_id, _symbol(key.instrument_id), by_client)
            )
            return Found(order=self._order(answer["info"]))
        except VenueError as error:
            if str(error).startswith(("-2013", "OrderNotFound")):
                return NotFound(reason=str(error))
            return Unanswered(reason=str(error))
        except (SkeetError, KeyError, ArithmeticError) as error:
            return Unanswered(reason=f"{type(error).__name__}: {error}")

    async def order_trades(self, key: OrderKey) -> Sequence[VenueTrade]:
        rows = await self._ask(
            self._exchange.fetch_my_trades(
                _symbol(key.instrument_id), None, TRADES_PAGE, {"orderId": key.venue_order_id}
            )
        )
        return [trade_of(row["info"], self._instrument) for row in rows]

    async def trades_after(self, instrument_id: str, trade_id: int) -> Sequence[VenueTrade]:
        rows = await self._ask(
            self._exchange.fetch_my_trades(_symbol(instrument_id), None, TRADES_PAGE, {"fromId": trade_id + 1})
        )
        found = [trade_of(row["info"], self._instrument) for row in rows]
        return sorted(found, key=lambda trade: int(trade.trade_id))

    async def open_orders(self) -> Sequence[VenueOrder]:
        rows = await self._ask(self._exchange.fetch_open_orders())
        return [self._order(row["info"]) for row in rows]

    async def balances(self) -> Sequence[VenueBalance]:
        answer = (await self._ask(self._exchange.fetch_balance()))["info"]
        ts_event = int(answer["updateTime"]) * NS_PER_MS
        found = [balance_of(row, ts_event) for row in answer["balances"]]
        return [balance for balance in found if balance.free or balance.locked]

    async def clock_offset_ns(self) -> int:
        before = time.time_ns()
        theirs = await self._ask(self._exchange.fetch_time()) * NS_PER_MS
        return int(theirs - (before + time.time_ns()) // 2)

    # --- acting -------------------------------------------------------------------------------------------------------

    async def send(self, attempt: Attempt) -> SendOutcome:
        symbol = _symbol(attempt.key.instrument_id)
        quantity, price = f"{attempt.quantity:f}", f"{attempt.limit_price:f}"
        if (altered := self._altered(symbol, quantity, price)) is not None:
            return NotSent(reason=altered)
        params = {
            "newClientOrderId": attempt.key.client_order_id,
            "timestamp": attempt.sent_ts // NS_PER_MS,
            "recvWindow": (attempt.send_until - attempt.sent_ts) // NS_PER_MS,
        }
        params |= {"postOnly": True} if attempt.post_only else {"timeInForce": _TIME_IN_FORCE[attempt.time_in_force]}
        side = "buy" if attempt.side is Side.BUY else "sell"
        with watched_request(self._options.guard) as written:
            try:
                answer = await self._exchange.create_order(symbol, "limit", side, quantity, price, params)
            except Exception as error:  # whatever it is: once written, only evidence ends an order
                return outcome_of(error, written)
            answered_ns = time.time_ns()
        try:
            order = self._accepted(answer["info"], attempt)
        except (KeyError, TypeError, ArithmeticError) as error:
            return Unknown(reason=f"an answer without {error}")
        return Acked(order=order, written_ns=written.written_ns, answered_ns=answered_ns)

    def _accepted(self, row: Mapping[str, Any], attempt: Attempt) -> VenueOrder:
        """The order of an answer to ``POST order``; a post-only order is acknowledged without its state."""
        state = {"status": "NEW", "executedQty": "0"} if attempt.post_only else {}
        return self._order({**state, **row})

    def _altered(self, symbol: str, quantity: str, price: str) -> str | None:
        """Why ccxt would send other numbers than those that risk saw; None when it would not."""
        from ccxt.base.errors import BaseError

        try:
            sent = (
                self._exchange.amount_to_precision(symbol, quantity),
                self._exchange.price_to_precision(symbol, price),
            )
        except BaseError as error:
            return f"{symbol}: {reason_of(error)}"
        if Decimal(sent[0]) != Decimal(quantity) or Decimal(sent[1]) != Decimal(price):
            return f"{quantity} @ {price} would be sent as {sent[0]} @ {sent[1]}: not the venue's steps"
        return None

    async def cancel(self, key: OrderKey) -> CancelOutcome:
        by_client = {"origClientOrderId": key.client_order_id} if key.client_order_id else {}
        with watched_request() as written:
            try:
                answer = await self._exchange.cancel_order(key.venue_order_id, _symbol(key.instrument_id), by_client)
                return Canceled(order=self._order(answer["info"]))
            except Exception as error:
                outcome = outcome_of(error, written)
        if isinstance(outcome, Rejected) and outcome.code not in NO_SUCH_ORDER_CODES | {"OrderNotFound"}:
            return outcome
        # Nothing to cancel is also what a filled order, or one not visible yet, answers: the caller looks it up.
        return outcome

    # --- the user stream ----------------------------------------------------------------------------------------------

    async def reports(self) -> AsyncIterator[VenueReport]:
        connection = asyncio.create_task(self._keep_connected(), name="user-stream")
        try:
            while True:
                yield await self._reports.get()
        finally:
            connection.cancel()
            await asyncio.gather(connection, return_exceptions=True)

    async def _keep_connected(self) -> None:
        wait_s = RECONNECT_FIRST_S
        while True:
            try:
                await self._exchange.authenticate({"type": "spot"})
                self._reports.put_nowait(StreamConnected())
                wait_s = RECONNECT_FIRST_S
                client = self._exchange.client(self._exchange.urls["api"]["ws"]["ws-api"]["spot"])
                await client.future("skeet:closed")  # never resolved, rejected when the connection goes
            except Exception as error:
                self._reports.put_nowait(StreamLost(reason=f"{type(error).__name__}: {reason_of(error)}"))
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, RECONNECT_MAX_S)

    def _frame(self, client: Any, message: Any) -> None:
        """Every frame of the WebSocket API, before ccxt: ours are taken, the rest (answers, errors) goes on."""
        event = message.get("event") if isinstance(message, dict) else None
        if event is None:
            self._original_handler(client, message)
            return
        if self._reports.qsize() >= STREAM_BACKLOG:
            self._forget_backlog()
        try:
            for report in reports_of(event, self._instrument):
                self._reports.put_nowait(report)
        except VenueError as error:
            # Asking by REST restores what an unreadable event said, or fails where it is seen.
            self._reports.put_nowait(StreamLost(reason=str(error)))
            self._reports.put_nowait(StreamConnected())

    def _forget_backlog(self) -> None:
        while not self._reports.empty():
            self._reports.get_nowait()
        self._reports.put_nowait(StreamLost(reason=f"{STREAM_BACKLOG} reports unread"))
        self._reports.put_nowait(StreamConnected())

    async def close(self) -> None:
        await self._exchange.close()
        await self._session.close()

    # --- names --------------------------------------------------------------------------------------------------------

    def _instrument(self, venue_symbol: str) -> str:
        try:
            return self._instruments[venue_symbol]
        except KeyError:
            raise InvalidInput(f"{venue_symbol} is not among the venue's spot markets") from None

    def _order(self, row: Mapping[str, Any]) -> VenueOrder:
        return order_of(row, self._instrument)


_TIME_IN_FORCE = {TimeInForce.GTC: "GTC", TimeInForce.IOC: "IOC", TimeInForce.FOK: "FOK"}


def _symbol(instrument_id: str) -> str:
    """ccxt's symbol: the instrument id without the venue."""
    return instrument_id.partition(":")[2]
