"""CRC-32 (zlib's) of many pieces of one buffer, compiled: a call for each of them would cost more than the sums."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

POLYNOMIAL = 0xEDB88320
SLICES = 8


def _tables() -> NDArray[np.uint32]:
    """Row k: the remainder of each byte with k zero bytes behind it, so that eight bytes are looked up at once."""
    tables = np.empty((SLICES, 256), np.uint32)
    remainders = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        remainders = np.where(remainders & 1, (remainders >> 1) ^ np.uint32(POLYNOMIAL), remainders >> 1)
    tables[0] = remainders
    for k in range(1, SLICES):
        tables[k] = (tables[k - 1] >> 8) ^ tables[0][tables[k - 1] & 0xFF]
    return tables


TABLES = _tables()


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _crc32(buffer: Any, starts: Any, lengths: Any, tables: Any, found: Any) -> None:
    for row in range(starts.shape[0]):
        crc = np.uint32(0xFFFFFFFF)
        at, end = starts[row], starts[row] + max(lengths[row], 0)
        while end - at >= SLICES:
            crc = (
                tables[7, np.uint8(crc) ^ buffer[at]]
                ^ tables[6, np.uint8(crc >> np.uint32(8)) ^ buffer[at + 1]]
                ^ tables[5, np.uint8(crc >> np.uint32(16)) ^ buffer[at + 2]]
                ^ tables[4, np.uint8(crc >> np.uint32(24)) ^ buffer[at + 3]]
                ^ tables[3, buffer[at + 4]]
                ^ tables[2, buffer[at + 5]]
                ^ tables[1, buffer[at + 6]]
                ^ tables[0, buffer[at + 7]]
            )
            at += SLICES
        while at < end:
            crc = tables[0, np.uint8(crc) ^ buffer[at]] ^ (crc >> np.uint32(8))
            at += 1
        found[row] = ~crc


def crc32_of(buffer: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.uint32]:
    """The CRC-32 of each piece, as :func:`zlib.crc32`; 0 where the length is negative (a null).

    Raises
    ------
    ValueError
        a piece does not lie within the buffer.
    """
    sizes = np.maximum(lengths, 0)
    if len(starts) and (starts.min() < 0 or (starts + sizes).max() > len(buffer)):
        raise ValueError(f"a piece outside of the buffer's {len(buffer)} bytes")
    found = np.empty(len(starts), np.uint32)
    _crc32(buffer, starts, sizes, TABLES, found)
    return found
