"""State by instrument as arrays: which row an instrument has, found by its id in an intern table or by its text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from skeet.schemas.columns.columns import Longs
from skeet.schemas.columns.interning import NO_ID, Texts

ROOM = 64
"""Rows that arrays begin with; they double."""


class InstrumentRows:
    """Rows of instruments, in the order in which they were first met.

    Ids belong to one intern table for as long as the process lives; an instrument without an id has a row, too, and is
    found by its text only.
    """

    __slots__ = ("_by_number", "_rows", "_texts")

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._texts: list[str] = []
        self._by_number = np.full(ROOM, NO_ID, np.int64)

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __getitem__(self, row: int) -> str:
        """The instrument of a row."""
        return self._texts[row]

    def find(self, instrument_id: str) -> int | None:
        """The instrument's row; None when it has none."""
        return self._rows.get(instrument_id)

    def add(self, instrument_id: str) -> int:
        """The instrument's row, its own from now on."""
        row = self._rows.setdefault(instrument_id, len(self._texts))
        if row == len(self._texts):
            self._texts.append(instrument_id)
        return row

    def by_number(self, known: Texts, numbers: NDArray[np.int32]) -> Longs:
        """Rows by id of the table, for kernels: -1 where an instrument has none yet."""
        if len(known) > len(self._by_number):
            more = np.full(2 * len(known), NO_ID, np.int64)
            more[: len(self._by_number)] = self._by_number
            self._by_number = more
        there = numbers[numbers != NO_ID]
        for number in np.unique(there[self._by_number[there] == NO_ID]).tolist():
            self._by_number[number] = self._rows.get(known[number], NO_ID)
        return self._by_number


def grown(array: NDArray[np.void], rows: int) -> NDArray[np.void]:
    """The array, or one of twice the room with its content, so that ``rows`` fit."""
    if rows <= len(array):
        return array
    more = np.zeros((max(rows, 2 * len(array)), *array.shape[1:]), array.dtype)
    more[: len(array)] = array
    return more
