"""Sources are packed, travel in parts, and are unpacked as they were; nothing else is."""

from __future__ import annotations

import os
import random
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from skeet.agents.strategy_artefacts import MAX_BYTES, PART_BYTES, Artefact, joined, known_versions, pack, parts, unpack
from skeet.agents.strategy_loading import parse_parameters
from skeet.agents.strategy_sources import unpacked
from skeet.cli.strategy_versions import checked_name, version_before
from skeet.core.control import ArtefactStored, StrategyPushed
from skeet.core.errors import DecodeError, InvalidInput
from skeet.core.record import Record, TopicPosition

STRATEGY = """
from decimal import Decimal
from pydantic import BaseModel
from skeet.core.strategy import Strategy
from sizes_of_this_test import size

class Parameters(BaseModel):
    factor: int = 1

class Mine(Strategy[None]):
    Parameters = Parameters
    def initial(self):
        return size()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "mine"
    (place / "more").mkdir(parents=True)
    (place / "strategy.py").write_text(STRATEGY)
    (place / "sizes_of_this_test.py").write_text("def size():\n    return 1\n")
    (place / "more" / "deep.py").write_text("x = 1\n")
    (place / "parameters.json").write_text("{}")
    return place


def test_equal_sources_have_an_equal_hash_wherever_and_whenever_they_are_packed(folder: Path, tmp_path: Path) -> None:
    first = pack(folder)
    os.utime(folder / "strategy.py", (1, 1))
    (folder / "strategy.py").chmod(0o700)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "strategy.py").write_text("compiled")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "x.py").write_text("theirs")
    (folder / "data.csv").write_text("1,2,3")
    assert pack(folder).hash == first.hash
    unpack(first, tmp_path / "elsewhere")
    assert pack(tmp_path / "elsewhere").hash == first.hash
    assert sorted(first.files) == ["more/deep.py", "parameters.json", "sizes_of_this_test.py", "strategy.py"]


@pytest.mark.parametrize("name", ["strategy.py", "sizes_of_this_test.py", "parameters.json", "more/deep.py"])
def test_every_file_counts(folder: Path, name: str) -> None:
    before = pack(folder).hash
    (folder / name).write_text((folder / name).read_text() + " ")
    assert pack(folder).hash != before


def test_content_cannot_be_moved_between_files_under_one_hash(folder: Path) -> None:
    (folder / "a.py").write_text("12")
    (folder / "b.py").write_text("3")
    before = pack(folder).hash
    (folder / "a.py").write_text("1")
    (folder / "b.py").write_text("23")
    assert pack(folder).hash != before


def test_parts_are_joined_in_any_order_and_repeated(folder: Path) -> None:
    (folder / "big.py").write_bytes(random.Random(7).randbytes(3 * PART_BYTES))
    artefact = pack(folder)
    stored = parts(artefact)
    assert len(stored) == 4
    assert all(len(part.payload) <= PART_BYTES for part in stored)
    found = joined([*reversed(stored), stored[0]], artefact.hash)
    assert found.files == artefact.files


def test_missing_or_changed_part_is_refused(folder: Path) -> None:
    artefact = pack(folder)
    (part,) = parts(artefact)
    with pytest.raises(InvalidInput, match="0 of 0 parts"):
        joined([], artefact.hash)
    with pytest.raises(InvalidInput, match="1 of 2 parts"):
        joined([replace(part, parts=2)], artefact.hash)
    with pytest.raises(DecodeError, match="cannot be unpacked"):
        joined([replace(part, payload=b"rubbish")], artefact.hash)
    with pytest.raises(DecodeError, match="another hash"):
        joined([replace(part, payload=zlib.compress(artefact.content + b" "))], artefact.hash)
    with pytest.raises(DecodeError, match="another hash"):
        joined([replace(part, payload=zlib.compress(bytes(100 * MAX_BYTES)))], artefact.hash)


def test_what_is_no_strategy_or_too_large_or_leads_outside_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no strategy\.py"):
        pack(folder / "more")
    (folder / "big.py").write_bytes(bytes(MAX_BYTES))
    with pytest.raises(InvalidInput, match=r"the limit is 1,048,576 \(largest: big\.py\)"):
        pack(folder)
    (folder / "big.py").unlink()
    (tmp_path / "secret.py").write_text("canary")
    (folder / "link.py").symlink_to(tmp_path / "secret.py")
    with pytest.raises(InvalidInput, match="a link to"):
        pack(folder)


@pytest.mark.parametrize("name", ["../outside.py", "/etc/cron.d/x.py", "a/../../x.py"])
def test_name_that_leads_outside_is_not_unpacked(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="leads outside"):
        unpack(Artefact(files={name: b""}, content=b""), tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_pushed_strategy_imports_its_own_files_and_its_code_version_covers_them(folder: Path, tmp_path: Path) -> None:
    versions = []
    for size in (1, 2):
        (folder / "sizes_of_this_test.py").write_text(f"def size():\n    return {size}\n")
        sources = unpacked(pack(folder), "mine", tmp_path / "artefacts")
        strategy = sources.load()
        assert sources.artefact == pack(folder).hash
        assert strategy(None).initial() == size, "not the module of the version before"
        versions.append(sources.code_version(strategy, parse_parameters(strategy, {})))
        versions.append(sources.code_version(strategy, parse_parameters(strategy, {"factor": 2})))
    assert len(set(versions)) == 4


def record(version: int, artefact: str, offset: int) -> Record[StrategyPushed]:
    event = StrategyPushed(strategy="mine", version=version, artefact=artefact, size=1, files=1)
    return Record(event=event, meta=None, at=TopicPosition("control.events.v1", 0, offset), log_ns=offset)


def test_first_of_two_pushes_that_raced_for_a_number_holds() -> None:
    known = known_versions([record(1, "a", 0), record(2, "b", 1), record(2, "c", 2), record(3, "c", 3)], "mine")
    assert {number: found.event.artefact for number, found in known.items()} == {1: "a", 2: "b", 3: "c"}
    assert version_before(known, 3, "mine") == 2
    with pytest.raises(InvalidInput, match="none before it"):
        version_before(known, 1, "mine")


@pytest.mark.parametrize("name", ["", "Upper", "ema-cross", "a/b", "..", "x" * 49])
def test_name_that_is_none_or_ships_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="strategy name"):
        checked_name(name)


def test_part_of_another_artefact_is_not_taken(folder: Path) -> None:
    artefact = pack(folder)
    (part,) = parts(artefact)
    other = ArtefactStored(artefact="0" * 64, part=0, parts=1, payload=b"x")
    assert joined([other, part], artefact.hash).files == artefact.files
