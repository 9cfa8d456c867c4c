"""The watermark after each of many events at once."""

from __future__ import annotations

import numpy as np

from skeet.core.windows import UNSEEN, Watermark
from skeet.core.windows.watermark import PartitionTime
from skeet.schemas.columns.columns import Longs


def marks(watermark: Watermark, partition: int, ts: Longs, now_ns: Longs | None, idle_after_ns: int | None) -> Longs:
    """As ``observe`` of each event in turn returns it; the watermark is left as after the last one.

    ``ts`` and ``now_ns`` (the log's times, or None) are int64 and not empty.
    """
    ticking = ts if now_ns is None else now_ns
    if watermark.now == UNSEEN:
        for each in watermark.partitions.values():
            each.active = int(ticking[0])
    mine = watermark.partitions.setdefault(partition, PartitionTime())
    now = np.maximum.accumulate(np.maximum(ticking, watermark.now))
    own = np.maximum.accumulate(np.maximum(ts if now_ns is None else np.minimum(ts, now_ns), mine.ts))
    least = own
    for number, other in watermark.partitions.items():
        if number == partition:
            continue
        held = np.minimum(least, other.ts)
        least = held if idle_after_ns is None else np.where(now - other.active >= idle_after_ns, least, held)
    value: Longs = np.maximum.accumulate(np.maximum(least, watermark.value))
    mine.ts, mine.active = int(own[-1]), int(now[-1])
    watermark.now, watermark.value = int(now[-1]), int(value[-1])
    return value
