"""The table of bad input: every defect on every topic it can stand in, and what becomes of it.

The table in ``docs/bad-input.md`` is rendered from here (``python tests/integration/bad_input_cases.py``), and
``test_bad_input.py`` executes each row on running roles.
"""

from __future__ import annotations

import dataclasses
import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro

from skeet.core import accounts, commands, control, market, reports
from skeet.core.commands import Command
from skeet.core.ids import derive_id
from skeet.core.record import Event, MarketEvent, Meta
from skeet.core.values import NS_PER_S, AccountId, EventId, LiquiditySide, OrderType, PrincipalId, Side, TenantId
from skeet.schemas.avro import is_lean
from skeet.schemas.catalogue import committed_schema
from skeet.schemas.codec import HEADER, MAGIC, Codec
from skeet.schemas.golden import sample
from skeet.streams.topics import (
    ACCOUNT_EVENTS,
    CLOCK,
    COMMANDS,
    CONTROL,
    INSTRUMENTS,
    MARKET_BARS,
    MARKET_BOOKS,
    MARKET_QUOTES,
    MARKET_REFERENCE,
    MARKET_STATUS,
    MARKET_TRADES,
    REPORTS,
    SIGNALS,
    Topic,
)

DAY_NS = 86_400 * NS_PER_S
UNKNOWN_ID = 987_654
SYMBOL = "SIM:BTC/USDT"
"""What orders are about."""
OTHER_SYMBOL = "SIM:ETH/USDT"
"""What the market records are about, so that none of them moves the price that orders are judged by."""


@dataclass(slots=True)
class Bench:
    """What builders of records need: the codec, ids of schemas registered for the test, the account of the case, the time."""

    codec: Codec
    schema_ids: dict[str, int]
    account: str
    now_ns: int

    def meta(self, **changes: Any) -> Meta:
        identity = EventId(derive_id("bad-input", self.account, self.now_ns))
        made = Meta(
            event_id=identity, tenant_id=TenantId("main"), account_id=AccountId(self.account),
            principal_id=PrincipalId("test"), correlation_id=identity, causation_id=identity, cause_at="",
            ts_event=self.now_ns, ts_init=self.now_ns,
        )  # fmt: skip
        return dataclasses.replace(made, **changes)

    def record(self, event: Event, **changes: Any) -> bytes:
        return self.codec.encode(event, None if is_lean(type(event)) else self.meta(**changes))

    def event(self, topic: Topic) -> Event:
        """A sound record of the topic."""
        match topic.name:
            case COMMANDS.name:
                return self.order()
            case REPORTS.name:
                return reports.BalanceReported(asset="USDT", free=Decimal(1), locked=Decimal(0))
            case CONTROL.name:
                return control.SessionMark(label="test")
            case ACCOUNT_EVENTS.name:
                return accounts.DuplicateIgnored(duplicate_of="x", input="test")
            case CLOCK.name:
                return market.Tick(ts_event=self.now_ns)
            case _:
                kind = topic.events[0]
                assert issubclass(kind, MarketEvent)
                made: Any = sample(kind)
                changes = {"instrument_id": OTHER_SYMBOL, "ts_event": self.now_ns, "ts_init": self.now_ns}
                changes |= {name: 2 for name in ("price_scale", "size_scale") if hasattr(made, name)}
                event: Event = dataclasses.replace(made, **changes)
                return event

    def order(self, **changes: Any) -> commands.SubmitOrder:
        times = {"ts_cause": self.now_ns, "valid_until": self.now_ns + 60 * NS_PER_S}
        terms: dict[str, Any] = {
            "book_id": "manual", "instrument_id": SYMBOL, "side": Side.BUY, "order_type": OrderType.LIMIT,
            "time_in_force": "GTC", "post_only": False, "quantity": Decimal("0.1"), "limit_price": Decimal(99),
            "code_version": "", "rule": "test",
        }  # fmt: skip
        return commands.SubmitOrder(**(times | terms | changes))

    def command(self, make: Callable[..., Command], **fields: Any) -> Command:
        return make(ts_cause=self.now_ns, valid_until=self.now_ns + 60 * NS_PER_S, **fields)

    def written_as(self, registered: str, schema: dict[str, Any], values: dict[str, Any]) -> bytes:
        """A record written with another schema than ours, under the id it was registered with."""
        body = io.BytesIO()
        fastavro.schemaless_writer(body, fastavro.parse_schema(schema), values)
        return HEADER.pack(MAGIC, self.schema_ids[registered]) + body.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Sent:
    """What a case produces. ``key`` None: the account's or the instrument's; ``partition`` None: where the key belongs."""

    value: bytes | None
    key: bytes | None = None
    wrong_partition: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row. ``letters`` are the roles that write a dead letter; ``halts`` whether its account is halted by it;
    ``becomes`` the account events that it causes, ``says`` words of their reasons or of the letter's cause."""

    topic: Topic
    defect: str
    make: Callable[[Bench], Sent]
    letters: tuple[str, ...] = ()
    halts: bool = False
    becomes: tuple[str, ...] = ()
    says: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.topic.name}: {self.defect}"

    @property
    def outcome(self) -> str:
        parts = []
        if self.letters:
            parts.append(f"dead letter by {' and '.join(self.letters)}")
        if self.halts:
            parts.append("its account halted, the partition goes on")
        if self.becomes:
            parts.append(" and ".join(f"`{event}`" for event in self.becomes))
        text = "; ".join(parts) or "read as any other record"
        return text + (f" ({', '.join(self.says)})" if self.says else "")


