"""What is fuzzed: each decoder of bytes that others write. Only our typed error may leave it, and memory stays bounded.

``make fuzz SECONDS=60`` gives each target that long; ``make test`` runs some examples of each.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import itertools
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import fastavro
import orjson
from hypothesis import strategies as st

from skeet.agents.desk_snapshots import state_of, versions_of
from skeet.agents.kill_latch import read_latch
from skeet.config import KafkaSettings
from skeet.core.account import decide, stamp
from skeet.core.account_snapshot import state_bytes
from skeet.core.account_state import AccountState, evolve
from skeet.core.accounts import AccountOpened
from skeet.core.admission import flaws
from skeet.core.commands import Command
from skeet.core.control import AccountSnapshot
from skeet.core.controls import Control, Limits
from skeet.core.errors import SkeetError
from skeet.core.market import InstrumentDefined, Reference, ReferenceStatus, Signal
from skeet.core.record import Event, Meta, Record, TopicPosition
from skeet.core.risk import Context, RiskRules, SeenReference
from skeet.core.values import (
    NS_PER_S,
    AccountId,
    EventId,
    InstrumentId,
    OrderType,
    Side,
    TenantId,
    TimeInForce,
    exact_arithmetic,
)
from skeet.local import clickhouse_protocol, registry_state
from skeet.projections.blocks import Block, Mark
from skeet.projections.history_rows import inserts_of
from skeet.projections.records import StoredRecord
from skeet.schemas.avro import is_lean
from skeet.schemas.catalogue import COMMANDS, CONTROL, EVENTS, REPORTS, committed_schema
from skeet.schemas.codec import HEADER, MAGIC, Codec, numbered_codec
from skeet.schemas.columns.decoding import ColumnDecoder
from skeet.schemas.golden import sample
from skeet.streams.door import Door, RawRecord, account_of, dead_letter
from skeet.streams.topics import TOPICS, Topic
from skeet.streams.transactional import MAX_WRITTEN_BYTES, encode
from skeet.venues.binance.capture import read_capture, stream_counts
from skeet.venues.binance.normaliser import Normaliser
from skeet.venues.execution.binance_rows import reports_of
from skeet.venues.sim.behaviour import Behaviour
from skeet.venues.sim.exchange import Exchange
from skeet.venues.sim.market_streams import MarketStreams, Subscriber
from skeet.venues.sim.parameters import Parameters
from skeet.venues.sim.private_api import ROUTES, read_order
from skeet.venues.sim.public_api import ROUTES as PUBLIC_ROUTES

CODEC = numbered_codec()
KAFKA = KafkaSettings()
NOW = 1_760_000_000 * NS_PER_S
META: Meta = dataclasses.replace(
    sample(Meta), account_id=AccountId("alice"), tenant_id=TenantId("main"), stream_version=0
)
HOSTILE = st.one_of(
    st.text(max_size=40), st.sampled_from(["", "\0", "\x1b[2J", "~0", "x" * 5_000, "\ud7ff", "ﬀ", "²", "-0", "1e999"])
)
AMOUNTS = st.one_of(
    st.decimals(allow_nan=True, allow_infinity=True),
    st.decimals(min_value=-Decimal("1e20"), max_value=Decimal("1e20"), places=18),
    st.sampled_from([Decimal(n) for n in ("0", "-1", "0.1", "100", "1e-18", "1e18", "99999999999999999999", "1e-30")]),
)
LONGS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, 1, NOW, NOW + NS_PER_S, -1, 2**63 - 1]))


@dataclass(frozen=True, slots=True)
class Target:
    """A decoder: what it is given, and how; ``run`` raises whatever escapes."""

    name: str
    given: st.SearchStrategy[Any]
    run: Callable[[Any], object]


@st.composite
def mutated(draw: st.DrawFn, seeds: st.SearchStrategy[bytes]) -> bytes:
    """A sound one with some bytes changed, cut, repeated, or something put in between."""
    content = bytearray(draw(seeds))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.integers(0, 4)):
            case 0 if content:
                content[at] = draw(st.integers(0, 255))
            case 1:
                del content[at : at + draw(st.integers(1, 8))]
            case 2:
                content[at:at] = draw(st.binary(max_size=12))
            case 3:
                content[at:at] = content[at : at + draw(st.integers(1, 30))]
            case _:
                content[at:at] = draw(st.sampled_from([HUGE, b"\xff" * 9 + b"\x01", b"\0", b"9" * 30, b"[" * 50]))
    return bytes(content)


HUGE = b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f"
"""2^62 as Avro writes it."""


# --- records of the log -----------------------------------------------------------------------------------------------


def sound(event: Event) -> bytes:
    return CODEC.encode(event, None if is_lean(type(event)) else META)


RECORDS = st.one_of(
    st.binary(max_size=300), mutated(st.sampled_from([sound(sample(event_class)) for event_class in EVENTS]))
)


def run_codec(content: bytes) -> None:
    event, meta = CODEC.decode(content)
    flaws(event, meta)
    CODEC.decode_values(content)


@lru_cache
def signal_decoder() -> ColumnDecoder:
    return ColumnDecoder(CODEC, Signal)


SIGNALS = st.lists(st.one_of(mutated(st.just(sound(sample(Signal)))), RECORDS), max_size=6)


def run_columns(records: list[bytes]) -> None:
    columns = signal_decoder().decode_records(records)
    rows = {int(record): row for row, record in enumerate(columns.index)}
    for number, record in enumerate(records):
        try:
            event_class, values = CODEC.decode_values(record)
        except SkeetError:
            event_class, values = Event, {}
        assert (number in rows) is (event_class is Signal), "a row for each record that is a signal, and no other"
        if event_class is Signal:
            assert repr(columns.values(rows[number])) == repr(values)


def run_foreign_schema(given: tuple[bytes, bytes]) -> None:
    schema_text, body = given
    try:
        schema = json.loads(schema_text)
    except (ValueError, RecursionError):
        return  # the registry's protocol is a target of its own
    if isinstance(schema, dict):
        Codec({event: number for number, event in enumerate(EVENTS, 1)}, lambda _: schema).decode(
            HEADER.pack(MAGIC, 9_999) + body
        )


SCHEMAS = mutated(st.sampled_from([json.dumps(committed_schema(event)).encode() for event in EVENTS]))


def run_door(given: tuple[Topic, bytes, bytes, int]) -> None:
    topic, key, value, partition = given
    raw = RawRecord(at=TopicPosition(topic.name, partition, 7), key=key, value=value, log_ns=NOW)
    letter = encode(CODEC, dead_letter("fuzz", raw, "x" * 100_000 + "\0"))
    assert len(letter.value) < MAX_WRITTEN_BYTES
    try:
        Door(KAFKA, CODEC).record(raw)
    except Exception as error:
        account_of(raw, error, KAFKA.account_partitions)
        raise


def run_history(given: tuple[Topic, bytes]) -> None:
    topic, value = given
    record = StoredRecord(offset=3, log_ms=NOW // 1_000_000, key=b"k", value=value)
    block = Block.of(topic.name, 0, [record])
    inserts, unreadable = inserts_of(block, CODEC)
    assert sum(insert.rows.num_rows for insert in inserts) == 1, "every record is a row, of its table or unreadable"
    assert len(unreadable) <= 1


HISTORY = [topic for topic in TOPICS if topic.history]


# --- decisions: what a record that can be read may say ----------------------------------------------------------------


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Wild values of a field's type."""
    named = {
        int: LONGS, str: HOSTILE, bool: st.booleans(), Decimal: AMOUNTS, Side: st.sampled_from(Side),
        OrderType: st.sampled_from(OrderType), TimeInForce: st.sampled_from(TimeInForce),
    }  # fmt: skip
    return named[kind] if kind in named else st.one_of(st.none(), AMOUNTS)


