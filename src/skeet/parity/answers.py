"""A: every command and every report that the desk has read was answered by an event that names it as its cause.

D begins with the recorded events and cannot see an input that left none behind; this begins with the inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from skeet.agents.desk import GROUP
from skeet.config import Settings
from skeet.core.commands import CancelAllOrders
from skeet.core.record import Record
from skeet.core.reports import BalanceReported, CancelAttempted
from skeet.schemas.codec import Codec
from skeet.streams.progress import committed_positions
from skeet.streams.reading import records_until_end
from skeet.streams.topics import ACCOUNT_EVENTS, COMMANDS, REPORTS, topic_name
from skeet.verify.findings import Check

MAY_BE_SILENT = (CancelAllOrders, BalanceReported, CancelAttempted)
"""What may rightly cause nothing: no order is open, the balance is as we know it, the gateway's note to itself."""

Place = tuple[str, int]
"""A topic's name without prefix, and the partition."""


def compare(
    events: Iterable[Record[Any]], inputs: Iterable[Record[Any]], read_to: Mapping[Place, int], check: Check
) -> None:
    """Hold the inputs below ``read_to`` (the desk's next offsets) against the causes that the events name."""
    causes = {record.meta.cause_at for record in events if record.meta is not None}
    for record in inputs:
        if record.at.offset >= read_to.get((record.at.topic, record.at.partition), 0):
            continue
        kind = type(record.event).__name__
        if str(record.at) in causes:
            check.count("inputs")
        elif isinstance(record.event, MAY_BE_SILENT):
            check.count("inputs that ask for nothing")
        else:
            account = record.meta.account_id if record.meta is not None else "no account"
            check.differs(f"{record.at}: the desk has read this {kind} of {account}, and no event answers it")


def check_answers(settings: Settings, codec: Codec, check: Check) -> None:
    """Read the desk's positions first, then events, then inputs: whatever is answered by then is seen to be."""
    names = {topic_name(topic, settings.kafka): topic.name for topic in (COMMANDS, REPORTS)}
    committed = committed_positions(settings, GROUP)
    read_to = {(names[topic], number): offset for (topic, number), offset in committed.items() if topic in names}
    events = records_until_end(settings, codec, [ACCOUNT_EVENTS])
    compare(events, records_until_end(settings, codec, [COMMANDS, REPORTS]), read_to, check)
