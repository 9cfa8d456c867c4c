"""A strategy's sources as one hashed piece, stored in the log and found again on every machine.

The piece is the files in order of their names, each as length and name, length and content; its hash is the SHA-256 over
those bytes, so that equal sources have an equal hash wherever and whenever they are packed. It travels compressed, in
parts, in a compacted topic, and is checked against its hash before anybody runs it.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from skeet.config import Settings
from skeet.core.control import ArtefactStored, StrategyPushed
from skeet.core.errors import DecodeError, InvalidInput
from skeet.core.ids import derive_id
from skeet.core.record import Meta, Out, Record
from skeet.core.values import AccountId
from skeet.schemas.codec import Codec
from skeet.streams.reading import messages_until_end, partitions_of, record_of
from skeet.streams.topics import ARTEFACTS

MAX_BYTES = 1024 * 1024
"""Sources are small; data and models belong elsewhere. Also bounds what a hostile part can unpack to."""
PART_BYTES = 200 * 1024
"""Below every broker's default limit of a record (1 MB), with room for its envelope."""
MAIN_FILE = "strategy.py"
OTHER_FILES = ("pyproject.toml", "parameters.json")
LEFT_OUT = frozenset({"__pycache__", "node_modules", "venv", "build", "dist"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """Sources by relative name, with their hash."""

    files: dict[str, bytes]
    content: bytes

    @property
    def hash(self) -> str:
        """SHA-256 over names and contents."""
        return sha256(self.content).hexdigest()


def pack(place: Path) -> Artefact:
    """The sources of a folder with a ``strategy.py``, or of one file: ``*.py``, ``pyproject.toml``, ``parameters.json``.

    Hidden folders, caches and environments are left out.

    Raises
    ------
    InvalidInput
        no strategy there, a link that leads outside, or more than :data:`MAX_BYTES`.
    """
    files = {MAIN_FILE: place.read_bytes()} if place.is_file() else dict(_sources(place))
    if MAIN_FILE not in files:
        raise InvalidInput(f"{place} has no {MAIN_FILE}; `skeet strategy new NAME` writes one, or name a single file")
    content = b"".join(_framed(name.encode()) + _framed(files[name]) for name in sorted(files))
    if len(content) > MAX_BYTES:
        largest = max(files, key=lambda name: len(files[name]))
        raise InvalidInput(
            f"{place} holds {len(content):,} bytes of sources, the limit is {MAX_BYTES:,} (largest: {largest}); "
            "keep data out of the folder, or make a package of it and start it as module:Class"
        )
    return Artefact(files=files, content=content)


def parts(artefact: Artefact) -> list[ArtefactStored]:
    """What is written to the topic."""
    packed = zlib.compress(artefact.content, 9)
    pieces = [packed[at : at + PART_BYTES] for at in range(0, len(packed), PART_BYTES)]
    return [
        ArtefactStored(artefact=artefact.hash, part=number, parts=len(pieces), payload=piece)
        for number, piece in enumerate(pieces)
    ]


def joined(found: Iterable[ArtefactStored], wanted: str) -> Artefact:
    """The artefact of these parts, in any order, repeated or not.

    Raises
    ------
    InvalidInput
        a part is missing.
    DecodeError
        the bytes are not those that the hash names.
    """
    pieces = {part.part: part for part in found if part.artefact == wanted}
    count = next(iter(pieces.values())).parts if pieces else 0
    if not count or not set(range(count)) <= set(pieces):
        raise InvalidInput(
            f"artefact {wanted[:12]} is not in {ARTEFACTS.name} ({len(pieces)} of {count} parts): push it"
        )
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(b"".join(pieces[number].payload for number in range(count)), MAX_BYTES + 1)
    except zlib.error as error:
        raise DecodeError(f"artefact {wanted[:12]} cannot be unpacked: {error}") from error
    if sha256(content).hexdigest() != wanted:
        raise DecodeError(
            f"artefact {wanted[:12]}: its bytes in {ARTEFACTS.name} have another hash; nobody may run them"
        )
    return Artefact(files=dict(_unframed(content)), content=content)


def unpack(artefact: Artefact, folder: Path) -> None:
    """Write the files below a folder, in place of what is there.

    Raises
    ------
    InvalidInput
        a name leads outside of the folder.
    """
    for name in artefact.files:
        if name.startswith("/") or ".." in Path(name).parts:
            raise InvalidInput(f"artefact {artefact.hash[:12]} holds {name!r}, which leads outside of its folder")
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in artefact.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def artefact_outs(artefact: Artefact, meta: Meta) -> list[Out[Any]]:
    """The records that store it; each part has a key of its own, so that compaction keeps one copy of each."""
    return [
        Out(
            topic=ARTEFACTS.name,
            key=f"{part.artefact}/{part.part}",
            event=part,
            meta=_of_part(meta, part),
        )
        for part in parts(artefact)
    ]


def fetch(settings: Settings, codec: Codec, wanted: str) -> Artefact:
    """The artefact of this hash, from the log; see :func:`joined`."""
    return joined(_stored(settings, codec, wanted), wanted)


def known_versions(records: Iterable[Record[Any]], strategy: str) -> dict[int, Record[StrategyPushed]]:
    """The versions of a strategy by number, in order; of two pushes that raced for a number the first holds."""
    found: dict[int, Record[StrategyPushed]] = {}
    for record in records:
        if isinstance(record.event, StrategyPushed) and record.event.strategy == strategy:
            found.setdefault(record.event.version, record)
    return dict(sorted(found.items()))


def _stored(settings: Settings, codec: Codec, wanted: str) -> Iterator[ArtefactStored]:
    for message in messages_until_end(settings, partitions_of(settings, [ARTEFACTS])):
        if (message.key() or b"").startswith(wanted.encode()):
            event = record_of(codec, message, settings.kafka.topic_prefix).event
            if isinstance(event, ArtefactStored):
                yield event


def _sources(folder: Path) -> Iterator[tuple[str, bytes]]:
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is no folder and no file")
    root = folder.resolve()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if any(part.startswith(".") or part in LEFT_OUT for part in name.parts) or not path.is_file():
            continue
        if path.suffix == ".py" or str(name) in OTHER_FILES:
            if not path.resolve().is_relative_to(root):
                raise InvalidInput(f"{path} is a link to {path.resolve()}, outside of {folder}: copy the file")
            yield name.as_posix(), path.read_bytes()


def _framed(raw: bytes) -> bytes:
    return len(raw).to_bytes(4, "big") + raw


def _unframed(content: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    pieces: list[bytes] = []
    while at < len(content):
        end = at + 4 + int.from_bytes(content[at : at + 4], "big")
        pieces.append(content[at + 4 : end])
        at = end
    for name, body in zip(pieces[::2], pieces[1::2], strict=True):
        yield name.decode(), body


def _of_part(meta: Meta, part: ArtefactStored) -> Meta:
    identity = derive_id("artefact", part.artefact, part.part)
    return replace(meta, event_id=identity, correlation_id=identity, causation_id=identity, account_id=AccountId(""))
