"""What a user's own process may ask, and what it is told about it (``t.<tenant>.events.v1``).

Beside these two events that topic carries exact copies of the events of the tenant's accounts. The tenant and the principal
come from the topic a command stood on, never from the command: its envelope is written anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from skeet.core.accounts import Breach
from skeet.core.commands import CancelAllOrders, CancelOrder, SubmitOrder
from skeet.core.ids import outside_command_id
from skeet.core.record import Event, Meta, Record
from skeet.core.values import AccountId, EventId, PrincipalId, TenantId

ALLOWED_COMMANDS: tuple[type[Event], ...] = (SubmitOrder, CancelOrder, CancelAllOrders)
"""Not OpenAccount, which needs a venue's key, and not Deposit, which would make money: operators do both."""

CLIENT_KEY = re.compile(r"[!-~]{1,64}")
"""Printable, so that it can stand in any log; short, because it is hashed and not stored."""

MAX_TEXT = 128
"""Of the free texts in a command (book, rule, code version, ids): they are kept for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandForwarded(Event):
    """The command of this client key stood at ``at`` and is before the desk as ``command_id``, which is the order's id."""

    client_key: str
    command_id: str
    command: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRefused(Event):
    """The record at ``at`` was not passed on, for all these reasons. ``client_key`` and ``command`` are empty when it could
    not be read."""

    client_key: str
    command: str
    at: str
    breaches: tuple[Breach, ...]


def principal_of(tenant_id: str) -> PrincipalId:
    """Who a tenant's own processes are, to the broker and in commands."""
    return PrincipalId(f"t.{tenant_id}")


def refusals(tenant_id: str, record: Record[Event], key: str, owner: str | None) -> tuple[Breach, ...]:
    """Every reason why the tenant's record is not passed on; none: it may be.

    ``key`` is the record's key and ``owner`` the tenant of the account it names, None for an account that is not open.
    """
    return tuple(_refusals(tenant_id, record, key, owner))


def _refusals(tenant_id: str, record: Record[Event], key: str, owner: str | None) -> Iterator[Breach]:
    event, meta = record.event, record.meta
    if type(event) not in ALLOWED_COMMANDS:
        allowed = ", ".join(sorted(kind.__name__ for kind in ALLOWED_COMMANDS))
        yield _breach("command", "not something that a tenant's process may write", type(event).__name__, allowed)
    if meta is None:
        yield _breach("format", "a command carries an envelope", "none", "the fields of its schema")
        return
    if not CLIENT_KEY.fullmatch(meta.event_id):
        yield _breach("client_key", "event_id is your client key", meta.event_id[:MAX_TEXT], "1 to 64 printable ASCII")
    if meta.account_id != key:
        yield _breach("key", "the record's key is no account_id", key[:MAX_TEXT], meta.account_id[:MAX_TEXT])
    if owner != tenant_id:
        # Says no more than for an account that does not exist: another tenant's accounts are not to be guessed.
        yield _breach(
            "account", "the account is not open", meta.account_id[:MAX_TEXT], "an open account of this tenant"
        )
    for name in ("book_id", "instrument_id", "order_id", "code_version", "rule"):
        text = getattr(event, name, "")
        if len(text) > MAX_TEXT:
            yield _breach("format", f"{name} is too long", str(len(text)), f"at most {MAX_TEXT} characters")


def forwarded_meta(tenant_id: str, record: Record[Event], meta: Meta) -> Meta:
    """The envelope under which the command goes on: everything that says who and when is ours."""
    principal = principal_of(tenant_id)
    command_id = outside_command_id(tenant_id, principal, meta.event_id)
    return Meta(
        event_id=command_id,
        tenant_id=TenantId(tenant_id),
        account_id=AccountId(meta.account_id),
        principal_id=principal,
        correlation_id=command_id,
        causation_id=command_id,
        cause_at=str(record.at),
        ts_event=record.log_ns,
        ts_init=record.log_ns,
    )


def answer_meta(tenant_id: str, account_id: str, at: str, log_ns: int, identity: EventId) -> Meta:
    """The envelope of an answer of intake."""
    return Meta(
        event_id=identity,
        tenant_id=TenantId(tenant_id),
        account_id=AccountId(account_id),
        principal_id=PrincipalId("intake"),
        correlation_id=identity,
        causation_id=identity,
        cause_at=at,
        ts_event=log_ns,
        ts_init=log_ns,
    )


def _breach(control: str, detail: str, observed: str, allowed: str) -> Breach:
    return Breach(control=control, detail=detail, observed=observed, allowed=allowed)
