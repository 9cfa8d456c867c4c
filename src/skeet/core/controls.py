"""What operators have decided, as the desk acts on it: kill switches and limits, folded from ``control.events.v1``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from skeet.core.control import KillSwitchSet, LimitsSet, StrategyHalted, StrategyStarted, StrategyStopped
from skeet.core.record import Event

PLATFORM = "platform"
TURNED_AWAY = "DeadLetter"
NEWER = "UnknownEvent"
"""What ControlApplied names in the place of a record's type: bytes that are no record, or a newer version's decision."""
NOT_UNDERSTOOD = "~newer"
"""Where the switch stands that a decision of a newer version sets; no scope that anybody can name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who may command a strategy's book: the instance's newest start (its control offset), and whether it still runs."""

    epoch: int
    running: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The control topic folded up to ``offset`` (included; -1: nothing yet). ``owners`` by instance, which is the book."""

    offset: int = -1
    kills: Mapping[str, KillSwitchSet] = field(default_factory=dict)
    limits: Mapping[str, LimitsSet] = field(default_factory=dict)
    owners: Mapping[str, Owner] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits that hold for one account, and the highest version that took part (0: only defaults)."""

    max_quantity: Decimal
    max_notional: Decimal
    version: int


def scopes_of(tenant_id: str, account_id: str) -> tuple[str, str, str]:
    """The scopes an account is in, widest first."""
    return PLATFORM, f"tenant:{tenant_id}", f"account:{account_id}"


def apply_control(control: Control, event: Event, offset: int) -> Control:
    """The control after one more event; events without meaning for risk only move the offset."""
    match event:
        case KillSwitchSet():
            return replace(control, offset=offset, kills={**control.kills, event.scope: event})
        case LimitsSet():
            return replace(control, offset=offset, limits={**control.limits, event.scope: event})
        case StrategyStarted(instance_id=name):
            return replace(control, offset=offset, owners={**control.owners, name: Owner(epoch=offset)})
        case StrategyStopped(instance_id=name) | StrategyHalted(instance_id=name) if name in control.owners:
            ended = replace(control.owners[name], running=False)
            return replace(control, offset=offset, owners={**control.owners, name: ended})
        case _:
            return replace(control, offset=offset)


def apply_unreadable(control: Control, at: str, offset: int, *, newer: bool) -> Control:
    """The control after a record that cannot be acted on. Bytes that are no record decide nothing.

    A decision of a ``newer`` version may be anything, a kill switch too: until that version runs, no order is let out.
    """
    if not newer:
        return replace(control, offset=offset)
    reason = f"{at} holds a decision that this version does not know; run the version that wrote it"
    kill = KillSwitchSet(scope=PLATFORM, active=True, cancel_open=False, reason=reason)
    return replace(control, offset=offset, kills={**control.kills, NOT_UNDERSTOOD: kill})


def active_kills(control: Control, tenant_id: str, account_id: str) -> tuple[KillSwitchSet, ...]:
    """The switches that are on for the account, widest scope first."""
    found = (control.kills.get(scope) for scope in (NOT_UNDERSTOOD, *scopes_of(tenant_id, account_id)))
    return tuple(kill for kill in found if kill is not None and kill.active)


def limits_for(control: Control, tenant_id: str, account_id: str, default: Limits) -> Limits:
    """The tightest limit of the account's scopes; where none of them sets one, the default."""
    set_ = [control.limits[scope] for scope in scopes_of(tenant_id, account_id) if scope in control.limits]
    quantities = [limits.max_quantity for limits in set_ if limits.max_quantity is not None]
    notionals = [limits.max_notional for limits in set_ if limits.max_notional is not None]
    return Limits(
        max_quantity=min(quantities, default=default.max_quantity),
        max_notional=min(notionals, default=default.max_notional),
        version=max((limits.version for limits in set_), default=default.version),
    )
