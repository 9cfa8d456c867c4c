"""Chunks as Faust knows them: a message whose acknowledgement reaches the ledger, and the topic that makes events of it."""

from __future__ import annotations

from typing import Any

from faust.events import Event
from faust.topics import Topic
from faust.types.tuples import TP, ConsumerMessage

from skeet.streams.batches.chunk import Chunk
from skeet.streams.batches.ledger import Delivery

NO_GENERATION = -1


class ChunkMessage(ConsumerMessage):  # type: ignore[misc]  # untyped library
    """A chunk as Faust's message. Acknowledging it, by whatever way, reaches the ledger; forgotten, no stream takes it."""

    def __init__(self, chunk: Chunk, delivery: Delivery, place: TP, generation: int) -> None:
        self.delivery = delivery
        self._generation = generation
        last_ms = int(chunk.timestamps_ms[-1])
        super().__init__(
            chunk.topic,
            chunk.partition,
            chunk.next_offset - 1,
            last_ms / 1000,
            0,
            {},
            None,
            chunk,
            None,
            0,
            chunk.size,
            place,
        )

    @property
    def acked(self) -> bool:
        """As Faust reads it; its compiled stream sets it without calling anything."""
        return self.delivery.acked

    @acked.setter
    def acked(self, acked: bool) -> None:
        if acked:
            self.delivery.ack()

    @property
    def generation_id(self) -> int:
        """The group's generation that it was read in; streams pass over messages of any other than the current one."""
        return NO_GENERATION if self.delivery.forgotten else self._generation

    @generation_id.setter
    def generation_id(self, _: object) -> None:
        """Set by Faust's constructor, which does not know it."""

    @property
    def tracked(self) -> bool:
        """Whether a stream has taken it."""
        return self.delivery.begun

    @tracked.setter
    def tracked(self, tracked: bool) -> None:
        self.delivery.begun = tracked


class ChunkTopic(Topic):  # type: ignore[misc]  # untyped library
    """A topic whose events have a :class:`Chunk` for a value. Nothing is decoded here."""

    def _compile_decode(self) -> None:
        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return Event(self.app, None, message.value, {}, message)

        self.decode = decode