HISTORY = "projection-clickhouse"
READERS: dict[str, tuple[str, ...]] = {
    COMMANDS.name: ("desk", HISTORY),
    REPORTS.name: ("desk", HISTORY),
    CONTROL.name: ("desk", HISTORY),
    ACCOUNT_EVENTS.name: ("gateway", HISTORY),
    MARKET_TRADES.name: ("worker", HISTORY),
    MARKET_QUOTES.name: ("worker", HISTORY),
    MARKET_STATUS.name: ("worker", HISTORY),
    MARKET_BARS.name: ("worker", HISTORY),
    MARKET_BOOKS.name: (HISTORY,),
    SIGNALS.name: (HISTORY,),
    INSTRUMENTS.name: ("desk", HISTORY),
    MARKET_REFERENCE.name: ("desk",),
    CLOCK.name: ("desk", "worker"),
}
"""Who writes the dead letter of bytes that cannot be read; what can be read and does not belong, only the first of them that
is no history: history keeps every record as it is."""
TOPICS = (
    COMMANDS, REPORTS, CONTROL, ACCOUNT_EVENTS, MARKET_TRADES, MARKET_QUOTES, MARKET_STATUS, MARKET_BARS, MARKET_BOOKS,
    SIGNALS, INSTRUMENTS, MARKET_REFERENCE, CLOCK,
)  # fmt: skip
HALTING = frozenset({COMMANDS.name, REPORTS.name})


def byte_defects(topic: Topic) -> Iterator[tuple[str, Callable[[Bench], bytes | None], str]]:
    """Defect, its bytes, and a word of the cause."""
    yield "random bytes", lambda _: b"\x07" + random.Random(topic.name).randbytes(63), "first byte"
    yield "an empty value", lambda _: b"", "0 bytes"
    yield "a tombstone", lambda _: None, "0 bytes"
    yield "a wrong magic byte", lambda b: b"\x01" + b.record(b.event(topic))[1:], "first byte"
    yield "a schema id nobody registered", lambda b: HEADER.pack(MAGIC, UNKNOWN_ID) + b"\x02", "not in the registry"
    yield "a schema id beyond all numbers", lambda b: HEADER.pack(MAGIC, 2**32 - 1) + b"\x02", "schema id"
    yield "cut off in the middle", lambda b: b.record(b.event(topic))[:-2], ""
    yield "bytes behind its end", lambda b: b.record(b.event(topic)) + b"!", "left over"
    yield "900 kB of noise", lambda _: b"\x07" + random.Random(7).randbytes(900_000), "first byte"
    yield "a record of another topic", lambda b: b.record(_foreign(b, topic)), "does not belong"
    yield "a schema of no event of ours", lambda b: b.written_as("other", OTHER_SCHEMA, {"n": 1}), "no event of SKEET"
    if topic not in STANDING_STILL:
        yield "an event of a newer version", lambda b: b.written_as("later", LATER_SCHEMA, {"n": 1}), "does not know"
    if topic is not CLOCK:
        yield "a length field of 2^62", lambda b: b.record(b.event(topic))[: HEADER.size] + HUGE_LENGTH, ""


HUGE_LENGTH = b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f"
OTHER_SCHEMA = {
    "type": "record",
    "name": "Thing",
    "namespace": "com.example",
    "fields": [{"name": "n", "type": "long"}],
}


