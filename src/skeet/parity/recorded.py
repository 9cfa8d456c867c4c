"""What strategy instances wrote into the log: their commands, and the word of their halts."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from confluent_kafka import Message

from skeet.config import Settings
from skeet.core.control import StrategyHalted, StrategyStarted
from skeet.core.errors import InvalidInput
from skeet.core.record import Record
from skeet.schemas.codec import Codec
from skeet.streams.door import Door
from skeet.streams.reading import messages_until_end, partitions_of
from skeet.streams.topics import COMMANDS, CONTROL, Topic

PRINCIPAL = "strategy:"

Outputs = dict[str, dict[bytes, str]]
"""By id: SHA-256 of each different record under it, and where that stands first. A venue's event that the feed published
twice makes the same command twice, with other times."""


class RecordedOutputs:
    """``outputs`` by instance and start (its control offset), ``started`` by control offset.

    ``starved`` are the starts that a want of memory halted: another machine need not run out at the same record.
    """

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._door = Door(settings.kafka, codec)
        self.started: dict[int, Record[StrategyStarted]] = {}
        self.outputs: dict[tuple[str, int], Outputs] = {}
        self.starved: set[tuple[str, int]] = set()
        self.records_read = 0

    def of(self, agent_id: str, epoch: int) -> Outputs:
        """The outputs of one start of an instance."""
        return self.outputs.setdefault((agent_id, epoch), {})

    def read(self) -> None:
        """Read control and commands to their ends."""
        for record, raw in self._records(CONTROL):
            if isinstance(record.event, StrategyStarted):
                self.started[record.at.offset] = record
            if isinstance(record.event, StrategyHalted):
                name = record.event.instance_id
                starts = (offset for offset, each in self.started.items() if each.event.instance_id == name)
                epoch = max(starts, default=0)
                self._note(record, epoch, raw)
                if record.event.reason == "memory":
                    self.starved.add((name, epoch))
        for record, raw in self._records(COMMANDS):
            epoch = getattr(record.event, "epoch", 0)
            if epoch:
                self._note(record, epoch, raw)

    def _records(self, topic: Topic) -> Iterator[tuple[Record[Any], bytes]]:
        message: Message
        for message in messages_until_end(self._settings, partitions_of(self._settings, [topic])):
            self.records_read += 1
            try:
                record = self._door.message(message)
            except InvalidInput:
                continue  # the desk has written its dead letter
            yield record, message.value() or b""

    def _note(self, record: Record[Any], epoch: int, raw: bytes) -> None:
        principal = record.meta.principal_id if record.meta is not None else ""
        if principal.startswith(PRINCIPAL):
            outputs = self.of(principal.removeprefix(PRINCIPAL), epoch)
            outputs.setdefault(record.event_id, {}).setdefault(sha256(raw).digest(), str(record.at))