@st.composite
def asked(draw: st.DrawFn) -> tuple[Event, Meta]:
    """A command, report or control event in which some fields are wild, the others those of a sound one."""
    event: Any = sample(draw(st.sampled_from((*COMMANDS, *REPORTS, *CONTROL))))
    changes: dict[str, Any] = {"ts_cause": NOW, "valid_until": NOW + NS_PER_S, "instrument_id": "SIM:BTC/USDT"}
    fields = {field.name: type(getattr(event, field.name)) for field in dataclasses.fields(event)}
    for name in draw(st.sets(st.sampled_from(sorted(fields)), max_size=4)):
        changes[name] = draw(values_of(fields[name]))
    event = dataclasses.replace(event, **{name: value for name, value in changes.items() if name in fields})
    return event, dataclasses.replace(META, event_id=EventId(draw(st.one_of(HOSTILE, st.just("e" * 32)))))


def run_decide(given: tuple[Event, Meta]) -> None:
    """Whatever can be read: events of it can be written, folded, and read again; or it is refused before."""
    event, meta = given
    topic = next(topic for topic in TOPICS if type(event) in topic.events)
    key = meta.account_id.encode() if topic.key == "account_id" else b"platform"
    value = CODEC.encode(event, meta)
    # Read again, as the desk gets it; a command's own fields are for the account to refuse.
    door = Door(KafkaSettings(account_partitions=1), CODEC)
    record = door.record(RawRecord(at=TopicPosition(topic.name, 0, 7), key=key, value=value, log_ns=NOW))
    if topic.key == "account_id":
        _decided(record, meta)