LATER_SCHEMA = OTHER_SCHEMA | {"name": "AddedLater", "namespace": "skeet.commands"}
STANDING_STILL = (CONTROL, ACCOUNT_EVENTS)
"""A newer version's control event denies all orders (tests/core/test_controls.py), a newer account event stops its readers."""


def _foreign(bench: Bench, topic: Topic) -> Event:
    if topic is COMMANDS:  # whoever may command must never be able to forge a fill
        return fill(bench)
    return bench.order() if topic is not CLOCK else control.SessionMark(label="no tick")


def fill(bench: Bench, **changes: Any) -> reports.FillReported:
    fields: dict[str, Any] = {
        "order_id": "1" * 32, "client_order_id": "1" * 32, "instrument_id": SYMBOL, "venue_order_id": "1", "trade_id": "9",
        "side": Side.BUY, "quantity": Decimal(1), "price": Decimal(99), "fee": Decimal(0), "fee_asset": "USDT",
        "liquidity": LiquiditySide.TAKER,
    }  # fmt: skip
    return reports.FillReported(**(fields | changes))


def newer(topic: Topic, bench: Bench) -> tuple[dict[str, Any], str]:
    """The schema of the topic's sound record with a field more, and the record's full name."""
    event = bench.event(topic)
    schema = committed_schema(type(event))
    added = {"name": "added_later", "type": "string", "default": ""}
    return schema | {"fields": [*schema["fields"], added]}, type(event).__name__


def _newer_record(topic: Topic) -> Callable[[Bench], Sent]:
    def make(bench: Bench) -> Sent:
        schema, name = newer(topic, bench)
        values = bench.codec.decode_values(bench.record(bench.event(topic)))[1]
        return Sent(value=bench.written_as(f"newer {name}", schema, values | {"added_later": "new"}))

    return make


def _bytes(make: Callable[[Bench], bytes | None]) -> Callable[[Bench], Sent]:
    return lambda bench: Sent(value=make(bench))


def generic_cases() -> Iterator[Case]:
    """What can be wrong with a record of any topic."""
    for topic in TOPICS:
        for defect, make, word in byte_defects(topic):
            yield Case(
                topic=topic, defect=defect, make=_bytes(make), letters=READERS[topic.name],
                halts=topic.name in HALTING, becomes=("AccountHalted",) if topic.name in HALTING else (),
                says=(word,) if word else (),
            )  # fmt: skip
        if topic is not ACCOUNT_EVENTS:  # a newer account event would be a second one of its number
            yield Case(
                topic=topic, defect="a newer version's field", make=_newer_record(topic),
                becomes={COMMANDS: ("OrderAuthorized",), REPORTS: ("BalanceDiffered",)}.get(topic, ()),
            )  # fmt: skip
        if topic in KEYED:
            placed = tuple(role for role in READERS[topic.name] if role != HISTORY)
            yield Case(
                topic=topic, defect="another's key", letters=placed, says=("the key is",) if placed else (),
                make=lambda b, topic=topic: Sent(value=b.record(b.event(topic)), key=b"somebody-else"),  # type: ignore[misc]
            )  # fmt: skip
            yield Case(
                topic=topic, defect="another's partition", letters=placed, says=("belongs to",) if placed else (),
                make=lambda b, topic=topic: Sent(value=b.record(b.event(topic)), wrong_partition=True),  # type: ignore[misc]
            )  # fmt: skip


# Of account events, that the desk alone writes, verify shows a misplaced one (I1).
KEYED = (COMMANDS, REPORTS, MARKET_TRADES, MARKET_QUOTES, MARKET_STATUS, MARKET_BARS, INSTRUMENTS)


def refused(defect: str, says: str, /, make: Callable[[Bench], Event] | None = None, **terms: Any) -> Case:
    """A command that the account refuses. Without ``make`` it is an order of these terms."""
    becomes = "OrderDenied" if make is None else "CommandDenied"
    return Case(
        topic=COMMANDS, defect=defect, becomes=(becomes,), says=(says,),
        make=lambda b: Sent(value=b.record(make(b) if make else b.order(**terms))),
    )  # fmt: skip


