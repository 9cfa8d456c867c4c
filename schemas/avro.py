"""Avro schemas from the core's event classes.

The classes are the source, the committed ``avsc/*.avsc`` files their picture: a test regenerates and compares. Mapping:
``int`` long, ``float`` double, ``str`` string, ``bytes`` bytes, ``bool`` boolean, ``Decimal`` decimal(38,18), an
enumeration an enum with default UNKNOWN, ``tuple[X, ...]`` an array, ``dict[str, X]`` a map, ``X | None`` a union with
null first, a nested dataclass a record. A class's first docstring paragraph becomes the record's ``doc``.
"""

from __future__ import annotations

import dataclasses
import types
from decimal import Decimal
from enum import StrEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

from skeet.core.record import Event, MarketEvent, Meta
from skeet.core.values import AMOUNT_SCALE

DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": AMOUNT_SCALE}
PRIMITIVES: dict[Any, Any] = {
    int: "long",
    float: "double",
    str: "string",
    bytes: "bytes",
    bool: "boolean",
    Decimal: DECIMAL,
}


def is_lean(event_class: type[Event]) -> bool:
    """Whether records of this class travel without an envelope (market records and clock ticks)."""
    from skeet.core.market import Tick

    return issubclass(event_class, MarketEvent) or event_class is Tick


def namespace(event_class: type[Any]) -> str:
    """``skeet.market`` for classes of ``skeet.core.market``, and so on."""
    return "skeet." + event_class.__module__.rsplit(".", 1)[-1]


def schema_of(event_class: type[Event]) -> dict[str, Any]:
    """The Avro record schema of an event class: the envelope's fields first (unless lean), then the event's."""
    seen: set[str] = set()
    fields = [] if is_lean(event_class) else _fields(Meta, seen)
    return _record(event_class, fields + _fields(event_class, seen))


def _record(cls: type[Any], fields: list[dict[str, Any]]) -> dict[str, Any]:
    doc = " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())
    schema: dict[str, Any] = {"type": "record", "name": cls.__name__, "namespace": namespace(cls)}
    if doc and not doc.startswith(cls.__name__ + "("):  # dataclass invents a docstring where there is none
        schema["doc"] = doc
    return schema | {"fields": fields}


def _fields(cls: type[Any], seen: set[str]) -> list[dict[str, Any]]:
    hints = get_type_hints(cls)
    return [_field(field, hints[field.name], seen) for field in dataclasses.fields(cls)]


def _field(field: dataclasses.Field[Any], hint: Any, seen: set[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": field.name, "type": _type(hint, seen)}
    if _optional(hint) is not None:
        entry["default"] = None
    elif field.default is not dataclasses.MISSING:
        entry["default"] = field.default
    return entry


def _optional(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        inner = [arg for arg in get_args(hint) if arg is not type(None)]
        return inner[0] if len(inner) == 1 else None
    return None


def _type(hint: Any, seen: set[str]) -> Any:
    hint = getattr(hint, "__supertype__", hint)  # NewType
    if hint in PRIMITIVES:
        return PRIMITIVES[hint]
    if (inner := _optional(hint)) is not None:
        return ["null", _type(inner, seen)]
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _type(get_args(hint)[0], seen)}
    if get_origin(hint) is dict:
        return {"type": "map", "values": _type(get_args(hint)[1], seen)}
    return _named(hint, seen)


def _named(hint: type[Any], seen: set[str]) -> Any:
    """An enum or record: spelled out once in a schema, named afterwards."""
    full_name = f"{namespace(hint)}.{hint.__name__}"
    if full_name in seen:
        return full_name
    seen.add(full_name)
    if issubclass(hint, StrEnum):
        symbols = [member.value for member in hint]
        return {
            "type": "enum",
            "name": hint.__name__,
            "namespace": namespace(hint),
            "symbols": symbols,
            "default": "UNKNOWN",
        }
    if dataclasses.is_dataclass(hint):
        return _record(hint, _fields(hint, seen))
    raise TypeError(f"{hint!r} has no Avro type; see the mapping in schemas/avro.py")
