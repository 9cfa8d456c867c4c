"""Dead letters as the log holds them, and sending one again in one transaction with the record that says so."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from skeet.cli.desk import command_meta
from skeet.cli.log import parse_time, resolve_topic
from skeet.cli.output import plain
from skeet.config import Settings
from skeet.core.control import DeadLetter, DeadLetterRedriven
from skeet.core.errors import InvalidInput
from skeet.core.record import Out
from skeet.schemas.codec import HEADER, Codec
from skeet.streams.reading import Partition, messages_until_end, records_until_end
from skeet.streams.registry import registered_codec
from skeet.streams.topics import DEAD_LETTERS, MARKET_RAW, TOPIC_BY_NAME, topic_name
from skeet.streams.transactional import Encoded, Transactor

MIN_ID = 8
TRANSACTIONAL_ID = "dead-letters-redrive"
"""One for the whole installation: of two people who redrive at once, one is fenced, and nothing is sent twice."""

Place = tuple[str, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One dead letter. ``redriven_at`` is where it says that its original was sent again; empty: it was not."""

    id: str
    event: DeadLetter
    log_ns: int
    redriven_at: str = ""

    @property
    def size(self) -> int:
        """Bytes of the whole record; more than are kept where it was cut off."""
        return max(self.event.size, len(self.event.value))

    @property
    def origin(self) -> Place:
        """Where the original stood."""
        return self.event.topic, self.event.partition, self.event.offset


def read(
    settings: Settings, codec: Codec | None = None, *, topic: str = "", role: str = "", since: str = ""
) -> list[Letter]:
    """The letters, oldest first, each id once.

    Raises
    ------
    InvalidInput
        there is no such topic, or ``since`` is no time.
    """
    wanted = resolve_topic(settings, topic).name if topic else ""
    since_ns = parse_time(since, "--since", "a UTC time such as 2026-01-31T14:05") if since else 0
    found: dict[str, tuple[DeadLetter, int]] = {}
    redriven: dict[Place, str] = {}
    for record in records_until_end(settings, codec or registered_codec(settings), [DEAD_LETTERS]):
        match record.event:
            case DeadLetter() as event:
                found.setdefault(record.event_id, (event, record.log_ns))
            case DeadLetterRedriven() as again:
                redriven.setdefault((again.topic, again.partition, again.offset), str(record.at))
    letters = (
        Letter(id=i, event=e, log_ns=ns, redriven_at=redriven.get((e.topic, e.partition, e.offset), ""))
        for i, (e, ns) in found.items()
    )
    return [
        letter
        for letter in letters
        if wanted in ("", letter.event.topic) and role in ("", letter.event.role) and letter.log_ns >= since_ns
    ]


def find(settings: Settings, letter_id: str, codec: Codec | None = None) -> Letter:
    """The letter of this id or of its beginning.

    Raises
    ------
    InvalidInput
        none has it, more than one begins so, or too little of it is given.
    """
    if len(letter_id) < MIN_ID:
        raise InvalidInput(
            f"id is {letter_id!r}; expected at least {MIN_ID} digits of one in `skeet dead-letters list`"
        )
    found = [letter for letter in read(settings, codec) if letter.id.startswith(letter_id.lower())]
    if len(found) != 1:
        what = "no dead letter has it" if not found else f"{len(found)} dead letters begin so"
        raise InvalidInput(f"id is {letter_id!r}: {what}; `skeet dead-letters list` shows them")
    return found[0]


def decoded(settings: Settings, letter: Letter) -> dict[str, Any]:
    """What the kept bytes read as by this version: the frame's head, then the event or why it is none."""
    value = letter.event.value
    if len(value) < HEADER.size:
        return {"reads as": f"{len(value)} bytes; a record has at least {HEADER.size}"}
    magic, schema_id = HEADER.unpack_from(value)
    head: dict[str, Any] = {"magic": magic, "schema id": schema_id}
    try:
        event, meta = registered_codec(settings).decode(value)
    except InvalidInput as error:
        return head | {"reads as": f"{type(error).__name__}: {error}"}
    return head | {"reads as": type(event).__name__, "event": plain(event), "meta": plain(meta) if meta else None}


def redrive(settings: Settings, letter: Letter) -> tuple[str, bool]:
    """Send the original again, unless it was before. Returns where that is recorded, and whether it was done now.

    Raises
    ------
    InvalidInput
        the letter is of a venue's frame, or its original is cut off here and gone from its topic.
    """
    topic, partition, offset = letter.origin
    if topic == MARKET_RAW.name or topic not in TOPIC_BY_NAME:
        raise InvalidInput(f"dead letter {letter.id} is of a frame of {topic}: `skeet feed replay` reads frames again")
    codec = registered_codec(settings)
    transactor = Transactor(settings, codec, TRANSACTIONAL_ID)
    transactor.open([DEAD_LETTERS])  # whoever else redrives is fenced from here on, so that what is read now stays true
    before = find(settings, letter.id, codec)
    if before.redriven_at:
        return before.redriven_at, False
    event = DeadLetterRedriven(topic=topic, partition=partition, offset=offset)
    meta = command_meta(settings, "", f"redrive {letter.id}", time.time_ns())
    original = Encoded(topic=topic, key=letter.event.key, value=_original(settings, letter))
    transactor.commit([original, Out(topic=DEAD_LETTERS.name, key=topic, event=event, meta=meta)])
    return find(settings, letter.id, codec).redriven_at, True


def _original(settings: Settings, letter: Letter) -> bytes:
    if letter.size == len(letter.event.value):
        return letter.event.value
    topic, number, offset = letter.origin
    place: Partition = (topic_name(TOPIC_BY_NAME[topic], settings.kafka), number)
    message = next(messages_until_end(settings, [place], {place: offset}), None)
    if message is None or message.offset() != offset:
        kept, size = len(letter.event.value), letter.size
        raise InvalidInput(
            f"dead letter {letter.id} keeps {kept} of {size} bytes, and {topic} no longer has the record"
        )
    return message.value() or b""
