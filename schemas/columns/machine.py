"""Single loads and stores of compiled code, without any check: whoever calls them has looked at the bounds before.

numba's own indexing checks no bounds either, and spends time on negative indices. Positions are int64. Little-endian only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import extending, njit, types
from numba.core import cgutils

from skeet.core.errors import BugError

if sys.byteorder != "little":
    raise BugError("columns are read and written on little-endian machines only")

Array: TypeAlias = Any
Whole: TypeAlias = Any
Word: TypeAlias = Any
Real: TypeAlias = Any
Truth: TypeAlias = Any
"""A numpy array, int64, uint64, float64, bool: what compiled code has, and what only numba's own type check knows."""

HIGH_BITS = np.uint64(0x8080808080808080)
"""The highest bit of each of eight bytes: more of a varint follows, or no ASCII."""

F = TypeVar("F", bound=Callable[..., Any])


def inlined(function: F) -> F:
    """For what most records need: its code becomes part of every caller's, which makes a kernel twice as fast."""
    return cast(F, njit(nogil=True, error_model="numpy", forceinline=True)(function))


def called(function: F) -> F:
    """For what few records need, or where compiling quickly matters more."""
    return cast(F, njit(nogil=True, error_model="numpy")(function))


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(builder.bitcast(data, ir.IntType(8).as_pointer()), [index])


def _loader(scalar: Any) -> Any:
    """Loads without any check: a scalar of this type from where it stands in the bytes, aligned or not."""

    def load(typing: Any, array: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = _pointer(context, builder, signature.args[0], *arguments)
            typed = builder.bitcast(pointer, context.get_value_type(scalar).as_pointer())
            return builder.load(typed, align=1)

        return scalar(array, types.int64), generate

    return extending.intrinsic(load)


def _storer(scalar: Any) -> Any:
    """Stores without any check."""

    def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = _pointer(context, builder, signature.args[0], *arguments[:2])
            builder.store(arguments[2], builder.bitcast(pointer, context.get_value_type(scalar).as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(array, types.int64, scalar), generate

    return extending.intrinsic(store)


load_byte, load_word, load_double = _loader(types.uint8), _loader(types.uint64), _loader(types.float64)
store_byte, store_word, store_double = _storer(types.uint8), _storer(types.uint64), _storer(types.float64)


def _copy(typing: Any, out: Any, at: Any, source: Any, start: Any, count: Any) -> Any:
    """Copies ``count`` bytes without any check."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        into = _pointer(context, builder, signature.args[0], *arguments[:2])
        taken = _pointer(context, builder, signature.args[2], *arguments[2:4])
        cgutils.raw_memcpy(builder, into, taken, arguments[4], 1)
        return context.get_dummy_value()

    return types.void(out, types.int64, source, types.int64, types.int64), generate


copy = extending.intrinsic(_copy)


def _zero_counter(name: str) -> Any:
    """Counts zero bits of a word that is not 0."""

    def count(typing: Any, word: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, name)(arguments[0], ir.Constant(ir.IntType(1), 1))

        return types.int64(types.uint64), generate

    return extending.intrinsic(count)


trailing_zeros, leading_zeros = _zero_counter("cttz"), _zero_counter("ctlz")
