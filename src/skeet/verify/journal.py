"""The simulated exchange's own account of what happened: ``sim/accounts.jsonl``, read raw, each line's checksum recomputed.

A line is ``{"n":…,…,"crc":"<8 hex digits>"}``; the crc is CRC-32 of the line's bytes before ``,"crc":"``, started with the
previous line's crc. A last line without its newline was never answered to anybody.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skeet.verify.amounts import from_text

FILE = Path("sim") / "accounts.jsonl"
_MARK = b',"crc":"'

Line = dict[str, Any]


@dataclass(slots=True)
class VenueOrder:
    """An order the exchange accepted, with what it executed and how it ended (empty: open)."""

    line: int
    accepted: Line
    executed: int = 0
    ended: str = ""


@dataclass(slots=True)
class Journal:
    """The exchange's accounts by key. Amounts are units of 10^-18."""

    lines: int = 0
    broken: list[str] = field(default_factory=list)
    orders: dict[tuple[str, str, int], VenueOrder] = field(default_factory=dict)
    """By account, symbol, order id."""
    fills: dict[tuple[str, str, int, str], Line] = field(default_factory=dict)
    """By account, symbol, trade id, client order id."""
    transfers: dict[tuple[str, str], Line] = field(default_factory=dict)
    """By account and transfer id."""

    def balances(self, account: str, symbols: dict[str, tuple[str, str]]) -> dict[str, int]:
        """What the account owns of each asset: its transfers and fills. ``symbols`` gives base and quote."""
        sums: dict[str, int] = {}

        def add(asset: str, units: int) -> None:
            sums[asset] = sums.get(asset, 0) + units

        for (owner, _), line in self.transfers.items():
            if owner == account:
                add(line["asset"], from_text(line["amount"]))
        for (owner, symbol, _, _), line in self.fills.items():
            if owner == account:
                base, quote = symbols[symbol]
                sign = 1 if line["side"] == "BUY" else -1
                add(base, sign * from_text(line["quantity"]))
                add(quote, -sign * from_text(line["quote_quantity"]))
                add(line["commission_asset"], -from_text(line["commission"]))
        return sums


def read_journal(path: Path) -> Journal:
    """The whole file. A line that its checksum denies is named in ``broken``; what it says now is compared all the same.

    Raises
    ------
    FileNotFoundError
        there is no such file.
    """
    journal, crc = Journal(), 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.endswith(b"\n"):
                break
            journal.lines = number
            try:
                crc = _checked(raw, number, crc)
            except ValueError as error:
                journal.broken.append(f"{path.name} line {number}: {error}")
                crc = _crc_written(raw, crc)
            try:
                _take(journal, json.loads(raw), number)
            except (ValueError, KeyError) as error:
                journal.broken.append(f"{path.name} line {number} cannot be used: {type(error).__name__} {error}")
    return journal


def _checked(raw: bytes, number: int, previous: int) -> int:
    """The line's checksum.

    Raises
    ------
    ValueError
        what is wrong with the line.
    """
    body, mark, tail = raw.rpartition(_MARK)
    if not mark or len(tail) != 11 or tail[8:] != b'"}\n':
        raise ValueError("it does not end with a checksum")
    crc = int(tail[:8], 16)
    if zlib.crc32(body, previous) != crc:
        raise ValueError("its checksum does not match: it was altered, or a line before it is missing")
    if json.loads(body + b"}")["n"] != number:
        raise ValueError(f"its number is not {number}")
    return crc


def _crc_written(raw: bytes, previous: int) -> int:
    """The checksum an altered line carries: the lines after it are chained to what it was."""
    tail = raw.rpartition(_MARK)[2]
    try:
        return int(tail[:8], 16)
    except ValueError:
        return previous


def _take(journal: Journal, line: Line, number: int) -> None:
    account = line["account"]
    match line["type"]:
        case "Transferred":
            journal.transfers[account, str(line["transfer_id"])] = line
        case "OrderAccepted":
            journal.orders[account, line["symbol"], line["order_id"]] = VenueOrder(number, line)
        case "OrderFilled":
            journal.fills[account, line["symbol"], line["trade_id"], line["client_order_id"]] = line
            journal.orders[account, line["symbol"], line["order_id"]].executed += from_text(line["quantity"])
        case "OrderClosed":
            journal.orders[account, line["symbol"], line["order_id"]].ended = line["status"]
