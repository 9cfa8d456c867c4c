"""Venue keys: one JSON file per account in ``secrets/venue-keys`` of the data directory, readable by its owner only.

``{"venue": "sim", "api_key": "…", "secret": "…"}``. Only the gateway reads them, only ``skeet account create`` writes them.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from skeet.config import Settings
from skeet.core.errors import InvalidInput

FOLDER = "venue-keys"


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueKey:
    """One account's key at its venue. The secret is in no representation."""

    venue: str
    api_key: str = field(repr=False)
    secret: str = field(repr=False)


def key_path(settings: Settings, account_id: str) -> Path:
    """Where an account's key is kept.

    Raises
    ------
    InvalidInput
        an account id that is no file name.
    """
    if not account_id or Path(account_id).name != account_id or account_id.startswith("."):
        raise InvalidInput(f"account_id {account_id!r} cannot name a key file: use letters, digits, dashes")
    return settings.secrets_dir / FOLDER / f"{account_id}.json"


def read_key(settings: Settings, account_id: str) -> VenueKey:
    """The account's key.

    Raises
    ------
    InvalidInput
        there is none, or the file cannot be read as one (its content is not repeated).
    """
    path = key_path(settings, account_id)
    try:
        found = json.loads(path.read_text())
        return VenueKey(venue=str(found["venue"]), api_key=str(found["api_key"]), secret=str(found["secret"]))
    except FileNotFoundError as error:
        raise InvalidInput(f"account {account_id} has no venue key: `skeet account create` writes one") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path.name}: {type(error).__name__}; expected JSON with venue, api_key, secret") from None


def write_key(settings: Settings, account_id: str, key: VenueKey) -> Path:
    """Write the account's key, whole or not at all, for its owner only."""
    path = key_path(settings, account_id)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_suffix(f".{os.getpid()}.new")
    content = json.dumps({"venue": key.venue, "api_key": key.api_key, "secret": key.secret})
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return path
