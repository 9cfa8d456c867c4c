"""One account at its venue: sending, canceling, following the user stream, asking what became of orders.

Three sources speak of orders: answers, the stream, and questions. All of them end in :class:`AccountBook`, which makes the
reports. The account is ``ready`` while its stream is up and everything was asked once since it came up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, assert_never

from skeet.agents.gateway_book import AccountBook, LiveOrder, Outs, Stage
from skeet.agents.rate_budget import RateBudget
from skeet.core.errors import SkeetError
from skeet.core.ids import derive_id
from skeet.core.record import Event, Meta, Out
from skeet.core.reports import BalanceReported, ExternalOrderSeen
from skeet.core.values import NS_PER_S, AccountId, EventId, PrincipalId, TenantId
from skeet.metrics import histogram
from skeet.process import logger
from skeet.streams.crash_points import GATEWAY_AFTER_ANSWER, GATEWAY_BETWEEN_SENDS, reach
from skeet.streams.ports import (
    Acked,
    Attempt,
    Canceled,
    Found,
    NotFound,
    NotSent,
    OrderKey,
    Rejected,
    StreamConnected,
    StreamLost,
    Unanswered,
    Unknown,
    Venue,
    VenueBalance,
    VenueOrder,
    VenueOrderStatus,
    VenueReport,
    VenueTrade,
)
from skeet.streams.topics import REPORTS

SWEEP_S = 30.0
"""Everything is asked again this often, whatever the stream says."""
SILENCE_S = 10.0
"""A stream that says nothing for this long while orders are open is not believed: the venue is asked."""
ASK_FIRST_S = 0.2
ASK_MAX_S = 5.0
"""Between two questions about an order whose outcome is unknown."""
ABSENCE_EVIDENCE = 3
"""So many answers in a row that there is no such order, all after it can no longer appear, prove its absence."""
FILLS_GRACE_S = 0.5
"""The stream may still bring fills that an answer spoke of; after this they are asked for."""
CANCEL_TRIES = 5
BALANCE_INTERVAL_S = 1.0
"""Balances change with every fill; the last of each second is reported."""
CONNECT_RETRY_S = 1.0
TOO_MANY = frozenset({"-1003", "-1015", "RateLimitExceeded", "DDoSProtection"})

Publish = Callable[[Outs], object]
Clock = Callable[[], int]


class AccountSession:
    """One account. ``start`` it once; ``close`` ends its tasks and its connections."""

    def __init__(
        self,
        account_id: str,
        tenant_id: str,
        venue: Venue,
        book: AccountBook,
        publish: Publish,
        clock: Clock,
        *,
        cancel_external: bool = False,
    ) -> None:
        self.account_id = account_id
        self.venue = venue
        self.book = book
        self.budget = RateBudget(venue.capabilities.orders, clock())
        self.ready = asyncio.Event()
        self.trouble = "not connected to the venue yet"
        self.tenant_id = tenant_id
        self._publish = publish
        self._clock = clock
        self._cancel_external = cancel_external
        self._tasks: set[asyncio.Task[None]] = set()
        self._resolving: set[str] = set()
        self._canceling: set[str] = set()
        self._sending = 0
        self._balances: dict[str, VenueBalance] = {}
        self._last_word_s = 0.0
        self._connected = asyncio.Event()
        self._asked = asyncio.Event()
        self._log = logger().bind(account=account_id)
        self._attempt_to_socket = histogram("skeet_hop_latency_seconds", "attempt_to_socket")
        self._socket_to_answer = histogram("skeet_hop_latency_seconds", "socket_to_answer")

    def start(self) -> None:
        """Connect, follow the stream, ask regularly."""
        self._spawn(self._follow())
        self._spawn(self._ask_regularly())
        self._spawn(self._report_balances())

    async def stop(self) -> None:
        """End every task: nothing is sent, and nothing reported, from here on. Connections stand until :meth:`close`."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """End everything; what was sent and not answered is resolved by the next start."""
        await self.stop()
        await self.venue.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:  # one order's trouble must not end the account
                self._log.exception("task failed", error=str(error))

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- sending ------------------------------------------------------------------------------------------------------

    def submit(self, order: LiveOrder, attempt: Attempt) -> None:
        """Send an order whose attempt is in the log. Its outcome becomes a report."""
        self._spawn(self._submit(order, attempt))

    async def _submit(self, order: LiveOrder, attempt: Attempt) -> None:
        if self._sending:
            reach(GATEWAY_BETWEEN_SENDS)
        self._sending += 1
        try:
            outcome = await self.venue.send(attempt)
        finally:
            self._sending -= 1
        if isinstance(outcome, Acked):
            reach(GATEWAY_AFTER_ANSWER)
        now_ns = self._clock()
        match outcome:
            case Acked():
                self._time(attempt, outcome)
                self._publish(self.book.acknowledged(order, outcome.order, outcome.written_ns, outcome.answered_ns))
                self._expect_fills(outcome.order)
            case Rejected():
                if outcome.code in TOO_MANY:
                    self.budget.hold_off(now_ns)
                self._publish(self.book.rejected(order, outcome.code, outcome.reason, now_ns))
            case NotSent():
                self._publish(self.book.not_sent(order, outcome.reason, now_ns))
            case Unknown():
                self._log.warning("outcome unknown", order=order.order_id, reason=outcome.reason)
                self._publish(self.book.unknown(order, outcome.reason, now_ns))
                self.resolve(order)
            case _:
                assert_never(outcome)
        self._cancel_if_asked(order)

    def _time(self, attempt: Attempt, answer: Acked) -> None:
        self._attempt_to_socket.observe(max(0, answer.written_ns - attempt.sent_ts) / NS_PER_S)
        self._socket_to_answer.observe(max(0, answer.answered_ns - answer.written_ns) / NS_PER_S)

    # --- asking what became of an order -------------------------------------------------------------------------------

    def resolve(self, order: LiveOrder) -> None:
        """Ask until it is known what became of the order."""
        if order.stage is Stage.UNKNOWN and order.order_id not in self._resolving:
            self._resolving.add(order.order_id)
            self._spawn(self._resolve(order))

    async def _resolve(self, order: LiveOrder) -> None:
        wait_s, absences = ASK_FIRST_S, 0
        await self._connected.wait()
        try:
            while order.stage is Stage.UNKNOWN and order.order_id in self.book.orders:
                evidence = await self.venue.lookup(order.key)
                match evidence:
                    case Found():
                        self.observe_order(evidence.order)
                        break
                    case NotFound():
                        absences = absences + 1 if self._can_no_longer_appear(order) else 0
                        if absences >= ABSENCE_EVIDENCE and await self._nowhere(order):
                            text = f"{evidence.reason}; asked {absences} times after it could no longer appear"
                            self._publish(self.book.absent(order, text, self._clock()))
                            break
                    case Unanswered():
                        absences = 0
                    case _:
                        assert_never(evidence)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, ASK_MAX_S) if isinstance(evidence, Unanswered) else ASK_FIRST_S
        finally:
            self._resolving.discard(order.order_id)
        self._cancel_if_asked(order)

    def _can_no_longer_appear(self, order: LiveOrder) -> bool:
        rules = self.venue.capabilities
        return rules.request_expiry and self._clock() > order.send_until + rules.settled_after_ns

    async def _nowhere(self, order: LiveOrder) -> bool:
        """The order is neither among the open ones nor behind an execution that nothing else explains."""
        try:
            if any(other.key.client_order_id == order.key.client_order_id for other in await self.venue.open_orders()):
                return False
            await self._ask_trades(order.key.instrument_id)
        except SkeetError:
            return False
        return order.stage is Stage.UNKNOWN

    # --- canceling ----------------------------------------------------------------------------------------------------

    def cancel(self, order: LiveOrder) -> None:
        """Cancel an order whose cancel attempt is in the log: now, or once its submission is answered or resolved."""
        self._cancel_if_asked(order)

    def _cancel_if_asked(self, order: LiveOrder) -> None:
        waiting = order.cancel_id and order.stage is Stage.OPEN and order.order_id in self.book.orders
        if waiting and order.end is None and order.order_id not in self._canceling:
            self._canceling.add(order.order_id)
            self._spawn(self._cancel(order))

    async def _cancel(self, order: LiveOrder) -> None:
        wait_s = ASK_FIRST_S
        await self._connected.wait()
        try:
            for _ in range(CANCEL_TRIES):
                if wait_ns := self.budget.take_cancel(self._clock()):
                    await asyncio.sleep(wait_ns / NS_PER_S)
                if await self._cancel_once(order):
                    return
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, ASK_MAX_S)
            self._log.warning("not canceled yet; the next sweep tries again", order=order.order_id)
        finally:
            self._canceling.discard(order.order_id)

    def cancel_everything(self) -> None:
        """Cancel every open order that the venue shows, without a write-ahead: the kill switch does not wait for a log."""
        self._spawn(self._cancel_everything())

    async def _cancel_everything(self) -> None:
        await self._connected.wait()
        for _ in range(CANCEL_TRIES):
            try:
                found = await self.venue.open_orders()
            except SkeetError as error:
                self._log.warning("open orders not answered", error=str(error))
                await asyncio.sleep(ASK_FIRST_S)
                continue
            if not found:
                return
            for outcome in await asyncio.gather(*(self.venue.cancel(venue_order.key) for venue_order in found)):
                if isinstance(outcome, Canceled):
                    self.observe_order(outcome.order)

    async def _cancel_once(self, order: LiveOrder) -> bool:
        """Whether the cancel is settled. A refusal is looked up: a fill wins."""
        outcome = await self.venue.cancel(order.key)
        if isinstance(outcome, Canceled):
            self.observe_order(outcome.order)
            return True
        if order.order_id not in self.book.orders or order.end is not None:
            return True
        if isinstance(outcome, Rejected):
            evidence = await self.venue.lookup(order.key)
            if isinstance(evidence, Found) and evidence.order.status is not VenueOrderStatus.OPEN:
                if evidence.order.status is not VenueOrderStatus.CANCELED:
                    self._publish(self.book.cancel_rejected(order, outcome.code, outcome.reason, self._clock()))
                self.observe_order(evidence.order)
                return True
        return False

    # --- what the venue says ------------------------------------------------------------------------------------------

    def observe_order(self, venue_order: VenueOrder) -> None:
        """Take the venue's word about an order."""
        order = self.book.find(venue_order.key)
        if order is None:
            if venue_order.status is VenueOrderStatus.OPEN and not self.book.is_done(venue_order.key):
                self._external_order(venue_order)
            return
        self._publish(self.book.seen(venue_order))
        self._expect_fills(venue_order)
        self._cancel_if_asked(order)

    def _external_order(self, venue_order: VenueOrder) -> None:
        """Somebody else's order under our key: told once, and canceled where the installation wants that."""
        key = venue_order.key
        if not self.book.remember_external(key.venue_order_id):
            return
        self._log.warning("an order that is not ours", key=key, canceling=self._cancel_external)
        event = ExternalOrderSeen(
            instrument_id=key.instrument_id,
            venue_order_id=key.venue_order_id,
            client_order_id=key.client_order_id,
            reason="is being canceled" if self._cancel_external else "is left alone",
        )
        self._publish([self._account_report(event, key.venue_order_id, ts_event=venue_order.ts_event)])
        if self._cancel_external:
            self._spawn(self._cancel_foreign(key))

    async def _cancel_foreign(self, key: OrderKey) -> None:
        outcome = await self.venue.cancel(key)
        if not isinstance(outcome, Canceled):
            self._log.warning("an order that is not ours was not canceled", key=key, outcome=outcome)

    def observe_trade(self, trade: VenueTrade) -> None:
        """Take an execution."""
        order = self.book.find(trade.key)
        self._publish(self.book.traded(trade))
        if order is not None:
            self._cancel_if_asked(order)

    def _expect_fills(self, seen: VenueOrder) -> None:
        order = self.book.find(seen.key)
        if order is not None and order.filled < seen.filled_quantity:
            self._spawn(self._ask_fills(order, seen))

    async def _ask_fills(self, order: LiveOrder, seen: VenueOrder) -> None:
        """Ask for the executions that the stream did not bring in its time."""
        wait_s = FILLS_GRACE_S
        while True:
            await asyncio.sleep(wait_s)
            if order.filled >= seen.filled_quantity or order.order_id not in self.book.orders:
                return
            try:
                for trade in await self.venue.order_trades(order.key):
                    self.observe_trade(trade)
            except SkeetError as error:
                self._log.warning("fills not answered", order=order.order_id, error=str(error))
            wait_s = min(2 * wait_s, ASK_MAX_S)

    async def _follow(self) -> None:
        while True:
            try:
                await self.venue.connect()
                self._connected.set()
                break
            except SkeetError as error:
                self.trouble = f"not connected to the venue: {error}"
                self._log.warning("venue not connected", error=str(error))
                await asyncio.sleep(CONNECT_RETRY_S)
        async for said in self.venue.reports():
            self._last_word_s = asyncio.get_running_loop().time()
            try:
                self._heard(said)
            except Exception as error:  # one unusable word; asking again restores what it said
                self._log.exception("report not understood", error=str(error))
                self._asked.set()

    def _heard(self, said: VenueReport) -> None:
        match said:
            case VenueTrade():
                self.observe_trade(said)
            case VenueOrder():
                self.observe_order(said)
            case VenueBalance():
                self._balances[said.asset] = said
            case StreamConnected():
                self._asked.set()
            case StreamLost():
                self._log.warning("user stream lost", reason=said.reason)
                self.trouble = f"the user stream is away: {said.reason}"
                self.ready.clear()
            case _:
                assert_never(said)

    # --- asking everything --------------------------------------------------------------------------------------------

    async def _ask_regularly(self) -> None:
        loop = asyncio.get_running_loop()
        await self._asked.wait()
        swept_s = 0.0
        while True:
            wanted = self._asked.is_set()
            silent = bool(self.book.orders) and loop.time() - self._last_word_s > SILENCE_S
            if wanted or silent or loop.time() - swept_s > SWEEP_S:
                self._asked.clear()
                if await self._sweep() and wanted:
                    self.ready.set()
                elif wanted:
                    self._asked.set()
                swept_s = self._last_word_s = loop.time()
            try:
                await asyncio.wait_for(self._asked.wait(), SILENCE_S if not wanted else CONNECT_RETRY_S)
            except TimeoutError:
                pass

    async def _sweep(self) -> bool:
        """Ask for clock, open orders, executions and balances, and settle every difference; whether all answered."""
        try:
            await self._check_clock()
            await self._ask_orders()
            for instrument_id in tuple(self.book.last_trade_ids):
                await self._ask_trades(instrument_id)
            for balance in await self.venue.balances():
                self._balances[balance.asset] = balance
        except Exception as error:  # what it was is in the log; nothing is sent until a sweep succeeds
            self.trouble = f"the venue does not answer: {error}"
            self._log.warning("sweep not answered", error=f"{type(error).__name__}: {error}")
            return False
        return True

    async def _check_clock(self) -> None:
        offset_ns = await self.venue.clock_offset_ns()
        if abs(offset_ns) > self.venue.capabilities.clock_error_ns:
            self.ready.clear()
            self._asked.set()
            raise SkeetError(f"its clock is {offset_ns / 1e6:.0f} ms from ours; nothing is sent until it is not")

    async def _ask_orders(self) -> None:
        ours = [order for order in self.book.orders.values() if order.stage is not Stage.SENDING]
        listed = {order.key.client_order_id: order for order in await self.venue.open_orders()}
        for venue_order in listed.values():
            self.observe_order(venue_order)
        for order in ours:
            if order.stage is Stage.UNKNOWN:
                self.resolve(order)
            elif order.order_id in self.book.orders and order.key.client_order_id not in listed:
                evidence = await self.venue.lookup(order.key)
                if isinstance(evidence, Found):
                    self.observe_order(evidence.order)

    async def _ask_trades(self, instrument_id: str) -> None:
        """Executions above the last one known; those of orders that we know only by our own id are looked up."""
        after = self.book.last_trade_ids.get(instrument_id, 0)
        while page := await self.venue.trades_after(instrument_id, after):
            for trade in page:
                if self.book.find(trade.key) is None and not self.book.is_done(trade.key):
                    evidence = await self.venue.lookup(trade.key)
                    if isinstance(evidence, Found):
                        self.observe_order(evidence.order)
                self.observe_trade(trade)
                after = max(after, int(trade.trade_id))
            self.book.last_trade_ids[instrument_id] = max(after, self.book.last_trade_ids.get(instrument_id, 0))

    # --- balances -----------------------------------------------------------------------------------------------------

    async def _report_balances(self) -> None:
        """Report each balance that is not as last reported, be it before a restart."""
        while True:
            await asyncio.sleep(BALANCE_INTERVAL_S)
            fresh = [b for b in self._balances.values() if self.book.balances.get(b.asset) != (b.free, b.locked)]
            self.book.balances |= {b.asset: (b.free, b.locked) for b in fresh}
            self._publish([self._balance_report(balance) for balance in fresh])

    def _balance_report(self, balance: VenueBalance) -> Out[Any]:
        event = BalanceReported(asset=balance.asset, free=balance.free, locked=balance.locked)
        key = (balance.asset, balance.ts_event, f"{balance.free:f}", f"{balance.locked:f}")
        return self._account_report(event, *key, ts_event=balance.ts_event)

    def _account_report(self, event: Event, *natural_key: str | int, ts_event: int) -> Out[Any]:
        """A report that is about no order of ours; its id is derived from account, kind and natural key."""
        event_id = derive_id("report", type(event).__name__, self.account_id, *natural_key)
        meta = Meta(
            event_id=event_id,
            tenant_id=TenantId(self.tenant_id),
            account_id=AccountId(self.account_id),
            principal_id=PrincipalId("gateway"),
            correlation_id=event_id,
            causation_id=EventId(""),
            cause_at="",
            ts_event=ts_event,
            ts_init=self._clock(),
        )
        return Out(topic=REPORTS.name, key=self.account_id, event=event, meta=meta)
