"""Ids for texts that come again and again: 0, 1, 2 … in the order in which they were first seen.

A table lives as long as its user wants ids to mean the same: across batches, and across decoders that share it. It is
bounded, so that hostile or mistaken texts cannot fill memory: a text without a place gets the id ``NO_ID``, and is still
there to be read from the column. (A record that turns out to be broken may have left its texts.) Whoever keeps state in arrays by id must keep that of ``NO_ID`` by text.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

MAX_TEXTS = 65_536
"""Texts in one table; 600 times the instruments that one venue's busiest quote asset has."""
MAX_POOL_BYTES = 4 * 1024 * 1024
"""All texts of one table together."""
NO_ID = -1


class Texts:
    """One intern table. Kernels add to it while they hold no lock: one thread at a time may use it.

    The arrays are reserved at once and touched as they fill: an empty table costs 512 KiB of zeros that nobody wrote.
    """

    __slots__ = ("_decoded", "counts", "ends", "places", "pool")

    def __init__(self, max_texts: int = MAX_TEXTS) -> None:
        self.places = np.zeros(1 << (2 * max_texts - 1).bit_length(), np.int32)
        """Hash table: 0 is free, else an id plus 1."""
        self.pool = np.empty(MAX_POOL_BYTES, np.uint8)
        self.ends = np.empty(max_texts, np.int64)
        """Where each text ends in the pool; the next one begins there."""
        self.counts = np.zeros(2, np.int64)
        """Texts, and bytes of the pool, in use."""
        self._decoded: list[str] = []

    def __len__(self) -> int:
        return int(self.counts[0])

    def __getitem__(self, number: int) -> str:
        """The text of an id."""
        return self.all()[number]

    def all(self) -> list[str]:
        """Texts by id, this table's own list: it grows with the table."""
        for number in range(len(self._decoded), len(self)):
            self._decoded.append(self.pool[self.start(number) : self.ends[number]].tobytes().decode())
        return self._decoded

    def start(self, number: int) -> int:
        """Where the text of an id begins in the pool."""
        return int(self.ends[number - 1]) if number else 0

    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """What kernels take, in their order."""
        return self.places, self.pool, self.ends, self.counts
