"""The newest value of each key of ``control.events.v1``."""

from __future__ import annotations

from dataclasses import dataclass, field

from skeet.verify.books import Values
from skeet.verify.log import Entry


@dataclass(slots=True)
class Controls:
    """Kill switches and limits by scope, strategies by instance; each with the record's offset and type.

    ``turned_away`` are the offsets that the desk echoed as dead letters: nobody acts on those records.
    """

    turned_away: frozenset[int] = frozenset()
    kills: dict[str, tuple[int, Values]] = field(default_factory=dict)
    limits: dict[str, tuple[int, Values]] = field(default_factory=dict)
    strategies: dict[str, tuple[int, str, Values]] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Take one readable record of the control topic."""
        assert entry.schema is not None
        if entry.offset in self.turned_away:
            return
        name, values = entry.schema.name, entry.values
        match name:
            case "KillSwitchSet":
                self.kills[values["scope"]] = (entry.offset, values)
            case "LimitsSet":
                self.limits[values["scope"]] = (entry.offset, values)
            case "StrategyStarted" | "StrategyStopped" | "StrategyHalted":
                self.strategies[values["instance_id"]] = (entry.offset, name, values)
