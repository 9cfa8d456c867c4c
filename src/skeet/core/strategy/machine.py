"""The machine that runs one strategy instance: records in, commands with derived ids out.

Commands carry the id of the record that caused them, so that a redelivered record makes the same command again and the
desk drops it. An error in a handler, or a flood of commands, halts the instance: a StrategyHalted event names handler, file
and line, its open orders are canceled unless it was started with ``--on-halt leave``, and nothing is handled any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal, localcontext
from itertools import islice
from operator import index
from typing import Any, Protocol

from skeet.core.accounts import AccountEvent, CommandDenied, OrderDenied, OrderEvent, OrderFilled
from skeet.core.commands import CancelOrder, SubmitOrder
from skeet.core.control import StrategyHalted
from skeet.core.ids import derive_id, strategy_command_id
from skeet.core.market import Bar, BookDelta, BookSnapshot, Quote, Signal, Tick, Trade
from skeet.core.record import MarketEvent, Meta, Out, Record
from skeet.core.strategy.api import Strategy, StrategyContext, overrides
from skeet.core.strategy.batches import HANDLERS, MIN_ROWS, Batch, Stretch, stretches
from skeet.core.strategy.instrument import TradedInstrument
from skeet.core.strategy.intents import Cancel, Intent, Place
from skeet.core.strategy.orders import BookState
from skeet.core.strategy.places import place_of
from skeet.core.values import NS_PER_S, AccountId, EventId, PrincipalId, TenantId

COMMANDS_TOPIC = "orders.commands.v1"
CONTROL_TOPIC = "control.events.v1"
VALIDITY_NS = 10 * NS_PER_S
"""A strategy's command is worthless ten seconds after what caused it."""
COMMANDS_PER_EVENT = 20
"""More commands than this from one event are a bug of the strategy: it is halted before they leave."""
COMMANDS_PER_SECOND = 50
"""More than this within one second of the log's time are one too."""
ORDINARY = Context(prec=34)
"""Arithmetic of handlers: rounds like a calculator; exactness matters where money is booked, which is elsewhere."""

LogLine = Callable[[str, dict[str, Any]], None]


class CommandFlood(Exception):
    """A handler asked for more than its instance may, at one event or within one second."""


class HandlerWatch(Protocol):
    """Who is told when the user's code begins and ends, to notice that it does not come back."""

    def begin(self, handler: str) -> None:
        """The handler is about to be called."""
        ...

    def end(self) -> None:
        """It came back, or raised."""
        ...


