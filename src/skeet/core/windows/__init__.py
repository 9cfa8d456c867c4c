"""Windows over keyed streams, in event time or by count: pure, exact, and the same whatever way the events came in chunks.

::

    flow = Windows(
        Hopping(size_ns=250 * NS_PER_MS, step_ns=50 * NS_PER_MS),
        {"volume": Sum("size"), "vwap": WeightedMean("price", "size"), "trades": Count()},
        grace_ns=100 * NS_PER_MS,
    )
    state = flow.initial()
    outcome = flow.add(state, "SIM:BTC/USDT", trade.ts_event, {"price": 100_00, "size": 10})
    for window in outcome.closed:
        window.key, window.span, window.results["vwap"]

Time is integer nanoseconds and values are integers (mantissas of one scale for each key): nothing here rounds. No clock: the
watermark is driven by events, and by the log's time where the caller gives it. ``skeet.streams.windows`` does the same on
whole columns.
"""

from skeet.core.values import LateReason
from skeet.core.windows.candle import Candle, Ohlcv
from skeet.core.windows.folds import (
    Count,
    First,
    Fold,
    Last,
    Max,
    Mean,
    Mergeable,
    Min,
    Sum,
    WeightedMean,
    decimal_of,
)
from skeet.core.windows.outcome import NOTHING, Closed, Key, Late, Outcome, Span
from skeet.core.windows.rules import (
    CountHopping,
    CountSliding,
    CountTumbling,
    Hopping,
    Rule,
    Session,
    Sliding,
    Tumbling,
)
from skeet.core.windows.state import WindowState, state_from_bytes, state_to_bytes
from skeet.core.windows.watermark import UNSEEN, Watermark
from skeet.core.windows.windows import Windows

__all__ = [
    "NOTHING",
    "UNSEEN",
    "Candle",
    "Closed",
    "Count",
    "CountHopping",
    "CountSliding",
    "CountTumbling",
    "First",
    "Fold",
    "Hopping",
    "Key",
    "Last",
    "Late",
    "LateReason",
    "Max",
    "Mean",
    "Mergeable",
    "Min",
    "Ohlcv",
    "Outcome",
    "Rule",
    "Session",
    "Sliding",
    "Span",
    "Sum",
    "Tumbling",
    "Watermark",
    "WeightedMean",
    "WindowState",
    "Windows",
    "decimal_of",
    "state_from_bytes",
    "state_to_bytes",
]
