"""Every event type SKEET writes, and the committed schema of each."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from skeet.core import accounts, commands, control, journal, market, outside, platform, reports, snapshots
from skeet.core.errors import InvalidInput
from skeet.core.record import Event
from skeet.schemas.avro import namespace, schema_of

MARKET_TRADES: tuple[type[Event], ...] = (market.Trade,)
MARKET_QUOTES: tuple[type[Event], ...] = (market.Quote,)
MARKET_BOOKS: tuple[type[Event], ...] = (market.BookSnapshot, market.BookDelta)
MARKET_STATUS: tuple[type[Event], ...] = (
    market.GapOpened,
    market.GapClosed,
    market.MarketDataStale,
    market.MarketDataResumed,
    market.VenueStatusChanged,
)
COMMANDS: tuple[type[Event], ...] = (
    commands.OpenAccount,
    commands.Deposit,
    commands.SubmitOrder,
    commands.CancelOrder,
    commands.CancelAllOrders,
)
REPORTS: tuple[type[Event], ...] = (
    reports.SubmitAttempted,
    reports.SubmitAcknowledged,
    reports.SubmitRejected,
    reports.SubmitNotSent,
    reports.SubmitOutcomeUnknown,
    reports.OrderFoundAbsent,
    reports.FillReported,
    reports.CancelAttempted,
    reports.CancelReported,
    reports.ExpiryReported,
    reports.CancelRejectedByVenue,
    reports.BalanceReported,
    reports.ExternalOrderSeen,
)
ACCOUNT_EVENTS: tuple[type[Event], ...] = (
    accounts.AccountOpened,
    accounts.FundsDeposited,
    accounts.CommandDenied,
    accounts.OrderAuthorized,
    accounts.OrderDenied,
    accounts.OrderSubmitted,
    accounts.OrderAccepted,
    accounts.OrderRejected,
    accounts.OrderOutcomeUnknown,
    accounts.OrderAbsent,
    accounts.OrderFilled,
    accounts.OrderCanceled,
    accounts.OrderExpired,
    accounts.OrderEndAwaitsFills,
    accounts.CancelAuthorized,
    accounts.CancelRejected,
    accounts.DuplicateIgnored,
    accounts.ReportIgnored,
    accounts.BalanceDiffered,
    accounts.ExternalOrderFound,
    accounts.ControlApplied,
    accounts.RulesApplied,
    accounts.StateMarked,
    accounts.AccountHalted,
)
CONTROL: tuple[type[Event], ...] = (
    control.Genesis,
    control.KillSwitchSet,
    control.LimitsSet,
    control.StrategyStarted,
    control.StrategyStopped,
    control.StrategyHalted,
    control.StrategyPushed,
    control.SessionMark,
)
PLATFORM: tuple[type[Event], ...] = (
    platform.GroupStalled,
    platform.GroupLagged,
    platform.ProcessRestarted,
    platform.IngestStopped,
    platform.IngestResumed,
    platform.SegmentSealed,
)
JOURNAL: tuple[type[Event], ...] = (journal.JournalOpened, journal.JournalBegun, journal.MergeRecorded)
TENANT_COMMANDS: tuple[type[Event], ...] = outside.ALLOWED_COMMANDS
OUTSIDE: tuple[type[Event], ...] = (outside.CommandForwarded, outside.CommandRefused)
TENANT_EVENTS: tuple[type[Event], ...] = (*OUTSIDE, *ACCOUNT_EVENTS)
OTHERS: tuple[type[Event], ...] = (
    market.RawFrame,
    market.Bar,
    market.Reference,
    market.InstrumentDefined,
    market.Tick,
    market.Signal,
    market.LateRecord,
    control.DeadLetter,
    control.DeadLetterRedriven,
    control.AccountSnapshot,
    journal.AgentCheckpointed,
    snapshots.MachineSnapshot,
    control.ArtefactStored,
)
EVENTS: tuple[type[Event], ...] = (
    *MARKET_TRADES, *MARKET_QUOTES, *MARKET_BOOKS, *MARKET_STATUS, *COMMANDS, *REPORTS, *ACCOUNT_EVENTS, *CONTROL, *PLATFORM,
    *JOURNAL, *OUTSIDE, *OTHERS,
)  # fmt: skip


def full_name(event_class: type[Event]) -> str:
    """``skeet.market.Trade``: the record's name in Avro and in registry subjects."""
    return f"{namespace(event_class)}.{event_class.__name__}"


EVENT_BY_NAME: dict[str, type[Event]] = {full_name(event): event for event in EVENTS}


def committed_schema(event_class: type[Event]) -> dict[str, Any]:
    """The schema in ``avsc/``, which is what is registered and written.

    Raises
    ------
    InvalidInput
        when the class has no committed schema; ``python -m skeet.schemas`` writes it.
    """
    path = files("skeet.schemas") / "avsc" / f"{full_name(event_class)}.avsc"
    if not path.is_file():
        raise InvalidInput(f"{full_name(event_class)} has no committed schema; run `python -m skeet.schemas`")
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def rendered_schema(event_class: type[Event]) -> str:
    """What the committed file must hold, generated from the class."""
    return json.dumps(schema_of(event_class), indent=2) + "\n"