def _decided(record: Record[Any], meta: Meta) -> None:
    state = AccountState(account_id="alice")
    with exact_arithmetic():
        evolve(state, AccountOpened(venue="sim", label=""), dataclasses.replace(meta, stream_version=1, ts_event=NOW))
        try:
            decided = decide(state, record, CONTEXT)
            written = [
                (made, envelope, CODEC.encode(made, envelope))
                for made, envelope in zip(decided, stamp(state, record, NOW, decided), strict=True)
            ]
        except SkeetError as error:
            if isinstance(record.event, Command):
                raise AssertionError(f"a command that can be read is refused by an event, not by {error!r}") from error
            raise
        for made, envelope, content in written:
            assert len(content) < MAX_WRITTEN_BYTES
            assert CODEC.decode(content) == (made, envelope)
            evolve(state, made, envelope)
    state_bytes(state)


def _context() -> Context:
    defined: Any = sample(InstrumentDefined)
    reference: Any = sample(Reference)
    prices = {"bid_mantissa": 10_000, "ask_mantissa": 10_001, "price_scale": 2, "status": ReferenceStatus.LIVE}
    step = {"tick_size": Decimal(0), "step_size": Decimal(0), "max_quantity": Decimal(0), "max_notional": Decimal(0)}
    return Context(
        now_ns=NOW,
        control=Control(),
        rules=RiskRules(
            limits=Limits(max_quantity=Decimal("1e30"), max_notional=Decimal("1e30"), version=0),
            reference_max_age_ns=NS_PER_S,
            collar_bps=200,
        ),
        instrument=dataclasses.replace(defined, active=True, taker_fee=Decimal("0.001"), **step),
        reference=SeenReference(reference=dataclasses.replace(reference, ts_event=NOW, **prices), at="", log_ns=NOW),
    )


CONTEXT = _context()


def run_snapshot(given: tuple[bytes, bool, bool]) -> None:
    content, compressed, hashed = given
    state = zlib.compress(content) if compressed else content
    snapshot = AccountSnapshot(
        partition=0, next_offset=1, code_version="", state=state,
        state_hash=sha256(content).hexdigest() if hashed else "",
    )  # fmt: skip
    for read in (versions_of, lambda each: state_of(each, "alice")):
        try:
            read(snapshot)
        except Exception as error:
            failed: Exception = error
        else:
            return
    raise failed


STATES = [
    state_bytes(AccountState(account_id="alice", external_refs={"a": "1 USDT"}, command_ids={"c": 5})),
    b'{"alice": 5}',
    b'{"account_id":"alice","balances":{"USDT":{"free":"1","reserved":"0"}},"orders":{},"closed":{}}',
]


# --- protocols --------------------------------------------------------------------------------------------------------


def run_registry(given: tuple[str, bytes, bytes, str]) -> None:
    subject, first, second, number = given
    state = registry_state.RegistryState()
    state.apply(state.plan_schema(subject, first.decode(errors="replace")))
    state.incompatibilities(subject, second.decode(errors="replace"))
    state.version(subject, number)
    state.plan_config(subject, number)


