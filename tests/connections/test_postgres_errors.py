"""What is said of a connection string that is none: the setting's name, and nothing of what stands in it."""

from __future__ import annotations

import pytest

from skeet.config import load_settings
from skeet.core.errors import CredentialError
from skeet.projections.queries import accounts


def test_a_dsn_that_cannot_be_read_is_not_quoted() -> None:
    settings = load_settings(postgres={"dsn": "user=desk password=hush broken"})
    with pytest.raises(CredentialError, match="SKEET_POSTGRES__DSN") as refused:
        accounts(settings)
    assert "hush" not in str(refused.value) and refused.value.__cause__ is None
