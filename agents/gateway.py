"""The gateway: authorised orders become attempts in the log, then requests at venues, then reports.

For each poll, in this order: rate budget, attempts with their input positions in one transaction, and only then the socket.
What died in between is found again in our own reports: an attempt without an outcome is asked about, never sent again.
Knows venues through ``streams/ports.py`` only; ``roles/gateway.py`` joins the two.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Message

from skeet.agents.gateway_account import AccountSession, Clock
from skeet.agents.gateway_book import AccountBook, LiveOrder, Outs, Stage, authorised_order
from skeet.agents.gateway_log import Batch, GatewayLog
from skeet.agents.kill_latch import KillLatch, LatchEntry, latch_path
from skeet.config import Settings
from skeet.core.accounts import AccountOpened, CancelAuthorized, OrderAuthorized
from skeet.core.errors import InvalidInput
from skeet.core.record import Record
from skeet.core.values import NS_PER_S
from skeet.metrics import Source, declare, histogram
from skeet.process import logger
from skeet.streams.crash_points import (
    GATEWAY_AFTER_ATTEMPT_COMMIT,
    GATEWAY_AFTER_CANCEL_ATTEMPT,
    GATEWAY_BEFORE_ATTEMPT,
    reach,
)
from skeet.streams.partitioner import partition_of
from skeet.streams.ports import Attempt, SendGuard, Venue

BATCH_PATIENCE_S = 2.0
"""So long one poll's orders wait for the venue or for rate budget, all together: cancels wait behind them."""
RECOVERY_PATIENCE_S = 20.0
"""A start waits so long for venues to be asked; later they are asked in the background, and nothing is sent before. A
take-over waits no longer than a poll does: the accounts that answer must not wait for one that does not."""

LATCH_LOOK_S = 0.2
"""How soon a latch that asks for it cancels what is open."""