class _Nobody:
    def begin(self, handler: str) -> None: ...

    def end(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceIdentity:
    """Which instance this is: on whose account, in which instrument, by which code, and by which start (its epoch); and how
    many commands it may ask for.

    ``cancels_on_halt``: whether its open orders are canceled when it halts.
    """

    tenant_id: TenantId
    account_id: AccountId
    instance_id: str
    code_version: str
    instrument: TradedInstrument
    epoch: int = 0
    commands_per_event: int = COMMANDS_PER_EVENT
    commands_per_second: int = COMMANDS_PER_SECOND
    cancels_on_halt: bool = True


@dataclass(slots=True)
class InstanceState:
    """Everything that changes: the strategy's own state, its book, event time, whether it was halted.

    ``commands`` were asked for within ``second``, a whole second of the log's time.
    """

    user: Any
    book: BookState = field(default_factory=BookState)
    now_ns: int = 0
    quote: Quote | None = None
    halted: bool = False
    second: int = 0
    commands: int = 0


class StrategyMachine:
    """Steps one strategy instance."""

    def __init__(
        self,
        strategy: Strategy[Any],
        identity: InstanceIdentity,
        log: LogLine = lambda text, values: None,
        watch: HandlerWatch | None = None,
    ) -> None:
        self.strategy = strategy
        self.identity = identity
        self._log = log
        self._watch = watch or _Nobody()
        self._silent = frozenset(kind for kind, handler in HANDLERS.items() if not overrides(type(strategy), handler))
        self._takes_batches = overrides(type(strategy), "on_batch")

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

    def step_all(
        self, state: InstanceState, records: Sequence[Record[Any]]
    ) -> tuple[InstanceState, tuple[Out[Any], ...]]:
        """The commands that these records caused: those, and the state, that :meth:`step` makes of one after the other.

        What the strategy's ``on_batch`` may take is offered to it; what it leaves goes to the handlers.
        """
        outs: list[Out[Any]] = []
        for stretch in stretches(records, self.identity.instrument.instrument_id, self._silent):
            outs += self._along(state, stretch)
        return state, tuple(outs)

    def _along(self, state: InstanceState, stretch: Stretch) -> Sequence[Out[Any]]:
        outs: list[Out[Any]] = []
        at = row = 0
        if self._takes_batches and len(stretch.rows) >= MIN_ROWS:
            whole = stretch.batch(state.quote, state.now_ns)
            while len(whole) - row >= MIN_ROWS and not state.halted:
                taken, halted = self._offer(state, whole.rest(row), stretch.records[stretch.place(row)])
                if halted:
                    return [*outs, *halted]
                stop = stretch.place(row + taken)
                self._settle(state, stretch.records[at:stop])
                at, row = stop + 1, row + taken + 1
                for record in stretch.records[stop:at]:
                    outs += self.step(state, record)[1]
        for record in stretch.records[at:]:
            outs += self.step(state, record)[1]
        return outs

    def _offer(
        self, state: InstanceState, batch: Batch[MarketEvent], first: Record[Any]
    ) -> tuple[int, tuple[Out[Any], ...]]:
        """How many rows ``on_batch`` took; what its error makes of the instance."""
        context = replace(self._context(state), now_ns=batch.now_ns[0], quote=batch.quotes[0])
        self._watch.begin("on_batch")
        try:
            with localcontext(ORDINARY):
                taken = index(self.strategy.on_batch(state.user, batch, context))
            if not 0 <= taken <= len(batch):
                raise ValueError(f"on_batch says it took {taken} of {len(batch)} rows")
            return taken, ()
        except BaseException as error:  # as in a handler
            return 0, self._halt(state, first, "on_batch", error)
        finally:
            self._watch.end()

    def _settle(self, state: InstanceState, records: Sequence[Record[Any]]) -> None:
        """What records leave behind in the instance when none of their handlers asks for anything."""
        for record in records:
            event = record.event
            state.now_ns = max(state.now_ns, event.ts_event)
            if type(event) is Quote:
                state.quote = event
            self._count(state, record, 0)

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
        self._watch.begin(handler)
        try:
            with localcontext(ORDINARY):
                returned: Iterable[Intent] | None = getattr(self.strategy, handler)(state.user, *arguments, context)
                # A generator may go on for ever: no more is taken from it than shows that it is too much.
                intents = tuple(islice(returned or (), self.identity.commands_per_event + 1))
                self._count(state, record, len(intents))
                return self._commands(state, record, intents)
        except BaseException as error:  # whatever a user's code raises, SystemExit too, halts that user's instance only
            return self._halt(state, record, handler, error)
        finally:
            self._watch.end()

    def _count(self, state: InstanceState, record: Record[Any], asked: int) -> None:
        """Refuse a flood before any of it leaves. Seconds are the log's, so that a replay counts the same."""
        if asked > self.identity.commands_per_event:
            limit = self.identity.commands_per_event
            raise CommandFlood(f"more than {limit} commands from one event (strategy.limits.commands_per_event)")
        second = record.log_ns // NS_PER_S
        if second != state.second:
            state.second, state.commands = second, 0
        state.commands += asked
        if state.commands > self.identity.commands_per_second:
            limit = self.identity.commands_per_second
            raise CommandFlood(f"more than {limit} commands in one second (strategy.limits.commands_per_second)")

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

    def _halt(
        self, state: InstanceState, record: Record[Any], handler: str, error: BaseException
    ) -> tuple[Out[Any], ...]:
        state.halted = True
        file, line = self._flooding(handler) if isinstance(error, CommandFlood) else place_of(error)
        halted = StrategyHalted(
            instance_id=self.identity.instance_id,
            handler=handler,
            file=file,
            line=line,
            error=f"{type(error).__name__}: {error}",
            reason=_reason(error),
        )
        identity = derive_id("strategy-halted", self.identity.instance_id, cause_id(record), handler)
        orders = state.book.orders if self.identity.cancels_on_halt else ()
        withdrawals = tuple(Cancel(order_id=order_id, rule="halt") for order_id in orders)
        return (
            *self._commands(state, record, withdrawals),
            Out(topic=CONTROL_TOPIC, key=self.identity.instance_id, event=halted, meta=self._meta(identity, record)),
        )

    def _flooding(self, handler: str) -> tuple[str, int]:
        """Where the handler begins: the flood is noticed after it returned."""
        code = getattr(getattr(type(self.strategy), handler), "__code__", None)
        return (code.co_filename, code.co_firstlineno) if code is not None else ("", 0)


def cause_id(record: Record[Any]) -> EventId:
    """The record's id; for a clock tick, which has none, one made of its place in the log."""
    return derive_id("Tick", str(record.at)) if isinstance(record.event, Tick) else record.event_id


def _reason(error: BaseException) -> str:
    match error:
        case CommandFlood():
            return "flood"
        case MemoryError():
            return "memory"
        case _:
            return "error"
