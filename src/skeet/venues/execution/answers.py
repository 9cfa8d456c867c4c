"""Whose word an answer is: what ccxt raised, sorted into refused, not sent, unknown.

The rule is Binance's own: a 4xx with the venue's error code is a refusal, a 5xx or no answer says nothing about what was
executed. Everything that is not provably a refusal is unknown.
"""

from __future__ import annotations

import re

from skeet.streams.ports import NotSent, Rejected, Unknown
from skeet.venues.execution.session import SendRefused, Written

UNPROVEN_CODES = frozenset({"-1000", "-1001", "-1006", "-1007"})
"""Unknown error, disconnected, unexpected response, timeout: Binance says that the execution status is unknown."""
DUPLICATE_TEXTS = ("Duplicate order sent", "DuplicateOrderId")
"""The order is there already; whether it is ours is learned by asking."""
NO_SUCH_ORDER_CODES = frozenset({"-2011", "-2013"})
TOO_MANY_REQUESTS = frozenset({418, 429})

_CODE = re.compile(r'"code"\s*:\s*(-?\d+)')
_MESSAGE = re.compile(r'"msg"\s*:\s*"([^"]*)"')


def code_of(error: Exception) -> str:
    """The venue's error code; where ccxt kept only its text, the name that ccxt gave it."""
    found = _CODE.search(str(error))
    return found[1] if found else type(error).__name__


def reason_of(error: Exception) -> str:
    """The venue's text, without ccxt's prefix and without the request's address (it holds the signature)."""
    text = str(error)
    found = _MESSAGE.search(text)
    return (found[1] if found else text.partition(" ")[2].split("?", 1)[0] or type(error).__name__)[:200]


def outcome_of(error: Exception, written: Written) -> Rejected | NotSent | Unknown:
    """What follows from an exception of a request that may have been written."""
    if not written.written_ns:
        reason = str(error) if isinstance(error, SendRefused) else f"{type(error).__name__}: {reason_of(error)}"
        return NotSent(reason=reason[:200])
    if any(text in str(error) or text == type(error).__name__ for text in DUPLICATE_TEXTS):
        return Unknown(reason=f"the venue says duplicate: {reason_of(error)}")
    refused = 400 <= written.status < 500 and _is_venue_word(error)
    if refused and code_of(error) not in UNPROVEN_CODES:
        return Rejected(code=code_of(error), reason=reason_of(error))
    return Unknown(
        reason=f"HTTP {written.status or 'without answer'}, {type(error).__name__}: {reason_of(error)}"[:200]
    )


def _is_venue_word(error: Exception) -> bool:
    """A body with a code, or one of the venue's texts; not a proxy's page, which ccxt names by its status alone."""
    return bool(_CODE.search(str(error))) or type(error).__name__ not in ("ExchangeNotAvailable", "RequestTimeout")
