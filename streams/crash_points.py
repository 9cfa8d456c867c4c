"""Named places at which a process can be made to die or to freeze, so that what a crash leaves behind is tested, not hoped.

Off unless ``SKEET_CHAOS__ENABLED`` or ``SKEET_CHAOS__CRASH_AT`` is set; then :func:`reach` costs one look-up of a global.
Enabled, a point is armed by a file named like it in ``chaos/armed``, or by the setting from the start. The passage that
was asked for first writes ``chaos/spent/NAME``, then the process sends itself SIGKILL (nothing is flushed, no handler
runs) or SIGSTOP. A spent point does nothing until it is armed again: what is restarted does not crash for ever.

This is the one global that changes what a process does; nothing that is written depends on it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from skeet.config import Settings
from skeet.core.errors import InvalidInput
from skeet.process import logger


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashPoint:
    """A place in a role; ``meaning`` says what is done there and what is not."""

    name: str
    role: str
    meaning: str


def _point(name: str, meaning: str) -> CrashPoint:
    return CrashPoint(name=name, role=name.partition(".")[0], meaning=meaning)


DESK_BEFORE_COMMIT = _point("desk.before_commit", "decided; nothing of it is in the log")
DESK_IN_TRANSACTION = _point("desk.in_transaction", "events and input positions are sent, the commit is not asked for")
DESK_AFTER_COMMIT = _point("desk.after_commit", "committed; the desk has not noted where the log ends now")
DESK_IN_SNAPSHOT = _point("desk.in_snapshot", "accounts of a snapshot are sent, its manifest is not")
GATEWAY_BEFORE_ATTEMPT = _point("gateway.before_attempt", "orders were read; no attempt is in the log")
GATEWAY_IN_TRANSACTION = _point("gateway.in_transaction", "reports are sent to Kafka, their commit is not asked for")
GATEWAY_AFTER_ATTEMPT_COMMIT = _point("gateway.after_attempt_commit", "attempts are in the log, nothing was sent")
GATEWAY_BETWEEN_SENDS = _point("gateway.between_sends", "one order of a batch is being sent, the next is not")
GATEWAY_AFTER_SOCKET_WRITE = _point("gateway.after_socket_write", "the venue has the order, no answer was read")
GATEWAY_AFTER_ANSWER = _point("gateway.after_answer", "the venue answered, no report of it is queued")
GATEWAY_BEFORE_REPORT = _point("gateway.before_report", "outcomes or fills are queued, their transaction is not begun")
GATEWAY_AFTER_REPORT = _point("gateway.after_report", "a report is in the log, the gateway does not know it yet")
GATEWAY_AFTER_CANCEL_ATTEMPT = _point(
    "gateway.after_cancel_attempt", "a cancel's attempt is in the log, nothing was sent"
)
SIM_BEFORE_ANSWER = _point("sim.before_answer", "the exchange has taken an order and answered nobody")
FEED_BETWEEN_SENDS = _point("feed.between_sends", "one event of a frame or of a REST answer is queued, the next is not")
FEED_IN_GAP_FILL = _point("feed.in_gap_fill", "a gap is reported open, what fills it was fetched and not published")
WORKER_BEFORE_ACKNOWLEDGED = _point("worker.before_acknowledged", "outputs are queued, none of them acknowledged")
WORKER_BEFORE_OFFSET_COMMIT = _point(
    "worker.before_offset_commit", "outputs are acknowledged, input offsets are not committed"
)
STRATEGY_BEFORE_COMMANDS = _point("strategy.before_commands", "a handler returned commands, none is queued")
STRATEGY_AFTER_COMMANDS = _point(
    "strategy.after_commands", "commands wait behind their journal's entry, which is queued"
)
STRATEGY_AFTER_JOURNAL = _point("strategy.after_journal", "the journal's entry is in the log, its commands are not")
STRATEGY_IN_CHECKPOINT = _point(
    "strategy.in_checkpoint", "all before a checkpoint is in the log, the checkpoint is not"
)
STRATEGY_BEFORE_OFFSET_COMMIT = _point(
    "strategy.before_offset_commit", "commands are acknowledged, input offsets are not committed"
)
STRATEGIES_BEFORE_START = _point("strategies.before_start", "an instance is wanted, its process is not started")
STRATEGIES_AFTER_START = _point("strategies.after_start", "an instance's process runs, nobody looks after it")
STRATEGIES_BEFORE_WITHDRAW = _point(
    "strategies.before_withdraw", "a stopped instance ended, its orders are not canceled"
)
INTAKE_IN_TRANSACTION = _point("intake.in_transaction", "a tenant's command and its answer are sent, not committed")
EGRESS_IN_TRANSACTION = _point("egress.in_transaction", "events and answers for tenants are sent, not committed")
POSTGRES_BEFORE_COMMIT = _point("projection-postgres.before_commit", "rows and position are written, not committed")
POSTGRES_AFTER_COMMIT = _point(
    "projection-postgres.after_commit", "the store has committed, the group's offsets have not"
)
CLICKHOUSE_AFTER_RANGE = _point("projection-clickhouse.after_range", "the range is marked, none of it is inserted")
CLICKHOUSE_IN_INSERT = _point("projection-clickhouse.in_insert", "one block of a flush is inserted, the next is not")
CLICKHOUSE_AFTER_INSERT = _point("projection-clickhouse.after_insert", "all is inserted, the offsets are not committed")
CLICKHOUSE_AFTER_CHECKPOINT = _point("projection-clickhouse.after_checkpoint", "offsets are committed past the blocks")
ARCHIVE_BEFORE_MANIFEST = _point("archive.before_manifest", "a segment's file is in place, its manifest is not")
ARCHIVE_AFTER_ANNOUNCED = _point(
    "archive.after_announced", "SegmentSealed is in the log, the manifest does not know it"
)
REGISTRY_AFTER_APPEND = _point("registry.after_append", "a schema is in the log, neither applied nor answered")
SUPERVISOR_AFTER_START = _point("supervisor.after_start", "a process runs that state.json does not name")

CATALOGUE: tuple[CrashPoint, ...] = tuple(value for value in list(globals().values()) if isinstance(value, CrashPoint))
BY_NAME: Mapping[str, CrashPoint] = {point.name: point for point in CATALOGUE}


class Action(StrEnum):
    """What the process does to itself: ends at once, or freezes until somebody sends SIGCONT."""

    KILL = "kill"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arming:
    """The ``nth`` passage counts, from when the process first sees the arming."""

    nth: int = 1
    action: Action = Action.KILL


class ChaosDirectory:
    """Where points are armed and spent, shared by every process of an installation."""

    def __init__(self, directory: Path) -> None:
        self._armed = directory / "armed"
        self._spent = directory / "spent"

    def create(self) -> None:
        """Make the folders: a process that is confined to files that exist must find them before it is."""
        self._armed.mkdir(parents=True, exist_ok=True)
        self._spent.mkdir(parents=True, exist_ok=True)

    def arm(self, point: CrashPoint, arming: Arming) -> None:
        """Arm it, spent or not."""
        self.create()
        draft = self._armed / f".{point.name}"
        draft.write_text(f"{arming.nth} {arming.action}")
        draft.replace(self._armed / point.name)
        (self._spent / point.name).unlink(missing_ok=True)

    def disarm(self, point: CrashPoint) -> None:
        """Nothing happens there any more; harmless where nothing was armed."""
        (self._armed / point.name).unlink(missing_ok=True)

    def arming(self, name: str) -> Arming | None:
        """How the point is armed; None when it is not, or was spent."""
        path = f"{self._armed}/{name}"
        try:
            os.stat(path)  # noqa: PTH116 # an order of magnitude cheaper than a failing open, and there is hardly ever a file
            nth, action = Path(path).read_text().split()
            return None if self.spent_by(name) else Arming(nth=int(nth), action=Action(action))
        except (OSError, ValueError):
            return None

    def spend(self, name: str) -> bool:
        """Note that this process fires the point; False when another one did, or when it cannot be noted."""
        try:
            with (self._spent / name).open("x") as file:
                file.write(f"{os.getpid()}\n")
        except OSError:
            return False
        with suppress(OSError):  # spent is what counts
            (self._armed / name).unlink()
        return True

    def spent_by(self, name: str) -> int | None:
        """Pid of the process that fired the point; None when none did since it was armed."""
        try:
            text = (self._spent / name).read_text()
        except OSError:
            return None
        return int(text) if text.endswith("\n") else None


class _Watch:
    """Counts the passages of this process and fires."""

    def __init__(self, directory: ChaosDirectory, configured: Mapping[str, Arming]) -> None:
        self._directory = directory
        self._configured = configured
        self._passed: dict[str, int] = {}

    def passed(self, point: CrashPoint) -> None:
        arming = self._directory.arming(point.name) or self._configured.get(point.name)
        if arming is None:
            self._passed.pop(point.name, None)
            return
        count = self._passed[point.name] = self._passed.get(point.name, 0) + 1
        if count < arming.nth:
            return
        del self._passed[point.name]
        if self._directory.spend(point.name):
            logger().critical("crash point", point=point.name, action=arming.action, passage=count)
            _end(arming.action)


_watch: _Watch | None = None


def reach(point: CrashPoint) -> None:
    """This process is at the point. Returns at once unless the point is armed; after a SIGSTOP, once it is continued."""
    if _watch is not None:
        _watch.passed(point)


def chaos_directory(settings: Settings) -> ChaosDirectory:
    """The installation's directory of armed points."""
    return ChaosDirectory(_path(settings))