Connect = Callable[[str, SendGuard], Venue]
"""Makes the venue of an account; raises InvalidInput when there is no key for it."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """An attempt to be sent as soon as it is in the log."""

    session: AccountSession
    order: LiveOrder
    attempt: Attempt
    decided_ns: int


class Gateway:
    """All accounts of this process. Runs in one event loop; ``recovered`` is set once it takes orders."""

    def __init__(
        self,
        settings: Settings,
        log: GatewayLog,
        connect: Connect,
        clock: Clock = time.time_ns,
    ) -> None:
        self.recovered = asyncio.Event()
        self._settings = settings
        self._log = log
        self._connect = connect
        self._clock = clock
        self._latch = KillLatch(latch_path(settings))
        self._books: dict[str, AccountBook] = {}
        self._sessions: dict[str, AccountSession] = {}
        self._tenants: dict[str, str] = {}
        self._latch_watch: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        declare("skeet_hop_latency_seconds", ("decision_to_attempt", "attempt_to_socket", "socket_to_answer"))
        self._decision_to_attempt = histogram("skeet_hop_latency_seconds", "decision_to_attempt")
        Source("skeet_kill_latch_entries", self._latch_scopes).register()
        Source("skeet_venue_sessions", self._session_states).register()

    async def start(self, accounts: Callable[[], Sequence[str]] = tuple) -> None:
        """Fence predecessors, then join the group.

        ``accounts`` names those with a key: of them, the ones whose partition is ours are connected before their first order.
        """
        await self._log.open()
        self._latch_watch = asyncio.create_task(self._watch_latch(), name="kill-latch")
        self._log.consume(lambda partitions: self._recover(partitions, accounts), self._hand_over, self.handle)

    async def close(self) -> None:
        """Stop taking orders, write what waits, close venues. Unanswered sends are resolved by the next start."""
        if self._latch_watch is not None:
            self._latch_watch.cancel()
        await self._log.close()
        await asyncio.gather(*(session.close() for session in self._sessions.values()))
        await asyncio.gather(*self._leaving, return_exceptions=True)

    # --- recovery -----------------------------------------------------------------------------------------------------

    async def _recover(self, partitions: list[int], accounts: Callable[[], Sequence[str]]) -> None:
        await asyncio.to_thread(self._restore, partitions)
        mine = self._of_partitions(partitions, {*self._books, *await asyncio.to_thread(accounts)})
        sessions = {name: session for name in mine if (session := self._session(name)) is not None}
        for session in sessions.values():
            self._settle_interrupted(session)
        waits = [session.ready.wait() for session in sessions.values()]
        try:
            patience_s = BATCH_PATIENCE_S if self.recovered.is_set() else RECOVERY_PATIENCE_S
            await asyncio.wait_for(asyncio.gather(*waits), patience_s)
        except TimeoutError:
            away = [account for account, session in sessions.items() if not session.ready.is_set()]
            logger().warning("venues not asked yet; their orders wait or are refused", accounts=away)
        self.recovered.set()

    async def _hand_over(self, partitions: list[int]) -> None:
        """Let go of the accounts of these partitions: their next owner, perhaps this gateway again, restores them from the log.

        A send that is under way is given up: its attempt is in the log, and whoever comes next asks what became of it.
        """
        gone = self._of_partitions(partitions, {*self._books, *self._sessions})
        sessions = [session for name in gone if (session := self._sessions.pop(name, None)) is not None]
        for name in gone:
            self._books.pop(name, None)
        logger().info("handed over", partitions=partitions, accounts=sorted(gone))
        await asyncio.gather(*(session.stop() for session in sessions))
        # The next owner waits for us, and for no connection to say good-bye: nothing is sent or reported any more.
        for session in sessions:
            leaving = asyncio.create_task(session.close(), name=f"close {session.account_id}")
            self._leaving.add(leaving)
            leaving.add_done_callback(self._left)

    def _left(self, closing: asyncio.Task[None]) -> None:
        self._leaving.discard(closing)
        if not closing.cancelled() and closing.exception() is not None:
            logger().warning("venue connection not closed", task=closing.get_name(), error=repr(closing.exception()))

    def _of_partitions(self, partitions: Sequence[int], accounts: Iterable[str]) -> list[str]:
        count = self._settings.kafka.account_partitions
        return [name for name in accounts if partition_of(name.encode(), count) in partitions]

    def _restore(self, partitions: list[int]) -> None:
        count = 0
        for record in self._log.own_reports(partitions):
            if record.meta is not None:
                self._tenants[record.meta.account_id] = record.meta.tenant_id
                self._book(record.meta.account_id).restore(record)
                count += 1
        live = sum(len(book.orders) for book in self._books.values())
        logger().info("restored from own reports", reports=count, accounts=len(self._books), live_orders=live)

    def _settle_interrupted(self, session: AccountSession) -> None:
        """An attempt whose outcome nobody recorded may have reached the venue: it is unknown until the venue says."""
        for order in tuple(session.book.orders.values()):
            if order.stage is Stage.SENDING:
                reason = "the gateway ended before an answer was recorded"
                self._log.publish(session.book.unknown(order, reason, self._clock()))
            session.resolve(order)
            session.cancel(order)

    # --- one poll -----------------------------------------------------------------------------------------------------

    async def handle(self, batch: Batch, consumed: Sequence[Message]) -> None:
        """Turn one poll into attempts in the log, then send them. Returns before the answers."""
        deadline_ns = self._clock() + int(BATCH_PATIENCE_S * NS_PER_S)
        outs: Outs = []
        ready: list[_Ready] = []
        cancels: list[tuple[AccountSession, LiveOrder]] = []
        canceled = {record.event.order_id for record in batch if isinstance(record.event, CancelAuthorized)}
        for record in batch:
            event: Any = record.event
            if isinstance(event, AccountOpened):
                self._opened(record)
            elif isinstance(event, OrderAuthorized):
                outs += await self._authorised(record, event.order_id in canceled, deadline_ns, ready)
            elif isinstance(event, CancelAuthorized):
                outs += self._cancel(record, cancels)
        if ready:
            reach(GATEWAY_BEFORE_ATTEMPT)
        await self._log.publish(outs, consumed)
        if ready:
            reach(GATEWAY_AFTER_ATTEMPT_COMMIT)
        if cancels:
            reach(GATEWAY_AFTER_CANCEL_ATTEMPT)
        for item in ready:
            item.session.submit(item.order, item.attempt)
            self._decision_to_attempt.observe(max(0, item.attempt.sent_ts - item.decided_ns) / NS_PER_S)
        for session, order in cancels:
            session.cancel(order)

    def _opened(self, record: Record[AccountOpened]) -> None:
        assert record.meta is not None
        self._tenants[record.meta.account_id] = record.meta.tenant_id
        self._session(record.meta.account_id)

    async def _authorised(
        self, record: Record[OrderAuthorized], canceled: bool, deadline_ns: int, ready: list[_Ready]
    ) -> Outs:
        assert record.meta is not None
        account_id, event = str(record.meta.account_id), record.event
        self._tenants[account_id] = record.meta.tenant_id
        book = self._book(account_id)
        if book.knows(event.order_id):
            return []
        session = self._session(account_id)
        reason = "canceled before it was sent" if canceled else await self._refusal(record, session, deadline_ns)
        now_ns = self._clock()
        window_ns = session.venue.capabilities.receive_window_ns if session else 0
        order = authorised_order(record, now_ns + window_ns)
        if session is None or reason:
            return book.not_sent(order, reason, now_ns)
        attempt = Attempt(
            key=order.key,
            side=event.side,
            quantity=event.quantity,
            limit_price=event.limit_price,
            time_in_force=event.time_in_force,
            post_only=event.post_only,
            sent_ts=now_ns,
            send_until=order.send_until,
        )
        ready.append(_Ready(session, order, attempt, record.log_ns))
        return book.attempt(order, event, now_ns)

    async def _refusal(self, record: Record[OrderAuthorized], session: AccountSession | None, deadline_ns: int) -> str:
        """Why the order is not attempted; empty when it is, and its token taken."""
        assert record.meta is not None
        limit_ns = min(record.event.valid_until, deadline_ns)
        if session is None:
            return f"account {record.meta.account_id} has no venue key"
        if not session.ready.is_set():
            try:
                await asyncio.wait_for(session.ready.wait(), max(0, limit_ns - self._clock()) / NS_PER_S)
            except TimeoutError:
                return session.trouble
        while wait_ns := session.budget.take_order(self._clock()):
            if self._clock() + wait_ns > limit_ns:
                return "the venue's order rate is used up"
            await asyncio.sleep(wait_ns / NS_PER_S)
        if self._clock() > record.event.valid_until:
            return "expired before it was sent"
        return self._latch.blocks(str(record.meta.tenant_id), str(record.meta.account_id))

    def _cancel(self, record: Record[CancelAuthorized], cancels: list[tuple[AccountSession, LiveOrder]]) -> Outs:
        """The write-ahead of a cancel. An order that is done needs none: its end is in the log or on its way."""
        assert record.meta is not None
        account_id, event = str(record.meta.account_id), record.event
        session, order = self._session(account_id), self._book(account_id).orders.get(event.order_id)
        if order is None or session is None or order.cancel_id:
            return []
        cancels.append((session, order))
        now_ns = self._clock()
        until_ns = now_ns + session.venue.capabilities.receive_window_ns
        return session.book.cancel_attempt(order, event.cancel_id, now_ns, until_ns)

    # --- the kill latch -----------------------------------------------------------------------------------------------

    async def _watch_latch(self) -> None:
        """Cancel what is open at the venues when an entry asks for it; works with Kafka away, which is told later."""
        acted: set[LatchEntry] = set()
        while True:
            standing = set(self._latch.entries())
            for entry in standing - acted:
                if entry.cancel_open:
                    self._cancel_in_scope(entry)
            acted = standing
            await asyncio.sleep(LATCH_LOOK_S)

    def _cancel_in_scope(self, entry: LatchEntry) -> None:
        for account_id, session in self._sessions.items():
            if entry.covers(session.tenant_id, account_id):
                logger().warning("kill latch: canceling all open orders", account=account_id, reason=entry.reason)
                session.cancel_everything()

    def _latch_scopes(self) -> dict[tuple[str, ...], float]:
        return {(scope,): 1.0 for scope in (entry.scope for entry in self._latch.entries())} or {("platform",): 0.0}

    def _session_states(self) -> dict[tuple[str, ...], float]:
        ready = sum(session.ready.is_set() for session in tuple(self._sessions.values()))
        return {("ready",): float(ready), ("waiting",): float(len(self._sessions) - ready)}

    # --- accounts -----------------------------------------------------------------------------------------------------

    def _book(self, account_id: str) -> AccountBook:
        return self._books.setdefault(account_id, AccountBook())

    def _session(self, account_id: str) -> AccountSession | None:
        """The account's session, begun on demand; None without a key."""
        found = self._sessions.get(account_id)
        if found is not None:
            return found
        tenant_id = self._tenants.get(account_id, self._settings.tenant)
        try:
            venue = self._connect(account_id, lambda: self._latch.blocks(tenant_id, account_id))
        except InvalidInput as error:
            logger().warning("account without venue", account=account_id, error=str(error))
            return None
        session = AccountSession(
            account_id,
            tenant_id,
            venue,
            self._book(account_id),
            self._log.publish,
            self._clock,
            cancel_external=self._settings.gateway.external_orders == "cancel",
        )
        self._sessions[account_id] = session
        session.start()
        return session
