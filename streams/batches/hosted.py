"""The chunk consumer for a host that restores its machines: what :mod:`skeet.streams.faust_driver` adds to stock Faust's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faust.types.tuples import TP

from skeet.streams.batches.driver import ChunkConsumer, ChunkThread, ChunkTransport
from skeet.streams.faust_driver import CommittedReader, Host


class HostedChunkThread(ChunkThread, CommittedReader):
    """The consumer's place on the host's loop: makes chunks, with the host's connection, assignor and place in the group."""


class HostedChunkConsumer(ChunkConsumer):
    """Faust's consumer of chunks; the host says where to start, and hears of commits and revokes."""

    @property
    def _host(self) -> Host:
        host: Host = self.transport.host
        return host

    def _new_consumer_thread(self) -> HostedChunkThread:
        return HostedChunkThread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Mapping[Any, int]:
        """Ask the host where to start, and go there. Nothing is delivered before: Faust opens the flow behind this."""
        found = dict(await super().seek_to_committed())
        wanted = await self._host.starting({(place.topic, place.partition): offset for place, offset in found.items()})
        moved = {place: wanted[place.topic, place.partition] for place in found}
        await self.seek_wait({TP(*place): offset for place, offset in moved.items() if offset != found[place]})
        return moved

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        """Let the host finish what is begun, commit, give the partitions up, and let the host forget."""
        if revoked:
            await self._host.revoking()
        await super().on_partitions_revoked(revoked)
        self._host.revoked()

    def _new_offset(self, tp: TP) -> int | None:
        self._host.committing()
        return super()._new_offset(tp)


class HostedChunkTransport(ChunkTransport):
    """Faust's transport with our consumer; ``host`` is set before the application starts."""

    Consumer = HostedChunkConsumer
    host: Host