def chaos_environment(settings: Settings) -> dict[str, str]:
    """What a process with an environment of its own needs to have the same points; empty while they are off."""
    chaos = settings.chaos
    if not (chaos.enabled or chaos.crash_at):
        return {}
    return {
        "SKEET_CHAOS__ENABLED": "1",
        "SKEET_CHAOS__CRASH_AT": chaos.crash_at,
        "SKEET_CHAOS__DIRECTORY": str(_path(settings).absolute()),
    }


def install(settings: Settings) -> None:
    """Let this process have crash points, if the settings say so; called once, before its role begins.

    Raises
    ------
    InvalidInput
        a point that does not exist, or faults on purpose where orders may go to a live venue.
    """
    global _watch  # noqa: PLW0603 # see the module
    chaos = settings.chaos
    if not (chaos.enabled or chaos.crash_at):
        _watch = None
        return
    if settings.allow_live:
        raise InvalidInput(
            "SKEET_CHAOS__ENABLED and SKEET_ALLOW_LIVE are both set: faults are for simulated venues only"
        )
    directory = chaos_directory(settings)
    directory.create()
    _watch = _Watch(directory, parse_armings(chaos.crash_at))


def parse_armings(text: str) -> dict[str, Arming]:
    """``NAME`` or ``NAME:N``, separated by commas.

    Raises
    ------
    InvalidInput
        names what is not a point, or not a count.
    """
    found: dict[str, Arming] = {}
    for word in filter(None, map(str.strip, text.split(","))):
        name, colon, count = word.partition(":")
        point_named(name)
        if colon and not (count.isdigit() and int(count) > 0):
            raise InvalidInput(f"SKEET_CHAOS__CRASH_AT has {word!r}; expected a passage from 1 on, such as {name}:3")
        found[name] = Arming(nth=int(count) if colon else 1)
    return found


def point_named(name: str, among: Iterable[CrashPoint] = CATALOGUE) -> CrashPoint:
    """The point of this name.

    Raises
    ------
    InvalidInput
        there is none.
    """
    for point in among:
        if point.name == name:
            return point
    raise InvalidInput(f"crash point is {name!r}; expected one that `skeet chaos points` lists")


def _path(settings: Settings) -> Path:
    return settings.chaos.directory or settings.data / "chaos"


def _end(action: Action) -> None:
    os.kill(os.getpid(), signal.SIGKILL if action is Action.KILL else signal.SIGSTOP)
    while action is Action.KILL:
        time.sleep(1)  # whichever thread this is, nothing more happens in it
