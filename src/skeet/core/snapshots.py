"""States of machines that fold the market, so that a restart need not fold it again (``market.snapshots.v1``)."""

from __future__ import annotations

from dataclasses import dataclass

from skeet.core.record import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSnapshot(Event):
    """What a machine holds of the instruments of one market partition.

    ``positions`` are the next offsets of its inputs (``topic/partition``): everything before them is in it, and all that
    came of it is in the log. ``taken_ns`` is the writer's clock. ``state`` is the machine's, for the same ``code_version``.
    """

    machine: str
    partition: int
    taken_ns: int
    code_version: str
    positions: dict[str, int]
    state: bytes
