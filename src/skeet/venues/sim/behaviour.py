"""How the exchange can be told to misbehave, so that nothing in SKEET hides behind a venue that is too kind.

Behaviours live in memory only: after a restart the exchange is well-behaved again (where client order ids must be unique is
a setting, ``SKEET_SIM__DUPLICATE_CLIENT_IDS``).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from skeet.venues.sim.orders import UniqueAmong


@dataclass(slots=True)
class Behaviour:
    """What is set at the moment.

    `unique_among`: where client order ids must be unique (Binance: open orders). `drop_next`: so many of the next
    accepted orders get no answer: the connection is closed instead. `drop_probability`: each other one with this chance.
    `repeat_next`: so many of the next execution reports go out twice on the user stream.
    """

    unique_among: UniqueAmong = UniqueAmong.OPEN
    drop_next: int = 0
    drop_probability: float = 0.0
    dropped: int = 0
    repeat_next: int = 0
    repeated: int = 0
    _chance: random.Random = field(default_factory=lambda: random.Random(0))

    def seed(self, seed: int) -> None:
        """Start the drops by chance from a seed."""
        self._chance = random.Random(seed)

    def drops_this_answer(self) -> bool:
        """Whether the answer to the order just accepted is lost. Counts it."""
        if self.drop_next > 0:
            self.drop_next -= 1
        elif self.drop_probability == 0.0 or self._chance.random() >= self.drop_probability:
            return False
        self.dropped += 1
        return True

    def repeats_this_report(self) -> bool:
        """Whether the execution report just sent goes out again. Counts it."""
        if self.repeat_next == 0:
            return False
        self.repeat_next -= 1
        self.repeated += 1
        return True
