"""Reading a request's parameters with Binance's errors."""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import StrEnum
from typing import TypeVar

from skeet.venues.sim.instruments import Instrument
from skeet.venues.sim.orders import Rejection
from skeet.venues.sim.signing import missing
from skeet.venues.sim.units import parse_units

_CLIENT_ID = re.compile(r"[.A-Za-z0-9:/_-]{1,36}", re.ASCII)
_Choice = TypeVar("_Choice", bound=StrEnum)


class Parameters(dict[str, str]):
    """Name → text of one request."""

    def instrument(self, listed: dict[str, Instrument]) -> Instrument:
        """The instrument named by ``symbol`` (-1121 if there is none)."""
        symbol = self.get("symbol")
        if not symbol:
            raise missing("symbol")
        if symbol not in listed:
            raise Rejection(-1121, "Invalid symbol.")
        return listed[symbol]

    def integer(self, name: str, default: int, *, low: int = 0, high: int = 2**63 - 1) -> int:
        """A whole number, brought into [low, high]."""
        text = self.get(name)
        if not text:
            return default
        try:
            return min(max(int(text), low), high)
        except ValueError as error:
            raise _illegal(name, r"^[0-9]{1,20}$") from error

    def amount(self, name: str) -> int:
        """A positive decimal in units of 10⁻⁸; 0 when absent."""
        text = self.get(name)
        if not text:
            return 0
        try:
            return parse_units(text)
        except ValueError as error:
            if "decimals" in str(error):
                raise Rejection(-1111, f"Parameter '{name}' has too much precision.") from error
            raise _illegal(name, r"^([0-9]{1,20})(\.[0-9]{1,20})?$") from error

    def choice(self, name: str, choices: type[_Choice], code: int, message: str) -> _Choice:
        """One of an enum's values."""
        text = self.get(name)
        if not text:
            raise missing(name)
        try:
            return choices(text.upper())
        except ValueError as error:
            raise Rejection(code, message) from error

    def client_id(self, name: str) -> str:
        """A client order id; empty when absent."""
        text = self.get(name, "")
        if text and _CLIENT_ID.fullmatch(text) is None:
            raise _illegal(name, "^[a-zA-Z0-9-_]{1,36}$")
        return text

    def require(self, names: Collection[str]) -> None:
        """All of `names` must be there."""
        for name in names:
            if not self.get(name):
                raise missing(name)


def _illegal(name: str, legal: str) -> Rejection:
    return Rejection(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")
