"""Every patch still fits the code, names a test that exists, and stands in docs/guarantees.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from guards import ROOT, Guard, applies, copy_checkout, failing, guards, rendered


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guards")
    copy_checkout(folder)
    return folder


@pytest.mark.parametrize("guard", guards(), ids=lambda guard: guard.name)
def test_patch_applies(guard: Guard, checkout: Path) -> None:
    assert applies(guard, checkout, check_only=True), f"{guard.path} does not fit the code any more; write it anew"


@pytest.mark.parametrize("guard", guards(), ids=lambda guard: guard.name)
def test_named_test_exists(guard: Guard) -> None:
    file, _, name = guard.test.partition("::")
    function = re.escape(name.partition("[")[0])
    assert re.search(rf"^(async )?def {function}\(", (ROOT / file).read_text(), re.MULTILINE), guard.test


def test_document_is_current() -> None:
    assert (ROOT / "docs" / "guarantees.md").read_text() == rendered(), (
        "run `python tests/guards/run.py --document > docs/guarantees.md`"
    )


def test_only_tests_that_fail_among_the_others_are_suspected(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "@pytest.mark.parametrize('place', ['after the insert', 'before it'])\n"
        "def test_each(place): assert place == 'before it'\n"
    )
    good, each = "test_it.py::test_good", "test_it.py::test_each"
    assert failing(tmp_path, [good]) == []
    assert failing(tmp_path, [good, each]) == [each]
    unknown = "test_it.py::test_that_is_not_there"
    assert failing(tmp_path, [good, unknown]) == [good, unknown]
