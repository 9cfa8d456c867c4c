"""Does a strategy's ``on_batch`` give what its handlers give?

::

    def test_on_batch_agrees():
        assert_batches_agree(MyStrategy(MyParameters()), random_market(seed=1))

The strategy runs twice side by side, by the machine that runs live: one record at a time, and in chunks of random length. After each
chunk commands (ids, causes, contents), log lines of handlers aside, and memory must be equal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from decimal import Decimal
from random import Random
from textwrap import shorten
from time import process_time
from typing import Any

from skeet.core.errors import InvalidInput
from skeet.core.market import Bar, BookDelta, BookSnapshot, Quote, Signal, Tick, Trade
from skeet.core.record import Event, Out, Record
from skeet.core.strategy import Strategy
from skeet.core.strategy.machine import InstanceState
from skeet.core.strategy.memory import memory_to_bytes
from skeet.core.values import NS_PER_MS, NS_PER_S, OrderStatus, Side, exact_arithmetic
from skeet.strategies.testing import INSTRUMENT, SCALE, Bench

TOPICS: dict[type[Event], str] = {
    Trade: "market.trades.v1",
    Quote: "market.quotes.v1",
    BookSnapshot: "market.books.v1",
    BookDelta: "market.books.v1",
    Bar: "market.bars.v1",
    Signal: "signals.v1",
    Tick: "clock.v1",
}
LENGTHS = (1, 2, 7, 8, 9, 40, 256)
"""Chunks are up to one of these long: around the shortest that is offered, and as long as they get live."""


class BatchesDisagree(AssertionError):
    """``on_batch`` gives something else than the handlers; the text names the first difference."""


def assert_batches_agree(
    strategy: Strategy[Any],
    events: Sequence[Event],
    *,
    bars: Sequence[Bar] = (),
    seed: int = 0,
    rounds: int = 20,
    **options: Any,
) -> int:
    """Give the strategy the events in chunks of random lengths, ``rounds`` times; returns how many commands it asked for.

    Its orders are accepted, filled, canceled and refused at random places, the same in every round. ``bars`` are for its
    ``on_start``; ``options`` are those of ``Bench`` (instrument, cash, inventory). Equal arguments make an equal test.

    Raises
    ------
    BatchesDisagree
        a command or the memory after a chunk is not what the handlers alone give.
    HandlerFailed
        a handler raised.
    """

    def bench() -> Bench:
        made = Bench(strategy, **options)
        made.start(bars)
        return made

    records = _answered(bench(), events, Random(seed))
    commands = 0
    for number in range(rounds):
        chance = Random(f"{seed}/{number}")
        commands = _compare(bench(), bench(), records, chance, f"round {number} of seed {seed}")
    return commands


def processor_time(strategy: Strategy[Any], events: Sequence[Event], *, rounds: int = 5) -> tuple[float, float]:
    """Processor time in µs that the machine takes for one event: alone, and in chunks of 256; the least of some rounds."""
    alone, together = zip(
        *((_time(strategy, events, 1), _time(strategy, events, 256)) for _ in range(rounds)), strict=True
    )
    return min(alone), min(together)


def _time(strategy: Strategy[Any], events: Sequence[Event], length: int) -> float:
    bench = Bench(strategy)
    bench.start()
    records = [bench.record(event, TOPICS[type(event)]) for event in events]
    machine, state, began = bench.machine, bench.state, process_time()
    with exact_arithmetic():
        if length == 1:
            for record in records:
                machine.step(state, record)
        else:
            for at in range(0, len(records), length):
                machine.step_all(state, records[at : at + length])
    return (process_time() - began) / len(records) * 1e6


def random_market(
    seed: int, count: int = 2_000, *, instrument_id: str = INSTRUMENT.instrument_id, start: Decimal = Decimal(100)
) -> list[Event]:
    """Trades and quotes around a price that wanders, in bursts of one kind, sometimes late; a tick each second."""
    chance, made = Random(seed), list[Event]()
    now_ns, price = 1_700_000_000 * NS_PER_S, int(start.scaleb(SCALE))
    step = max(1, price // 10_000)
    while len(made) < count:
        trades = chance.random() < 0.7
        for _ in range(chance.choice((1, 1, 3, 20, 100))):
            before, now_ns = now_ns, now_ns + chance.randrange(200) * NS_PER_MS // 10
            if before // NS_PER_S != now_ns // NS_PER_S:
                made.append(Tick(ts_event=now_ns))
            price = max(step, price + chance.randint(-1, 1) * step)
            at = now_ns - chance.choice((0, 0, 0, 5)) * NS_PER_MS
            common: dict[str, Any] = {"instrument_id": instrument_id, "ts_event": at, "ts_init": at}
            size = chance.randint(1, 500) * 10 ** (SCALE - 2)
            if trades:
                made.append(_trade(len(made), price, size, chance.choice((Side.BUY, Side.SELL)), common))
            else:
                made.append(_quote(len(made), price - step, price + step, size, common))
    return made[:count]


def _trade(number: int, price: int, size: int, side: Side, common: dict[str, Any]) -> Trade:
    return Trade(
        **common,
        trade_id=str(number),
        price_mantissa=price,
        size_mantissa=size,
        price_scale=SCALE,
        size_scale=SCALE,
        aggressor_side=side,
    )


def _quote(number: int, bid: int, ask: int, size: int, common: dict[str, Any]) -> Quote:
    return Quote(
        **common,
        update_id=number,
        bid_price_mantissa=bid,
        bid_size_mantissa=size,
        ask_price_mantissa=ask,
        ask_size_mantissa=size,
        price_scale=SCALE,
        size_scale=SCALE,
    )


def _answered(bench: Bench, events: Sequence[Event], chance: Random) -> list[Record[Any]]:
    """The events as records, and between them what became of the orders that the handlers ask for."""
    for event in events:
        bench.now_ns = max(bench.now_ns, getattr(event, "ts_event", 0))
        bench.send(event, TOPICS[type(event)])
        if bench.orders and chance.random() < 0.2:
            _answer(bench, chance)
    return bench.given


def _answer(bench: Bench, chance: Random) -> None:
    order = chance.choice(bench.orders)
    priced = order.limit_price is not None or bench.state.quote is not None
    match chance.randrange(4):
        case 0 if order.status is OrderStatus.UNKNOWN:
            bench.accept(order.order_id)
        case 1 if order.status is OrderStatus.UNKNOWN:
            bench.deny("at random", order.order_id)
        case 2:
            bench.canceled(order.order_id)
        case _ if priced:
            bench.fill(order.order_id)


def _compare(alone: Bench, together: Bench, records: Sequence[Record[Any]], chance: Random, where: str) -> int:
    commands = 0
    for chunk in _chunks(records, chance):
        here = f"{where}, {len(chunk)} records from {chunk[0].at} to {chunk[-1].at}"
        with exact_arithmetic():
            expected: list[Out[Any]] = [out for record in chunk for out in alone.machine.step(alone.state, record)[1]]
            _, found = together.machine.step_all(together.state, chunk)
        _same_commands(expected, found, here)
        _same_memory(alone.state, together.state, here)
        commands += len(expected)
    return commands


def _chunks(records: Sequence[Record[Any]], chance: Random) -> Iterator[Sequence[Record[Any]]]:
    at = 0
    while at < len(records):
        length = chance.randint(1, chance.choice(LENGTHS))
        yield records[at : at + length]
        at += length


def _same_commands(expected: Sequence[Out[Any]], found: Sequence[Out[Any]], where: str) -> None:
    for number in range(max(len(expected), len(found))):
        pair = [outs[number] if number < len(outs) else None for outs in (expected, found)]
        if pair[0] != pair[1]:
            raise BatchesDisagree(
                f"{where}: the handlers give {_named(pair[0])}; with on_batch it is {_named(pair[1])}"
            )


def _named(out: Out[Any] | None) -> str:
    return "no command" if out is None or out.meta is None else f"{out.event!r} caused by {out.meta.cause_at}"


def _same_memory(expected: InstanceState, found: InstanceState, where: str) -> None:
    if _memory(expected.user) != _memory(found.user) or expected != found:
        place, first, second = _difference(expected, found, "state")
        raise BatchesDisagree(
            f"{where}: {place} after the handlers is {_short(first)}; with on_batch it is {_short(second)}"
        )


def _memory(user: Any) -> Any:
    """As a checkpoint holds it, where one can: a number of numpy's equals one of Python's, and cannot be written down."""
    try:
        return memory_to_bytes(user)
    except InvalidInput as error:
        return str(error), user


def _difference(first: Any, second: Any, place: str) -> tuple[str, Any, Any]:
    """The innermost field or item that is not the same, found from outside."""
    inner: list[tuple[str, Any, Any]] = []
    if type(first) is type(second):
        if is_dataclass(first):
            names = [each.name for each in fields(first)]
            inner = [(f"{place}.{name}", getattr(first, name), getattr(second, name)) for name in names]
        elif isinstance(first, list | tuple | deque) and len(first) == len(second):
            inner = [(f"{place}[{n}]", *pair) for n, pair in enumerate(zip(first, second, strict=True))]
    for name, one, other in inner:
        if _memory(one) != _memory(other):
            return _difference(one, other, name)
    return place, first, second


def _short(value: Any) -> str:
    return f"{type(value).__name__} {shorten(repr(value), 400)}"
