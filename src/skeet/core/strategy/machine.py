"""The machine that runs one strategy instance: records in, commands with derived ids out.

Commands carry the id of the record that caused them, so that a redelivered record makes the same command again and the
desk drops it. An error in a handler halts the instance: a StrategyHalted event names handler, file and line, its open
orders are canceled, and nothing is handled any more.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal, localcontext
from typing import Any

from skeet.core.accounts import AccountEvent, CommandDenied, OrderDenied, OrderEvent, OrderFilled
from skeet.core.commands import CancelOrder, SubmitOrder
from skeet.core.control import StrategyHalted
from skeet.core.ids import derive_id, strategy_command_id
from skeet.core.market import Bar, BookDelta, BookSnapshot, Quote, Signal, Tick, Trade
from skeet.core.record import MarketEvent, Meta, Out, Record
from skeet.core.strategy.api import Strategy, StrategyContext
from skeet.core.strategy.instrument import TradedInstrument
from skeet.core.strategy.intents import Cancel, Intent, Place
from skeet.core.strategy.orders import BookState
from skeet.core.values import NS_PER_S, AccountId, EventId, PrincipalId, TenantId

COMMANDS_TOPIC = "orders.commands.v1"
CONTROL_TOPIC = "control.events.v1"
VALIDITY_NS = 10 * NS_PER_S
"""A strategy's command is worthless ten seconds after what caused it."""
MAX_INTENTS = 20
"""More commands than this from one event are a bug of the strategy: it is halted before they leave."""
ORDINARY = Context(prec=34)
"""Arithmetic of handlers: rounds like a calculator; exactness matters where money is booked, which is elsewhere."""

LogLine = Callable[[str, dict[str, Any]], None]


class TooManyIntents(Exception):
    """A handler asked for more than :data:`MAX_INTENTS` things at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceIdentity:
    """Which instance this is: on whose account, in which instrument, by which code, and by which start (its epoch)."""

    tenant_id: TenantId
    account_id: AccountId
    instance_id: str
    code_version: str
    instrument: TradedInstrument
    epoch: int = 0


@dataclass(slots=True)
class InstanceState:
    """Everything that changes: the strategy's own state, its book, event time, whether it was halted."""

    user: Any
    book: BookState = field(default_factory=BookState)
    now_ns: int = 0
    quote: Quote | None = None
    halted: bool = False


