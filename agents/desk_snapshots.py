"""Snapshots of accounts: written after commit, used only by the same code, never needed.

For each partition the accounts that changed are written, then a manifest (the record of the pseudo-account ``~partition``)
that says where the fold goes on and which version of each account it builds on. Records of one partition are in order, so a
manifest that can be read has all its accounts before it; whatever does not fit together is answered by a full fold.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from skeet.config import Settings
from skeet.core.account_snapshot import folding_code_version, state_bytes, state_from_bytes
from skeet.core.account_state import AccountState
from skeet.core.control import AccountSnapshot
from skeet.core.errors import InfrastructureError, InvalidInput
from skeet.core.ids import derive_id
from skeet.core.record import Meta, Out
from skeet.core.values import AccountId, PrincipalId, TenantId
from skeet.process import logger
from skeet.schemas.codec import Codec
from skeet.streams.crash_points import DESK_IN_SNAPSHOT, reach
from skeet.streams.kafka import producer
from skeet.streams.publishing import Publisher
from skeet.streams.reading import messages_until_end, record_of
from skeet.streams.topics import ACCOUNT_SNAPSHOTS, topic_name

MAX_CONTENT_BYTES = 64 * 1024 * 1024
"""A state is a megabyte or two; a record that inflates to more is none of ours."""


@dataclass(slots=True, kw_only=True)
class Restored:
    """Accounts of one partition, and the offset of the first event that may not be in them yet."""

    next_offset: int = 0
    states: dict[str, AccountState] = field(default_factory=dict)


def partition_account(partition: int) -> AccountId:
    """The pseudo-account whose stream holds a partition's ControlApplied events."""
    return AccountId(f"~{partition}")


class SnapshotReader:
    """Reads snapshots; what does not fit together counts as none."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self._code_version = folding_code_version()

    def read(self, partition: int) -> Restored:
        """The newest snapshots of the partition that this code may use; empty where there are none."""
        name = topic_name(ACCOUNT_SNAPSHOTS, self._settings.kafka)
        newest: dict[str, tuple[AccountSnapshot, int]] = {}
        for message in messages_until_end(self._settings, [(name, partition)]):
            try:
                record = record_of(self._codec, message, self._settings.kafka.topic_prefix)
            except InvalidInput as error:
                logger().warning("no snapshot", partition=partition, offset=message.offset(), cause=str(error))
                continue
            if record.meta is not None and isinstance(record.event, AccountSnapshot):
                newest[record.meta.account_id] = (record.event, record.meta.stream_version)
        return self._fit(newest, f"manifest~{partition}")

    def _fit(self, newest: dict[str, tuple[AccountSnapshot, int]], manifest_id: str) -> Restored:
        manifest, _ = newest.get(manifest_id, (None, 0))
        if manifest is None or manifest.code_version != self._code_version:
            return Restored()
        try:
            restored = Restored(next_offset=manifest.next_offset)
            for account_id, version in versions_of(manifest).items():
                snapshot, found = newest.get(account_id, (None, 0))
                if snapshot is None or found < version or snapshot.code_version != self._code_version:
                    return Restored()
                restored.states[account_id] = state_of(snapshot, account_id)
        except InvalidInput as error:
            logger().warning("snapshots are not used: the log is folded", cause=str(error))
            return Restored()
        return restored


class Snapshots(SnapshotReader):
    """Writes and reads the snapshots of this desk."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        super().__init__(settings, codec)
        self._publisher = Publisher(settings, codec, producer(settings, f"desk-snapshots-{settings.slot}"))

    def write(self, partition: int, next_offset: int, states: Iterable[AccountState], written: dict[str, int]) -> None:
        """Queue the snapshots of the accounts that changed since ``written`` (updated), and the manifest.

        An account too large for one record is a warning: the partition is folded from an older snapshot.
        """
        outs: list[Out[AccountSnapshot]] = []
        versions: dict[str, int] = {}
        for state in states:
            versions[state.account_id] = state.version
            if written.get(state.account_id) != state.version:
                outs.append(self._out(partition, next_offset, state.account_id, state.version, state_bytes(state)))
        manifest_id = f"manifest~{partition}"
        manifest = self._out(partition, next_offset, manifest_id, 0, json.dumps(versions, sort_keys=True).encode())
        try:
            self._publisher.send(outs)
            if outs:
                reach(DESK_IN_SNAPSHOT)
            self._publisher.send([manifest])
        except InfrastructureError as error:
            logger().warning("snapshot not written", partition=partition, error=str(error))
            return
        written.update(versions)

    def flush(self) -> None:
        """Wait until what was queued is acknowledged; a failure is a warning, for snapshots are never needed."""
        try:
            self._publisher.flush()
        except InfrastructureError as error:
            logger().warning("snapshots not written", error=str(error))

    def _out(self, partition: int, next_offset: int, account_id: str, version: int, content: bytes) -> Out[Any]:
        snapshot = AccountSnapshot(
            partition=partition,
            next_offset=next_offset,
            code_version=self._code_version,
            state_hash=_sha256(content),
            state=zlib.compress(content, 1),
        )
        identity = derive_id("snapshot", account_id, version, next_offset, self._code_version)
        meta = Meta(
            event_id=identity,
            tenant_id=TenantId(""),
            account_id=AccountId(account_id),
            principal_id=PrincipalId("desk"),
            correlation_id=identity,
            causation_id=identity,
            cause_at="",
            ts_event=0,
            ts_init=0,
            stream_version=version,
        )
        return Out(topic=ACCOUNT_SNAPSHOTS.name, key=account_id, event=snapshot, meta=meta, partition=partition)


def versions_of(manifest: AccountSnapshot) -> dict[str, int]:
    """The version of each account that a manifest builds on.

    Raises
    ------
    InvalidInput
        it is none.
    """
    try:
        found = json.loads(content_of(manifest))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"manifest of partition {manifest.partition} is no JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(version, int) for version in found.values()):
        raise InvalidInput(f"manifest of partition {manifest.partition} names no versions of accounts")
    return found


def state_of(snapshot: AccountSnapshot, account_id: str) -> AccountState:
    """The state that a snapshot holds.

    Raises
    ------
    InvalidInput
        its bytes are not those of its hash, or no state of this account.
    """
    content = content_of(snapshot)
    try:
        state = state_from_bytes(content)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise InvalidInput(f"snapshot of {account_id} holds no state: {type(error).__name__}: {error}") from error
    if state.account_id != account_id:
        raise InvalidInput(f"snapshot of {account_id} holds the state of {state.account_id!r}")
    return state


def content_of(snapshot: AccountSnapshot) -> bytes:
    """The bytes that were compressed, never more than :data:`MAX_CONTENT_BYTES` of them.

    Raises
    ------
    InvalidInput
        they are damaged, too many, or not those of the hash.
    """
    inflating = zlib.decompressobj()
    try:
        content = inflating.decompress(snapshot.state, MAX_CONTENT_BYTES)
    except zlib.error as error:
        raise InvalidInput(f"snapshot cannot be decompressed: {error}") from error
    if inflating.unconsumed_tail or not inflating.eof:
        raise InvalidInput(f"snapshot is cut off, or has more than {MAX_CONTENT_BYTES} bytes")
    if _sha256(content) != snapshot.state_hash:
        raise InvalidInput("snapshot does not match its hash")
    return content


def _sha256(content: bytes) -> str:
    return sha256(content).hexdigest()
