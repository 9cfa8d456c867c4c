"""The compiled kernels of one event class; this module and those below it load the compiler."""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import types

from skeet.core.record import Event
from skeet.schemas.avro import is_lean
from skeet.schemas.catalogue import EVENT_BY_NAME, full_name
from skeet.schemas.columns.compiling import compiled
from skeet.schemas.columns.decoder_source import decoder_source
from skeet.schemas.columns.encoder_source import encoder_source
from skeet.schemas.columns.plan import Plan, plan_of

BYTES = types.Array(types.uint8, 1, "C", readonly=True)
POSITIONS = types.Array(types.int64, 1, "C", readonly=True)
BLOCKS = {"longs": types.int64, "ints": types.int32, "doubles": types.float64, "flags": types.uint8}
INTERN_TABLE = (types.int32[::1], types.uint8[::1], types.int64[::1], types.int64[::1])


def decoder_of(event_class: type[Event]) -> Any:
    """The kernel that reads records of this class: compiled in a second or three, or loaded in a tenth."""
    return _decoder(full_name(event_class))


@cache
def _decoder(name: str) -> Any:
    event_class = EVENT_BY_NAME[name]
    plan = plan_of(event_class)
    fixed = (BYTES, POSITIONS, POSITIONS, types.int64, types.int64, types.uint8[::1], types.int64[::1])
    signature = types.int64(*fixed, *(INTERN_TABLE * len(plan.keyed)), *_blocks(plan))
    return compiled(decoder_source(plan, hot=is_lean(event_class)), "decode", signature)


def encoder_of(event_class: type[Event]) -> Any:
    """The kernel that writes records of this class."""
    return _encoder(full_name(event_class))


@cache
def _encoder(name: str) -> Any:
    event_class = EVENT_BY_NAME[name]
    plan = plan_of(event_class)
    fixed = (types.uint8[::1], types.int64[::1], types.int64[::1], types.int64, BYTES)
    source = encoder_source(plan, hot=is_lean(event_class))
    return compiled(source, "encode", types.int64(*fixed, *_blocks(plan)))


GATHER = """\
from skeet.schemas.columns.machine import copy


def gather(buffer, starts, lengths, out):
    q = 0
    for row in range(starts.size):
        copy(out, q, buffer, starts[row], lengths[row])
        q += lengths[row]
"""


@cache
def gatherer() -> Any:
    """The kernel that copies texts from where they are, one after the other; its caller has looked at all bounds."""
    return compiled(GATHER, "gather", types.void(BYTES, types.int64[::1], types.int32[::1], types.uint8[::1]))


def _blocks(plan: Plan) -> tuple[Any, ...]:
    return tuple(types.Array(BLOCKS[block], 2, "C") for table in plan.tables for block in table.blocks)
