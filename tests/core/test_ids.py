"""Ids follow from what they name, and from nothing else."""

from __future__ import annotations

import subprocess
import sys

from skeet.core.ids import client_order_id, derive_id, outside_command_id, strategy_command_id
from skeet.core.values import OrderId


def test_parts_do_not_run_into_each_other() -> None:
    assert derive_id("k", "ab", "c") != derive_id("k", "a", "bc")
    assert derive_id("k", "a") != derive_id("k", "a", "")


def test_an_id_fits_every_venue_and_loses_nothing() -> None:
    identity = outside_command_id("main", "operator", "key-1")
    assert len(identity) == 32
    assert client_order_id(OrderId(identity)) == identity


def test_each_part_of_a_strategy_command_matters() -> None:
    base: tuple[str, str, str, str, str, str, int] = ("t", "a", "i", "v", "c", "r", 0)
    ids = {strategy_command_id(*base)}
    for position in range(len(base)):
        changed = list(base)
        changed[position] = 1 if position == len(base) - 1 else "other"
        ids.add(strategy_command_id(*changed))  # type: ignore[arg-type]
    assert len(ids) == len(base) + 1


def test_another_process_with_another_hash_seed_derives_the_same() -> None:
    code = "from skeet.core.ids import derive_id; print(derive_id('k', 'é', 7))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {f"{derive_id('k', 'é', 7)}\n".encode()}
