"""One installation for all end-to-end tests: started by the demo, torn down whatever happens."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import Installation


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    """An installation in a directory of its own; nothing runs yet."""
    data = Path(tempfile.mkdtemp(prefix="skeet-e2e-"))
    data.chmod(0o755)
    installed = Installation(data)
    installed.environment["SKEET_CHAOS__ENABLED"] = "1"  # crash points do nothing until one is armed
    try:
        yield installed
    finally:
        installed.skeet("down", expect=None)
        installed.skeet("reset", "--yes", expect=None)
        shutil.rmtree(data, ignore_errors=True)
