"""What a record may hold, so that everything that follows from it can be written, folded and stored.

Commands, control events and reports come from outside the desk. A bound that their fields keep here is one that no ledger
sum, no ``decimal(38,18)``, no ``bigint`` and no text column meets later. Pure: it names what is wrong; whoever asks decides
(a command is refused with all its reasons, anything else becomes a dead letter).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NoReturn

from skeet.core.market import BookDelta, BookSnapshot
from skeet.core.record import Event, MarketEvent, Meta
from skeet.core.values import AMOUNT_SCALE, NS_PER_S

MAX_AMOUNT = Decimal(10) ** 18
"""No single amount is larger. With 18 decimal places it has 36 of the 38 digits of the wire and the stores."""
MAX_BALANCE = 10 * MAX_AMOUNT
"""No deposit may lift an account's balance of one asset beyond this: a tenth of what a column of amounts holds."""
MAX_ID = 128
"""Characters of an id in an envelope or a key; ours have 32."""
MAX_TEXT = 500
"""Characters of any other text: a label, a reason, a rule."""
MAX_LONG_TEXT = 20_000
"""Characters of the texts that are documents: :data:`LONG_TEXTS`."""
LONG_TEXTS = frozenset({"parameters", "error", "evidence"})
MAX_NUMBER_TEXT = 40
"""Characters of a number in a strategy's parameters: more is no parameter, and stores limit what a number may be."""
LAST_TIME_NS = 4_102_444_800 * NS_PER_S
"""The year 2100: later, and before 1970, is no time of a record."""
TIMES = frozenset(
    {"ts_event", "ts_init", "ts_cause", "valid_until", "sent_ts", "send_until", "written_ns", "answered_ns"}
)
MAX_MARKET_SCALE = AMOUNT_SCALE
SCALES = ("price_scale", "size_scale")

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters but tab and newline: PostgreSQL takes no NUL, and a terminal obeys the others."""


def flaws(event: Event, meta: Meta | None = None) -> tuple[str, ...]:
    """Everything about the record that keeps it out, each naming field, value and what is allowed; none: let it in."""
    if isinstance(event, MarketEvent):
        return tuple(_market_flaws(event))
    found = [flaw for field, value in _values(event) for flaw in _field_flaws(field, value)]
    return (*(envelope_flaws(meta) if meta is not None else ()), *found)


def envelope_flaws(meta: Meta) -> tuple[str, ...]:
    """What is wrong with the envelope; a record with such an envelope cannot even be refused in its own name."""
    return tuple(
        flaw
        for field, value in _values(meta)
        for flaw in (_id_flaws(field, value) if isinstance(value, str) else _field_flaws(field, value))
    )


def recordable_text(text: str, limit: int = MAX_TEXT) -> str:
    """The text as every store takes it: control characters replaced, cut at ``limit`` characters."""
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return _CONTROL.sub("\ufffd", cut)


def recordable_amount(amount: Decimal) -> Decimal:
    """The amount as every store takes it: what is larger than any amount may be is recorded as the largest."""
    if not amount.is_finite():
        return Decimal(0)
    return max(-MAX_AMOUNT, min(MAX_AMOUNT, amount))


def _values(of: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(of):
        yield field.name, getattr(of, field.name)


def _field_flaws(field: str, value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _text_flaws(field, value)
    elif isinstance(value, Decimal):
        if not value.is_finite() or abs(value) > MAX_AMOUNT:
            yield f"{field} is {_shown(str(value))}; expected at most 10^18 either way"
        elif _finer_than_recorded(value):
            yield f"{field} is {_shown(str(value))}; expected at most {AMOUNT_SCALE} decimal places"
    elif field in TIMES and not 0 <= value <= LAST_TIME_NS:
        yield f"{field} is {value}; expected nanoseconds since 1970, before 2100"


def _text_flaws(field: str, value: str) -> Iterator[str]:
    limit = MAX_LONG_TEXT if field in LONG_TEXTS else MAX_TEXT
    if len(value) > limit:
        yield f"{field} has {len(value)} characters; expected at most {limit}"
    elif field == "parameters":
        yield from _parameter_flaws(value)
    elif field not in LONG_TEXTS and not _is_clean(value):
        yield f"{field} is {_shown(value)}; expected text without control characters"
    elif "\0" in value:
        yield f"{field} holds a NUL character; expected text"


def _id_flaws(field: str, value: str) -> Iterator[str]:
    if len(value) > MAX_ID:
        yield f"{field} has {len(value)} characters; expected at most {MAX_ID}"
    elif not _is_clean(value):
        yield f"{field} is {_shown(value)}; expected text without control characters"


def _parameter_flaws(text: str) -> Iterator[str]:
    """A strategy's parameters are a JSON object of what every JSON reader and column takes."""
    try:
        found = json.loads(text, parse_constant=_refuse, parse_float=_number, parse_int=_number)
        clean = "\\u0000" not in text and json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        yield f"parameters are {_shown(text)}; expected a JSON object ({error})"
        return
    if not isinstance(found, dict) or not clean:
        yield f"parameters are {_shown(text)}; expected a JSON object"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _number(text: str) -> str:
    if len(text) > MAX_NUMBER_TEXT or len(text.lower().partition("e")[2]) > 4:
        raise ValueError(f"{_shown(text)} is too long a number")
    return text


def _market_flaws(event: MarketEvent) -> Iterator[str]:
    if not 0 < len(event.instrument_id) <= MAX_ID or not _is_clean(event.instrument_id):
        yield f"instrument_id is {_shown(event.instrument_id)}; expected VENUE:BASE/QUOTE"
    for name in SCALES:
        scale = getattr(event, name, 0)
        if not 0 <= scale <= MAX_MARKET_SCALE:
            yield f"{name} is {scale}; expected 0 to {MAX_MARKET_SCALE}"
    for name, at in (("ts_event", event.ts_event), ("ts_init", event.ts_init)):
        if not 0 <= at <= LAST_TIME_NS:
            yield f"{name} is {at}; expected nanoseconds since 1970, before 2100"
    yield from _id_flaws("trade_id", getattr(event, "trade_id", ""))
    if isinstance(event, (BookSnapshot, BookDelta)):
        for side in ("bid", "ask"):
            prices, sizes = len(getattr(event, f"{side}_prices")), len(getattr(event, f"{side}_sizes"))
            if prices != sizes:
                yield f"{side}_prices are {prices} and {side}_sizes {sizes}; expected as many of each"


def _is_clean(text: str) -> bool:
    return _CONTROL.search(text) is None


def _finer_than_recorded(amount: Decimal) -> bool:
    _, digits, exponent = amount.as_tuple()
    surplus = -int(exponent) - AMOUNT_SCALE
    return surplus > 0 and any(digits[-surplus:])


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
