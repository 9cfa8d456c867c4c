"""Golden records: one file per version of each schema, kept for ever, so that old bytes stay readable.

A file holds the writer's schema, the framed record in hexadecimal, and the values as text. ``write_missing`` adds a file
only where no file has the current schema; existing files are never touched.
"""

from __future__ import annotations

import dataclasses
import json
import types
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from skeet.core.record import Event, Meta
from skeet.schemas.avro import is_lean
from skeet.schemas.catalogue import EVENTS, committed_schema, full_name
from skeet.schemas.codec import Codec

FOLDER = Path(__file__).resolve().parent / "golden"
GOLDEN_SCHEMA_ID = 1

SAMPLES: dict[Any, Any] = {
    int: 1_723_161_253_000_000_001,
    float: 0.125,
    str: "x/é/1",
    bytes: b"\x00\xff",
    bool: True,
    Decimal: Decimal("-12345678901234567890.123456789012345678"),
}


def sample(cls: type[Any]) -> Any:
    """An instance with a fixed, telling value in every field."""
    hints = get_type_hints(cls)
    return cls(**{field.name: _sample_value(hints[field.name]) for field in dataclasses.fields(cls)})


def _sample_value(hint: Any) -> Any:
    hint = getattr(hint, "__supertype__", hint)
    origin = get_origin(hint)
    if hint in SAMPLES:
        return SAMPLES[hint]
    if origin in (Union, types.UnionType):
        return _sample_value(next(arg for arg in get_args(hint) if arg is not type(None)))
    if origin is tuple:
        return (_sample_value(get_args(hint)[0]),) * 2
    if origin is dict:
        return {"k": _sample_value(get_args(hint)[1])}
    if issubclass(hint, StrEnum):
        return list(hint)[-1]
    return sample(hint)


def document(event_class: type[Event]) -> dict[str, Any]:
    """The golden file's content for the current schema."""
    meta = None if is_lean(event_class) else sample(Meta)
    event = sample(event_class)
    record = Codec({event_class: GOLDEN_SCHEMA_ID}).encode(event, meta)
    return {"schema": committed_schema(event_class), "record": record.hex(), "values": repr((event, meta))}


def files_of(event_class: type[Event]) -> list[Path]:
    """Golden files of all versions, oldest first."""
    return sorted(FOLDER.glob(f"v*/{full_name(event_class)}.json"), key=lambda path: int(path.parent.name[1:]))


def write_missing() -> list[Path]:
    """Add a golden file for each schema that has none; returns the new files."""
    written: list[Path] = []
    for event_class in EVENTS:
        existing = files_of(event_class)
        if any(json.loads(path.read_text())["schema"] == committed_schema(event_class) for path in existing):
            continue
        version = int(existing[-1].parent.name[1:]) + 1 if existing else 1
        path = FOLDER / f"v{version}" / f"{full_name(event_class)}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document(event_class), indent=1) + "\n")
        written.append(path)
    return written
