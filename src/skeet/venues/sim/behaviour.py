"""How the exchange can be told to misbehave, so that nothing in SKEET hides behind a venue that is too kind.

Behaviours live in memory only: after a restart the exchange is well-behaved again (where client order ids must be unique is
a setting, ``SKEET_SIM__DUPLICATE_CLIENT_IDS``). ``happened`` counts what was really done, so that a test can tell a fault that
was survived from one that never came.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from skeet.venues.sim.orders import UniqueAmong

MAX_DELAY_MS = 60_000


class Faults(BaseModel):
    """What is asked of the exchange. Counts go down as they are used up; the rest holds until it is changed."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    duplicate_client_ids: UniqueAmong = Field(
        UniqueAmong.OPEN, description="Where a client order id must be unique: all, open or none."
    )
    drop_next: int = Field(0, ge=0, description="Accept so many orders and close the connection instead of an answer.")
    drop_probability: float = Field(0.0, ge=0, le=1, description="Drop each order's answer with this chance.")
    unavailable_next: int = Field(0, ge=0, description="Accept so many orders and answer 504 (-1007) all the same.")
    limit_next: int = Field(0, ge=0, description="Refuse so many orders with 429 (-1003).")
    answer_delay_ms: int = Field(0, ge=0, le=MAX_DELAY_MS, description="Answer an order so long after it was accepted.")
    hide_ms: int = Field(0, ge=0, le=MAX_DELAY_MS, description="Show a new order to no question for so long.")
    repeat_next: int = Field(0, ge=0, description="Send so many of the next execution reports twice.")
    lose_frames_next: int = Field(0, ge=0, description="Lose so many of the next market frames.")
    frozen: bool = Field(False, description="Keep sockets open and say nothing on them; what was to be said is lost.")


@dataclass(slots=True)
class Behaviour:
    """The faults in force, and how often each came true."""

    faults: Faults = field(default_factory=Faults)
    happened: Counter[str] = field(default_factory=Counter)
    _chance: random.Random = field(default_factory=lambda: random.Random(0))

    def seed(self, seed: int) -> None:
        """Start the drops by chance from a seed."""
        self._chance = random.Random(seed)

    def uses_up(self, count: str) -> bool:
        """Whether one of a counted fault (``drop_next`` …) is left; it is one less afterwards."""
        left: int = getattr(self.faults, count)
        if left <= 0:
            return False
        setattr(self.faults, count, left - 1)
        self.happened[count.removesuffix("_next")] += 1
        return True

    def drops_this_answer(self) -> bool:
        """Whether the answer to the order just accepted is lost."""
        if self.uses_up("drop_next"):
            return True
        if self.faults.drop_probability == 0.0 or self._chance.random() >= self.faults.drop_probability:
            return False
        self.happened["drop"] += 1
        return True

    def hides(self, accepted_ns: int, now_ns: int) -> bool:
        """Whether an order accepted at ``accepted_ns`` is not shown to whoever asks now."""
        hidden = now_ns - accepted_ns < self.faults.hide_ms * 1_000_000
        self.happened["hide"] += hidden
        return hidden

    def silences(self) -> bool:
        """Whether a message for an open socket is lost because the sockets are frozen."""
        self.happened["freeze"] += self.faults.frozen
        return self.faults.frozen

    def report_copies(self) -> int:
        """How often the next execution report is sent."""
        return 1 + self.uses_up("repeat_next")