def command_cases() -> Iterator[Case]:
    """Commands that can be read: refused with all reasons, or poison when not even their envelope is sound."""
    yield refused("an unknown instrument", "the instrument is not known", instrument_id="SIM:NO/SUCH")
    yield refused("a negative quantity", "quantity is not positive", quantity=Decimal(-1))
    yield refused("a quantity of nothing", "quantity is not positive", quantity=Decimal(0))
    yield refused("an over-precise quantity", "no multiple of the step", quantity=Decimal("0.000000000000000001"))
    yield refused("a huge quantity", "at most 10^18", quantity=Decimal("99999999999999999999"))
    yield refused("a huge price", "at most 10^18", limit_price=Decimal("99999999999999999999"))
    yield refused("a label with a NUL", "control characters", rule="a\0b")
    yield refused("a text of 800 kB", "expected at most 500", rule="x" * 800_000)
    yield Case(
        topic=COMMANDS, defect="a side of a newer version", make=_newer_side, becomes=("OrderDenied",),
        says=("side is not known",),
    )  # fmt: skip
    yield refused("a cancel of an unknown order", "no such order", lambda b: b.command(
        commands.CancelOrder, order_id="0" * 32, book_id="manual", code_version="", rule="test"))  # fmt: skip
    yield refused("a cancel of 900 kB", "expected at most 500", lambda b: b.command(
        commands.CancelOrder, order_id="0" * 890_000, book_id="manual", code_version="", rule="test"))  # fmt: skip
    yield refused("a deposit of a negative amount", "a positive amount", lambda b: _deposit(b, "-5"))
    yield Case(
        topic=COMMANDS, defect="the largest deposit that may be", becomes=("FundsDeposited",),
        make=lambda b: Sent(value=b.record(_deposit(b, "1e18"))),
    )  # fmt: skip
    yield refused("a deposit larger than any amount", "at most 10^18", lambda b: _deposit(b, "9e19"))
    yield refused(
        "a deposit under a reference of 900 kB", "expected at most 500", lambda b: _deposit(b, "1", "r" * 890_000)
    )
    yield refused("a command from last year", "the command has expired", lambda b: commands.Deposit(
        ts_cause=b.now_ns - 365 * DAY_NS, valid_until=b.now_ns - 365 * DAY_NS + NS_PER_S, asset="USDT",
        amount=Decimal(1), external_ref="late"))  # fmt: skip
    yield refused("a command from the future", "the cause lies in the future", lambda b: commands.Deposit(
        ts_cause=b.now_ns + DAY_NS, valid_until=b.now_ns + DAY_NS + NS_PER_S, asset="USDT", amount=Decimal(1),
        external_ref="early"))  # fmt: skip
    yield refused("times before 1970", "since 1970", lambda b: commands.Deposit(
        ts_cause=-(2**63), valid_until=-(2**63), asset="USDT", amount=Decimal(1), external_ref="ancient"))  # fmt: skip
    yield refused("an open account opened again", "already open", lambda b: b.command(
        commands.OpenAccount, venue="sim", label="again"))  # fmt: skip
    yield Case(
        topic=COMMANDS, defect="another tenant's account", becomes=("OrderDenied",), says=("the account is not open",),
        make=lambda b: Sent(value=b.record(b.order(), tenant_id=TenantId("mallory"))),
    )  # fmt: skip
    yield Case(
        topic=COMMANDS, defect="an id of 1,000 characters", letters=("desk",), halts=True, becomes=("AccountHalted",),
        says=("event_id has 1000 characters",), make=lambda b: Sent(value=b.record(b.order(), event_id=EventId("e" * 1000))),
    )  # fmt: skip
    yield Case(
        topic=COMMANDS, defect="a decimal of 800 kB", letters=("desk", HISTORY), halts=True, becomes=("AccountHalted",),
        says=("38 digits",), make=lambda b: Sent(value=_huge_decimal(b)),
    )  # fmt: skip


