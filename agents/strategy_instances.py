"""Which strategy instances should run, folded from the control topic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from skeet.core.control import StrategyHalted, StrategyStarted, StrategyStopped
from skeet.core.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The newest word about one instance. ``state`` is ``started``, ``stopped`` or ``halted``; ``reason`` says why."""

    started: Record[StrategyStarted]
    last: Record[Any]
    state: str = "started"
    reason: str = ""

    @property
    def instance_id(self) -> str:
        """Its name, which is its book too."""
        return self.started.event.instance_id

    @property
    def account_id(self) -> str:
        """The account it trades on."""
        return self.started.meta.account_id if self.started.meta is not None else ""

    @property
    def wanted(self) -> bool:
        """Whether a process should run."""
        return self.state == "started"


Instances = dict[str, Instance]


def fold(instances: Instances, record: Record[Any]) -> Instance | None:
    """Take one control record in; returns the instance that it changed."""
    match record.event:
        case StrategyStarted(instance_id=name):
            instances[name] = Instance(started=record, last=record)
        case StrategyStopped(instance_id=name, reason=reason) if name in instances:
            instances[name] = Instance(started=instances[name].started, last=record, state="stopped", reason=reason)
        case StrategyHalted(instance_id=name) as halted if name in instances and instances[name].wanted:
            reason = f"{halted.handler} at {halted.file}:{halted.line}: {halted.error}"
            instances[name] = Instance(started=instances[name].started, last=record, state="halted", reason=reason)
        case _:
            return None
    return instances[name]


def folded(records: Iterable[Record[Any]]) -> Instances:
    """All instances that the records speak of, by name."""
    instances: Instances = {}
    for record in records:
        fold(instances, record)
    return instances
