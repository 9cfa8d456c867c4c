"""Derived identifiers: the same cause always makes the same id, so that reprocessing makes duplicates, never doubles.

Nothing here is random. An id is the first 128 bits of SHA-256 over length-prefixed parts, as 32 hexadecimal digits.
"""

from __future__ import annotations

from hashlib import sha256

from skeet.core.values import AccountId, EventId, OrderId


def derive_id(kind: str, *parts: str | int) -> EventId:
    """The id of the thing of this kind that these parts determine.

    Parts are length-prefixed, so ``("ab", "c")`` and ``("a", "bc")`` differ.
    """
    digest = sha256()
    for part in (kind, *parts):
        encoded = str(part).encode()
        digest.update(len(encoded).to_bytes(4, "big"))
        digest.update(encoded)
    return EventId(digest.hexdigest()[:32])


def strategy_command_id(
    tenant_id: str, account_id: str, instance_id: str, code_version: str, cause_id: str, rule: str, leg: int
) -> EventId:
    """Id of a strategy's command: who, which code, because of what, by which of its rules, which leg."""
    return derive_id("command", tenant_id, account_id, instance_id, code_version, cause_id, rule, leg)


def outside_command_id(tenant_id: str, principal_id: str, client_key: str) -> EventId:
    """Id of a command from a person or an outside process: the same client key is the same command."""
    return derive_id("outside", tenant_id, principal_id, client_key)


def account_event_id(account_id: AccountId, stream_version: int) -> EventId:
    """Id of the account's event number ``stream_version``: a refold after an abort makes the same ids."""
    return derive_id("account-event", account_id, stream_version)


def client_order_id(order_id: OrderId) -> str:
    """The id given to the venue: the order id itself (32 of the 36 characters venues allow), so nothing is lost."""
    return str(order_id)
