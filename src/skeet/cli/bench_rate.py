"""Holding the simulated market at a rate of frames while something is measured: its flow swings threefold at one speed."""

from __future__ import annotations

import time
from collections import deque
from statistics import fmean
from types import TracebackType
from typing import Self

from skeet.cli.exchange_admin import ExchangeAdmin
from skeet.cli.output import count_down
from skeet.config import Settings
from skeet.core.errors import InvalidInput
from skeet.streams.kafka import consumer
from skeet.streams.reading import end_offsets, partitions_of
from skeet.streams.topics import MARKET_RAW

LOOK_S = 3.0
"""Frames are counted over so long before the speed is changed."""
SETTLE_S = 90.0
NEAR, LOOKS = 0.15, 3
"""Settled means: the mean of so many looks is so near to the wanted rate (single ones swing more than that)."""
MOST_CHANGE = 2.0
SLOWEST, FASTEST = 0.1, 10_000.0
"""What the exchange takes for a speed."""


def next_speed(speed: float, found: float, wanted: float) -> float:
    """The speed after a look that found so many frames a second. Half of what is missing at a time (in its logarithm): a
    look of seconds is itself a matter of chance."""
    change = (wanted / found) ** 0.5 if found > 0 else MOST_CHANGE
    return min(FASTEST, max(SLOWEST, speed * min(MOST_CHANGE, max(1 / MOST_CHANGE, change))))


class HeldRate:
    """Within ``with`` the market is steered to the rate at every :meth:`look`; afterwards it has its old speed again."""

    def __init__(self, settings: Settings, wanted: float) -> None:
        self._wanted = wanted
        self._exchange = ExchangeAdmin(settings)
        self._client = consumer(settings, "skeet-bench-rate")
        self._partitions = partitions_of(settings, [MARKET_RAW])
        self._seen: deque[float] = deque(maxlen=LOOKS)
        self.found = 0.0
        """Frames a second at the last look."""

    def __enter__(self) -> Self:
        flow = self._exchange.status()["flow"]
        self._before = self._speed = float(flow["speed"])
        self._counted, self._counted_s = self._frames(), time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        self._exchange.set_speed(self._before)

    def settle(self) -> None:
        """Wait until the market is near the rate.

        Raises
        ------
        InvalidInput
            it is not within a minute and a half: paused, or more than this machine makes.
        """
        until = time.monotonic() + SETTLE_S
        while not self._settled():
            if time.monotonic() > until:
                raise InvalidInput(
                    f"--rate is {self._wanted:g}; the simulated market was not near it within {SETTLE_S:.0f} s "
                    f"(last {self.found:.0f} frames a second at speed {self._speed:g}): a lower rate, or `skeet sim resume`"
                )
            count_down("settling", LOOK_S)
            self.look()

    def look(self) -> None:
        """Count, where it is time for it, and steer."""
        now = time.monotonic()
        if now - self._counted_s < LOOK_S:
            return
        frames = self._frames()
        self.found = (frames - self._counted) / (now - self._counted_s)
        self._counted, self._counted_s = frames, now
        self._seen.append(self.found)
        self._speed = next_speed(self._speed, self.found, self._wanted)
        self._exchange.set_speed(self._speed)

    def _settled(self) -> bool:
        return len(self._seen) == LOOKS and abs(fmean(self._seen) - self._wanted) <= NEAR * self._wanted

    def _frames(self) -> int:
        return sum(end_offsets(self._client, self._partitions).values())
