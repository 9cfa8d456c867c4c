"""Where the registry listens, and what it asks for there."""

from __future__ import annotations

import pytest

from skeet.config import load_settings
from skeet.core.errors import InvalidInput
from skeet.local.registry import listening_at


def test_a_registry_beyond_loopback_needs_a_password() -> None:
    open_to_all = load_settings(registry={"url": "http://registry:8081", "listen": "0.0.0.0:8081"})
    with pytest.raises(InvalidInput, match="SKEET_REGISTRY__PASSWORD"):
        listening_at(open_to_all.registry)
    guarded = load_settings(registry={"listen": "0.0.0.0:8081", "user": "desk", "password": "x"})
    assert listening_at(guarded.registry) == ("0.0.0.0", 8081)