def other_cases() -> Iterator[Case]:
    """Reports, control events, ticks and market records that can be read and say what cannot be."""
    yield Case(
        topic=REPORTS, defect="a fill of an unknown order", becomes=("ReportIgnored",), says=("is not known",),
        make=lambda b: Sent(value=b.record(fill(b))),
    )  # fmt: skip
    for defect, word, changes in (
        ("a huge fill", "at most 10^18", {"quantity": Decimal("9e19")}),
        ("a trade id with a NUL", "control characters", {"trade_id": "\0"}),
        ("a trade id of 900 kB", "expected at most 500", {"trade_id": "9" * 890_000}),
    ):
        yield Case(
            topic=REPORTS, defect=defect, letters=("desk",), halts=True, becomes=("AccountHalted",), says=(word,),
            make=lambda b, changes=changes: Sent(value=b.record(fill(b, **changes))),  # type: ignore[misc]
        )  # fmt: skip
    for defect, word, event in (
        ("a reason with a NUL", "control characters", control.KillSwitchSet(
            scope="tenant:nobody", active=True, cancel_open=False, reason="a\0b")),
        ("a reason of 900 kB", "expected at most 500", control.KillSwitchSet(
            scope="tenant:nobody", active=True, cancel_open=False, reason="r" * 890_000)),
        ("a huge limit", "at most 10^18", control.LimitsSet(
            scope="tenant:nobody", version=1, max_quantity=Decimal("9e19"), max_notional=None)),
        ("parameters that are no JSON", "a JSON object", _started("{")),
        ("parameters with a NUL", "a JSON object", _started('{"a": "\\u0000"}')),
        ("parameters with NaN", "NaN is no JSON number", _started('{"a": NaN}')),
        ("parameters nested 5,000 deep", "parameters are", _started("[" * 5_000 + "]" * 5_000)),
    ):  # fmt: skip
        yield Case(
            topic=CONTROL, defect=defect, letters=("desk",), says=(word,),
            make=lambda b, event=event: Sent(value=b.record(event)),  # type: ignore[misc]
        )  # fmt: skip
    yield Case(
        topic=CLOCK, defect="a tick of the year 2200", letters=("desk", "worker"), says=("before 2100",),
        make=lambda b: Sent(value=b.record(market.Tick(ts_event=7_258_118_400 * NS_PER_S))),
    )  # fmt: skip
    for topic in (MARKET_TRADES, MARKET_QUOTES, MARKET_BARS):
        yield Case(
            topic=topic, defect="a scale of 200", letters=READERS[topic.name], says=("200",),
            make=lambda b, topic=topic: Sent(value=b.record(_scaled(b.event(topic)))),  # type: ignore[misc]
        )  # fmt: skip


def _scaled(event: Event) -> Event:
    changed: Any = dataclasses.replace(event, price_scale=200)  # type: ignore[call-arg]
    return changed  # type: ignore[no-any-return]


def _started(parameters: str) -> control.StrategyStarted:
    return control.StrategyStarted(
        instance_id="bad", strategy="no_such:Strategy", instrument_id=SYMBOL, parameters=parameters, code_version=""
    )


def _deposit(bench: Bench, amount: str, reference: str = "") -> Command:
    reference = reference or f"{bench.account} {amount}"
    asset = "HUGE" if amount == "1e18" else "USDT"
    value = Decimal("999999999999999999.5") if amount == "1e18" else Decimal(amount)
    return bench.command(commands.Deposit, asset=asset, amount=value, external_ref=reference)


def newer_side_schema() -> dict[str, Any]:
    text = json.dumps(committed_schema(commands.SubmitOrder)).replace('"SELL"', '"SELL", "SHORT"')
    schema: dict[str, Any] = json.loads(text)
    return schema


def _newer_side(bench: Bench) -> Sent:
    values = bench.codec.decode_values(bench.record(bench.order()))[1]
    return Sent(value=bench.written_as("newer side", newer_side_schema(), values | {"side": "SHORT"}))


def _huge_decimal(bench: Bench) -> bytes:
    amount = Decimal("0.123456789012345678")
    record = bench.record(bench.order(quantity=amount))
    unscaled = 123456789012345678
    body = unscaled.to_bytes((unscaled.bit_length() + 8) // 8, "big")
    found = bytes([2 * len(body)]) + body
    assert record.count(found) == 1
    length = io.BytesIO()
    fastavro.schemaless_writer(length, "long", 800_000)
    return record.replace(found, length.getvalue() + b"\x7f" * 800_000)


def cases() -> list[Case]:
    """Every row of the table."""
    return [*generic_cases(), *command_cases(), *other_cases()]


DOCUMENT = Path(__file__).parents[2] / "docs" / "bad-input.md"
BEGIN, END = "<!-- table: written by tests/integration/bad_input_cases.py -->\n", "<!-- end of table -->\n"


def rendered() -> str:
    """The table as Markdown: one row per topic and outcome, with the defects that have it."""
    rows: dict[tuple[str, str], list[str]] = {}
    for case in cases():
        quiet = dataclasses.replace(case, says=()) if not case.becomes or case.halts else case
        rows.setdefault((case.topic.name, quiet.outcome), []).append(case.defect)
    lines = [f"| `{topic}` | {'; '.join(defects)} | {outcome} |\n" for (topic, outcome), defects in rows.items()]
    return "".join(["| topic | what is wrong | what becomes of it |\n|---|---|---|\n", *lines])


def with_table(text: str, table: str) -> str:
    """The document with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table + END + rest.partition(END)[2]


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text(), rendered()))