def run_clickhouse(given: tuple[dict[str, str], bytes, str]) -> None:
    parameters, body, encoding = given
    clickhouse_protocol.negotiated(encoding)
    plain = clickhouse_protocol.decoded(body, encoding)
    statement = clickhouse_protocol.statement_of(parameters, plain)
    _ = statement.is_read
    clickhouse_protocol.killing(statement.sql)
    clickhouse_protocol.set_statement(statement.settings)


SQL = [
    b"SELECT 1 FORMAT JSON", b"/* a */ -- b\n INSERT INTO t FORMAT Native\nxx", b"KILL QUERY WHERE query_id = 'a\\'b'",
    b"/**/" * 40 + b"SELECT", b"INSERT INTO t VALUES (1)",
]  # fmt: skip


@lru_cache
def frames() -> list[bytes]:
    """Frames of recorded sessions where they are, and one of each kind where not."""
    folder = Path(os.environ.get("SKEET_SHARED_DATA", "/nonexistent")) / "captures"
    recorded = [path for path in sorted(folder.rglob("*")) if path.is_file() and "binance" in str(path).lower()]
    found = [frame.payload for path in recorded[:4] for frame in itertools.islice(_quietly(path), 0, 400, 7)]
    return [
        *found,
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1,"s":"BTCUSDT","t":5,"p":"1.00000000","q":"2.00000000","T":1,"m":true}}',
        b'{"u":400900217,"s":"BTCUSDT","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66000000"}',
        b'{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":157,"u":160,"b":[["0.0024","10"]],"a":[["0.0026","100"]]}',
        b'{"lastUpdateId":1027024,"bids":[["4.00000000","431.00000000"]],"asks":[["4.00000200","12.00000000"]]}',
    ]


def _quietly(path: Path) -> Any:
    try:
        yield from read_capture(path)
    except Exception:
        return


def run_frames(given: list[bytes]) -> None:
    """Frames in any order, more than once: what cannot be read leaves the sequences as they were."""
    normaliser = Normaliser({"BTCUSDT": "B:BTC/USDT", "ETHUSDT": "B:ETH/USDT"}, recoverable=True)
    refused: Exception | None = None
    for payload in given:
        try:
            for event in normaliser.normalise(payload, NOW, "BTCUSDT").events:
                CODEC.encode(event)
                assert flaws(event) == ()
        except Exception as error:
            refused = error
            if type(error).__name__ not in ("MalformedFrame", "UnknownFrame", "ImplausibleId"):
                raise
    if refused is not None:
        raise refused


def run_capture(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        for frame in read_capture(Path(file.name)):
            _ = frame.symbol
        stream_counts([Path(file.name)])


LINES = b"1700000000000000000 {}\n".replace(b"{}", b'{"stream":"btcusdt@trade","data":{"s":"BTCUSDT"}}') * 3


def run_user_stream(content: bytes) -> None:
    try:
        event = orjson.loads(content)
    except orjson.JSONDecodeError:
        return
    reports_of(event, InstrumentId)


USER_EVENTS = [
    b'{"e":"executionReport","s":"BTCUSDT","C":"","c":"a","i":5,"T":1,"X":"FILLED","x":"TRADE","z":"1","r":"NONE","t":9,'
    b'"S":"BUY","l":"1","L":"2","n":"0","N":"USDT","m":false}',
    b'{"e":"outboundAccountPosition","u":1,"B":[{"a":"USDT","f":"1","l":"0"}]}',
]


@lru_cache
def exchange() -> Exchange:
    return Exchange(Path(tempfile.mkdtemp(prefix="skeet-fuzz-")), lambda: NOW)


def run_sim_request(given: tuple[str, dict[str, str]]) -> None:
    route, texts = given
    parameters = Parameters({"symbol": "BTCUSDT"} | texts)
    if route == "order":
        read_order(exchange(), "fuzz", parameters, Behaviour())
        return
    public = PUBLIC_ROUTES.get(route)
    if public is not None:
        orjson.dumps(public(exchange(), parameters))
    else:
        method, _, path = route.partition(" ")
        orjson.dumps(ROUTES[method, path](exchange(), "fuzz", parameters))


SIM_NAMES = (
    "symbol", "symbols", "side", "type", "timeInForce", "quantity", "price", "quoteOrderQty", "newClientOrderId", "orderId",
    "origClientOrderId", "limit", "fromId", "startTime", "endTime", "interval", "recvWindow",
)  # fmt: skip
SIM_VALUES = st.one_of(
    HOSTILE, st.sampled_from(["1", "0.5", "BUY", "LIMIT", "MARKET", "GTC", "1m", "9" * 5_000, '["BTCUSDT"]'])
)


class _Deaf:
    def send(self, text: str) -> None:
        json.loads(text)


@lru_cache
def streams() -> MarketStreams:
    return MarketStreams(exchange(), Behaviour())


def run_sim_socket(text: str) -> None:
    client: Any = _Deaf()
    subscriber = Subscriber(client, combined=True)
    streams().request(subscriber, text)
    streams().leave(subscriber)


def run_mark(text: str) -> None:
    mark = Mark.from_text(text)
    if mark is not None:
        mark.to_text()


def run_latch(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        read_latch(Path(file.name))


def _avro_noise() -> st.SearchStrategy[bytes]:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, "string", "x" * 20)
    return st.one_of(st.binary(max_size=60), st.just(HUGE * 3), st.just(body.getvalue()))


def _json_texts() -> st.SearchStrategy[str]:
    leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8))
    trees = st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    )
    requests: Mapping[str, st.SearchStrategy[Any]] = {
        "method": st.one_of(trees, st.sampled_from(["SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS"])),
        "params": st.one_of(trees, st.lists(st.just("btcusdt@trade"), max_size=3)),
        "id": trees,
    }
    return st.one_of(
        st.text(max_size=50), trees.map(json.dumps), st.fixed_dictionaries({}, optional=requests).map(json.dumps)
    )