class StrategyMachine:
    """Steps one strategy instance."""

    def __init__(
        self, strategy: Strategy[Any], identity: InstanceIdentity, log: LogLine = lambda text, values: None
    ) -> None:
        self.strategy = strategy
        self.identity = identity
        self._log = log

    @property
    def version(self) -> str:
        """The SHA-256 of the strategy's sources and parameters."""
        return self.identity.code_version

    def initial(self) -> InstanceState:
        """Flat, no orders, the strategy's initial state."""
        return InstanceState(user=self.strategy.initial())

    def start(
        self, state: InstanceState, bars: Sequence[Bar], started: Record[Any]
    ) -> tuple[InstanceState, tuple[Out[Any], ...]]:
        """Call ``on_start`` with the warm-up bars; ``started`` (the StrategyStarted record) is the cause of its commands."""
        state.now_ns = max(state.now_ns, started.log_ns)
        return state, self._handle(state, started, "on_start", tuple(bars))

    def step(self, state: InstanceState, record: Record[Any]) -> tuple[InstanceState, tuple[Out[Any], ...]]:
        """The commands that this record caused."""
        if state.halted:
            return state, ()
        event = record.event
        if isinstance(event, AccountEvent):
            return state, self._on_account_event(state, record, event)
        if isinstance(event, MarketEvent) and event.instrument_id != self.identity.instrument.instrument_id:
            return state, ()
        state.now_ns = max(state.now_ns, getattr(event, "ts_event", 0))
        match event:
            case Quote():
                state.quote = event
                return state, self._handle(state, record, "on_quote", event)
            case Trade():
                return state, self._handle(state, record, "on_trade", event)
            case BookSnapshot() | BookDelta():
                return state, self._handle(state, record, "on_book", event)
            case Bar():
                return state, self._handle(state, record, "on_bar", event)
            case Signal():
                return state, self._handle(state, record, "on_signal", event)
            case Tick():
                state.book.expire(state.now_ns)
                return state, self._handle(state, record, "on_timer")
            case _:
                return state, ()

    def fold(self, state: InstanceState, record: Record[Any]) -> None:
        """Take an account event in without asking the strategy: what happened before it was started."""
        if record.meta is not None and record.meta.account_id == self.identity.account_id:
            state.book.apply(record.event, self.identity.instance_id, self.identity.instrument.base)

    def _on_account_event(self, state: InstanceState, record: Record[Any], event: AccountEvent) -> tuple[Out[Any], ...]:
        if record.meta is None or record.meta.account_id != self.identity.account_id:
            return ()
        if not state.book.apply(event, self.identity.instance_id, self.identity.instrument.base):
            return ()
        state.now_ns = max(state.now_ns, record.log_ns)
        match event:
            case OrderDenied() | CommandDenied():
                return self._handle(state, record, "on_denial", event)
            case OrderFilled():
                return self._handle(state, record, "on_fill", event)
            case OrderEvent():
                return self._handle(state, record, "on_order_update", event)
        return ()

    def _handle(self, state: InstanceState, record: Record[Any], handler: str, *arguments: Any) -> tuple[Out[Any], ...]:
        context = self._context(state)
        try:
            with localcontext(ORDINARY):
                returned: Iterable[Intent] | None = getattr(self.strategy, handler)(state.user, *arguments, context)
                intents = tuple(returned or ())
                if len(intents) > MAX_INTENTS:
                    raise TooManyIntents(f"{len(intents)} intents from one event; the limit is {MAX_INTENTS}")
                return self._commands(state, record, intents)
        except Exception as error:  # whatever a user's code raises halts that user's instance, never the platform
            return self._halt(state, record, handler, error)

    def _context(self, state: InstanceState) -> StrategyContext:
        instrument, book = self.identity.instrument, state.book
        return StrategyContext(
            position=book.position,
            orders=tuple(book.orders.values()),
            cash=book.free.get(instrument.quote, Decimal(0)),
            inventory=book.free.get(instrument.base, Decimal(0)),
            instrument=instrument,
            now_ns=state.now_ns,
            quote=state.quote,
            log=lambda text, **values: self._log(text, values),
        )

    def _commands(self, state: InstanceState, record: Record[Any], intents: Sequence[Intent]) -> tuple[Out[Any], ...]:
        outs: list[Out[Any]] = []
        legs: dict[str, int] = {}
        for intent in intents:
            leg = legs.get(intent.rule, 0)
            legs[intent.rule] = leg + 1
            command_id = self._command_id(record, intent.rule, leg)
            match intent:
                case Place():
                    submit = self._submit(intent, record)
                    if not submit.quantity:
                        self._log(
                            "order smaller than one step is not sent",
                            {"rule": intent.rule, "quantity": str(intent.quantity)},
                        )
                        continue
                    state.book.asked(command_id, submit)
                    outs.append(self._out(submit, command_id, record))
                case Cancel():
                    state.book.canceling(command_id, intent.order_id)
                    outs.append(self._out(self._cancel(intent, record), command_id, record))
        return tuple(outs)

    def _submit(self, intent: Place, record: Record[Any]) -> SubmitOrder:
        instrument = self.identity.instrument
        price = intent.limit_price
        return SubmitOrder(
            ts_cause=record.log_ns,
            valid_until=record.log_ns + VALIDITY_NS,
            book_id=self.identity.instance_id,
            instrument_id=instrument.instrument_id,
            side=intent.side,
            order_type=intent.order_type,
            time_in_force=intent.time_in_force,
            post_only=intent.post_only,
            quantity=instrument.round_quantity(intent.quantity),
            limit_price=None if price is None else instrument.round_price(price, intent.side),
            code_version=self.identity.code_version,
            rule=intent.rule,
            epoch=self.identity.epoch,
        )

    def _cancel(self, intent: Cancel, record: Record[Any]) -> CancelOrder:
        return CancelOrder(
            ts_cause=record.log_ns,
            valid_until=record.log_ns + VALIDITY_NS,
            order_id=intent.order_id,
            book_id=self.identity.instance_id,
            code_version=self.identity.code_version,
            rule=intent.rule,
            epoch=self.identity.epoch,
        )

    def _command_id(self, record: Record[Any], rule: str, leg: int) -> EventId:
        own = self.identity
        return strategy_command_id(
            own.tenant_id, own.account_id, own.instance_id, own.code_version, cause_id(record), rule, leg
        )

    def _out(self, command: SubmitOrder | CancelOrder, command_id: EventId, record: Record[Any]) -> Out[Any]:
        return Out(
            topic=COMMANDS_TOPIC, key=self.identity.account_id, event=command, meta=self._meta(command_id, record)
        )

    def _meta(self, event_id: EventId, record: Record[Any]) -> Meta:
        event, meta = record.event, record.meta
        ts_event = meta.ts_event if meta else event.ts_event
        return Meta(
            event_id=event_id,
            tenant_id=self.identity.tenant_id,
            account_id=self.identity.account_id,
            principal_id=PrincipalId(f"strategy:{self.identity.instance_id}"),
            correlation_id=cause_id(record),
            causation_id=cause_id(record),
            cause_at=str(record.at),
            ts_event=ts_event,
            ts_init=meta.ts_init if meta else getattr(event, "ts_init", ts_event),
        )

    def _halt(self, state: InstanceState, record: Record[Any], handler: str, error: Exception) -> tuple[Out[Any], ...]:
        state.halted = True
        file, line = _where(error)
        halted = StrategyHalted(
            instance_id=self.identity.instance_id,
            handler=handler,
            file=file,
            line=line,
            error=f"{type(error).__name__}: {error}",
        )
        identity = derive_id("strategy-halted", self.identity.instance_id, cause_id(record), handler)
        withdrawals = tuple(Cancel(order_id=order_id, rule="halt") for order_id in state.book.orders)
        return (
            *self._commands(state, record, withdrawals),
            Out(topic=CONTROL_TOPIC, key=self.identity.instance_id, event=halted, meta=self._meta(identity, record)),
        )


def cause_id(record: Record[Any]) -> EventId:
    """The record's id; for a clock tick, which has none, one made of its place in the log."""
    return derive_id("Tick", str(record.at)) if isinstance(record.event, Tick) else record.event_id


def _where(error: Exception) -> tuple[str, int]:
    """File and line where the error was raised, in the strategy's code if any of it is on the way."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "skeet/core/" not in frame.filename.replace("\\", "/")] or list(frames)
    frame = own[-1]
    return frame.filename, frame.lineno or 0
