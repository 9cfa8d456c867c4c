"""Random values of any event's schema, as Avro takes them; and records with something wrong."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from skeet.core.record import Event
from skeet.core.values import EXACT
from skeet.schemas.catalogue import committed_schema

LONGS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-200, 200),
    st.sampled_from([2**k - d for k in (6, 7, 13, 14, 55, 56, 62, 63) for d in (0, 1) if 2**k - d < 2**63]),
)
UNSCALED = st.one_of(
    st.integers(-(10**38) + 1, 10**38 - 1),
    st.integers(-300, 300),
    st.sampled_from([10**38 - 1, 1 - 10**38, 2**63, 2**64, -(2**63), -(2**64), 2**63 - 1, 2**64 - 1, -(2**63) - 1]),
)
TEXTS = st.one_of(
    st.text(max_size=20), st.sampled_from(["", "BINANCE:BTC/USDT", "x" * 300, "é", "漢字" * 9, "a\0b", "𝄞"])
)


PLAIN: Mapping[str, st.SearchStrategy[Any]] = {
    "long": LONGS,
    "double": st.floats(),
    "boolean": st.booleans(),
    "string": TEXTS,
    "bytes": st.binary(max_size=40),
}


def values_of(event_class: type[Event]) -> st.SearchStrategy[dict[str, Any]]:
    """All fields of envelope and event."""
    return _record(committed_schema(event_class), {})


def _record(schema: Mapping[str, Any], named: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({field["name"]: _values(field["type"], named) for field in schema["fields"]})


def _values(schema: Any, named: dict[str, Any]) -> st.SearchStrategy[Any]:
    if isinstance(schema, Mapping) and "name" in schema:
        named[f"{schema['namespace']}.{schema['name']}"] = schema
    match named.get(schema, schema) if isinstance(schema, str) else schema:
        case str(name):
            return PLAIN[name]
        case ["null", inner]:
            return st.none() | _values(inner, named)
        case {"logicalType": "decimal", "scale": scale}:
            return UNSCALED.map(lambda number: Decimal(number).scaleb(-scale, EXACT))
        case {"type": "enum", "symbols": symbols}:
            return st.sampled_from(symbols)
        case {"type": "array", "items": items}:
            return st.lists(_values(items, named), max_size=4)
        case {"type": "map", "values": values}:
            return st.dictionaries(TEXTS, _values(values, named), max_size=4)
        case {"type": "record"} as record:
            return _record(record, named)
        case other:
            raise TypeError(f"no values for {other}")


NASTY = [
    b"\xff" * 9 + b"\x01",  # the longest varint, and one bit more than it may have
    b"\xff" * 9 + b"\x02",
    b"\x80" * 12,
    b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f",  # 2^62
    b"\x01\x08",  # a list's block with its size in bytes
    b"\x80\x00",  # 0 in two bytes
    b"\xed\xa0\x80",  # a surrogate
]


@st.composite
def damaged(draw: st.DrawFn, record: bytes) -> bytes:
    """The record with a few bytes changed, cut, repeated, or put in between."""
    content = bytearray(record)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.integers(0, 5)):
            case 0 if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case 1 if content:
                content[at] = draw(st.integers(0, 255))
            case 2:
                del content[at : at + draw(st.integers(1, 8))]
            case 3:
                content[at:at] = content[at : at + draw(st.integers(1, 30))]
            case 4:
                content[at : at + draw(st.integers(0, 2))] = draw(st.sampled_from(NASTY))
            case _:
                content = content[:at]
    return bytes(content)
