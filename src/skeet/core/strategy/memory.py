"""A strategy's memory as bytes and back: equal memories give equal bytes, in every process.

What may be remembered: None, booleans, integers, floats, texts, bytes, Decimal, enumerations, lists, tuples, sets, deques,
dictionaries, and dataclasses of them. Nothing is executed when bytes are read: a class is looked up among those already
loaded and must be a dataclass or an enumeration. Two names of one object become two objects.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import deque
from decimal import Decimal
from enum import Enum
from typing import Any

from skeet.core.errors import DecodeError, InvalidInput

AS_THEY_ARE = (type(None), bool, int, str)


def memory_to_bytes(memory: Any) -> bytes:
    """The canonical bytes.

    Raises
    ------
    InvalidInput
        something in it is of a type that is not listed above; named with its place.
    """
    return json.dumps(_plain(memory, "state"), separators=(",", ":"), ensure_ascii=False).encode()


def memory_from_bytes(content: bytes) -> Any:
    """The memory that these bytes are of.

    Raises
    ------
    DecodeError
        they are none, or name a class that is not loaded (any more).
    """
    try:
        return _restored(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, ArithmeticError) as error:
        raise DecodeError(f"a strategy's memory cannot be read: {type(error).__name__}: {error}") from error


def _plain(value: Any, place: str) -> Any:
    kind = type(value)
    if kind in AS_THEY_ARE:
        return value
    if isinstance(value, Enum):
        return ["enum", _name_of(kind, place), value.name]
    if dataclasses.is_dataclass(value):
        fields = [[f.name, _plain(getattr(value, f.name), f"{place}.{f.name}")] for f in dataclasses.fields(value)]
        return ["object", _name_of(kind, place), fields]
    if kind is float:
        return ["float", repr(value)]
    if kind is Decimal:
        return ["decimal", str(value)]
    if kind is bytes:
        return ["bytes", value.hex()]
    if kind is dict:
        return ["dict", [[_plain(k, place), _plain(v, f"{place}[{k!r}]")] for k, v in value.items()]]
    if kind is deque:
        return ["deque", [_plain(item, place) for item in value], value.maxlen]
    if kind is list or kind is tuple:
        return [kind.__name__, [_plain(item, f"{place}[{i}]") for i, item in enumerate(value)]]
    if kind is set or kind is frozenset:
        return [kind.__name__, sorted((_plain(item, place) for item in value), key=json.dumps)]
    raise InvalidInput(
        f"{place} is a {kind.__module__}.{kind.__qualname__}, which no checkpoint can hold; remember numbers, texts, "
        "Decimal, lists, dictionaries and dataclasses of them"
    )


def _restored(plain: Any) -> Any:
    if not isinstance(plain, list):
        return plain
    tag, content = plain[0], plain[1]
    match tag:
        case "enum":
            return _class_of(content, Enum)[plain[2]]
        case "object":
            return _object(_class_of(content, object), plain[2])
        case "float":
            return float(content)
        case "decimal":
            return Decimal(content)
        case "bytes":
            return bytes.fromhex(content)
        case "dict":
            return {_restored(key): _restored(value) for key, value in content}
        case "deque":
            return deque(map(_restored, content), plain[2])
        case "list":
            return [_restored(item) for item in content]
        case "tuple":
            return tuple(map(_restored, content))
        case "set":
            return set(map(_restored, content))
        case "frozenset":
            return frozenset(map(_restored, content))
    raise ValueError(f"tag {tag!r}")


def _object(cls: Any, fields: list[Any]) -> Any:
    """Without ``__init__``: the fields are what they were."""
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"{cls.__qualname__} is no dataclass")
    made: Any = object.__new__(cls)  # type: ignore[arg-type]  # _class_of found a class, not an instance
    for name, value in fields:
        object.__setattr__(made, name, _restored(value))
    return made


def _name_of(cls: type[Any], place: str) -> str:
    if "<locals>" in cls.__qualname__:
        raise InvalidInput(
            f"{place} is of class {cls.__qualname__}, defined inside a function; define it in the module"
        )
    return f"{cls.__module__}:{cls.__qualname__}"


def _class_of(name: str, base: type[Any]) -> Any:
    module, _, qualified = name.partition(":")
    found: Any = sys.modules[module]
    for part in qualified.split("."):
        found = getattr(found, part)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise TypeError(f"{name} is no {base.__name__}")
    return found