TARGETS = (
    Target("codec", RECORDS, run_codec),
    Target("batches as columns", SIGNALS, run_columns),
    Target("codec with a foreign schema", st.tuples(SCHEMAS, _avro_noise()), run_foreign_schema),
    Target(
        "door of a topic, and its dead letter",
        st.tuples(st.sampled_from(TOPICS), st.binary(max_size=40), RECORDS, st.integers(0, 7)),
        run_door,
    ),
    Target("decisions on what can be read", asked(), run_decide),
    Target("rows of history", st.tuples(st.sampled_from(HISTORY), RECORDS), run_history),
    Target("snapshots", st.tuples(mutated(st.sampled_from(STATES)), st.booleans(), st.booleans()), run_snapshot),
    Target("marks beside positions", st.one_of(_json_texts(), st.just('{"store":1,"end":2}')), run_mark),
    Target("registry", st.tuples(HOSTILE, SCHEMAS, SCHEMAS, st.one_of(HOSTILE, st.just("latest"))), run_registry),
    Target(
        "ClickHouse's HTTP protocol",
        st.tuples(
            st.dictionaries(st.one_of(HOSTILE, st.sampled_from(["query", "database", "param_x"])), HOSTILE, max_size=4),
            st.one_of(st.binary(max_size=200), mutated(st.sampled_from([*SQL, gzip.compress(b"x" * 5_000)]))),
            st.sampled_from(["", "gzip", "zstd", "lz4", "br", "identity", "rot13"]),
        ),
        run_clickhouse,
    ),
    Target(
        "Binance's frames and their sequences",
        st.lists(st.deferred(lambda: mutated(st.sampled_from(frames()))), min_size=1, max_size=6),
        run_frames,
    ),
    Target(
        "captures", mutated(st.sampled_from([LINES, gzip.compress(LINES), b"", b"1 {}\n", b"\xff 1\n"])), run_capture
    ),
    Target("Binance's user stream", mutated(st.sampled_from(USER_EVENTS)), run_user_stream),
    Target(
        "the exchange's REST parameters",
        st.tuples(
            st.sampled_from(["order", *PUBLIC_ROUTES, *(f"{method} {path}" for method, path in ROUTES)]),
            st.dictionaries(st.sampled_from(SIM_NAMES), SIM_VALUES, max_size=8),
        ),
        run_sim_request,
    ),
    Target("the exchange's WebSocket requests", _json_texts(), run_sim_socket),
    Target("the kill latch's file", mutated(st.sampled_from([b"", b'[{"scope":"platform"}]', b"{"])), run_latch),
)
