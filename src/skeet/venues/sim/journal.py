"""The accounts' journal: what the exchange says happened to its customers. ``accounts.jsonl`` in the data directory.

This file is the witness that ``skeet verify`` reads raw. One JSON object a line, checksums chained as `linefile`
describes; it is never compacted, and each line is written before the customer gets the answer. Amounts are decimal
strings with eight decimals, times integer nanoseconds (wall clock). Members by ``type``, besides ``n``, ``ts_ns``,
``account`` and ``crc``:

``AccountOpened``
    nothing more.
``Transferred``
    transfer_id (int, from 1, exchange-wide), client_key, asset, amount (negative: paid out).
``OrderAccepted``
    symbol, order_id (int, unique per symbol), client_order_id, side (BUY, SELL), kind (LIMIT, MARKET, LIMIT_MAKER),
    time_in_force (GTC, IOC, FOK), price ("0.00000000" for market orders), quantity, quote_budget.
``OrderFilled``
    symbol, order_id, client_order_id, side, trade_id (int, contiguous per symbol over all trades, so not over these
    lines), price, quantity (base), quote_quantity, commission, commission_asset, is_maker (bool).
``OrderClosed``
    symbol, order_id, client_order_id, side, status (FILLED, CANCELED, EXPIRED), executed (base), cancel_id.

An account's balance of an asset is the sum of its transfers and fills: a BUY fill adds `quantity` of base and takes
`quote_quantity` of quote, a SELL the reverse; `commission` is taken off in its asset. Its open orders are those
accepted and not closed. Symbols are base + quote without a separator; base and quote are listed by ``/api/v3/exchangeInfo``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from skeet.core.errors import InfrastructureError
from skeet.venues.sim.account_events import EVENT_TYPES, AccountEvent
from skeet.venues.sim.linefile import LineFile

FILE_NAME = "accounts.jsonl"


class AccountJournal:
    """Appends account events; on recovery, checks the replayed ones against what is already written."""

    def __init__(self, directory: Path, *, fsync: bool = False) -> None:
        self._file = LineFile(directory / FILE_NAME, fsync=fsync)
        self._expected: list[dict[str, Any]] = []

    @property
    def lines(self) -> int:
        """Lines in the file."""
        return self._file.lines

    def read(self, snapshot_lines: int) -> Iterator[AccountEvent]:
        """The first `snapshot_lines` events, which a snapshot already holds; those after them will be replayed, and
        `append` will hold the replay to them."""
        for number, record in enumerate(self._file.read(), start=1):
            if number > snapshot_lines:
                self._expected.append(record)
            else:
                yield _to_event(record)
        if self._file.lines < snapshot_lines:
            raise InfrastructureError(
                f"{self._file.path} has {self._file.lines} lines, the snapshot knows {snapshot_lines}: lines are missing"
            )
        self._expected.reverse()

    def append(self, events: Sequence[AccountEvent]) -> None:
        """Write events; those that the file already holds (a replay) must be equal to it, and are not written again.

        Raises
        ------
        InfrastructureError
            the replay differs from the file; names the line.
        """
        fresh = []
        for event in events:
            record = {"type": type(event).__name__, **asdict(event)}
            if self._expected:
                self._compare(record)
            else:
                fresh.append(record)
        if fresh:
            self._file.append(fresh)

    def finish_replay(self) -> None:
        """Everything the file holds must have been replayed by now."""
        if self._expected:
            line = self._file.lines - len(self._expected) + 1
            raise InfrastructureError(f"{self._file.path} line {line} onwards has no cause in the command log")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _compare(self, record: dict[str, Any]) -> None:
        line = self._file.lines - len(self._expected) + 1
        if self._expected.pop() != record:
            raise InfrastructureError(
                f"{self._file.path} line {line} differs from what the command log makes; "
                "was the exchange's code changed without a clean stop?"
            )


def _to_event(record: dict[str, Any]) -> AccountEvent:
    return EVENT_TYPES[record.pop("type")](**record)
