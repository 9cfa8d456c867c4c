"""The schedule of a chaos run is a function of its seed; its report counts what the exchange's journal says."""

from __future__ import annotations

import itertools
import json
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from authorised import ORDER_ID, authorised

from skeet.cli.chaos_report import ChaosReport, FaultResult, doubled_orders, percentile
from skeet.cli.chaos_schedule import KILLED, TEMPLATES, Fault, FaultKind, parse_kinds, schedule
from skeet.cli.chaos_trades import Trade, Trades
from skeet.core.accounts import OrderFilled
from skeet.core.errors import InvalidInput
from skeet.streams.crash_points import BY_NAME, Action, Arming, ChaosDirectory
from skeet.wiring import OPTIONAL, ROLES
from tests.cli.conftest import Skeet


def test_schedule_is_a_function_of_the_seed() -> None:
    assert schedule(3, 15) == schedule(3, 15)
    assert schedule(3, 15) != schedule(4, 15)


def test_schedule_does_not_change_between_versions() -> None:
    """A seed in a bug report must still name the same faults: add templates, and this changes, knowingly."""
    assert [fault.kind for fault in schedule(7, 1, (FaultKind.KILL,))] == [FaultKind.KILL] * len(PINNED)
    assert [fault.target for fault in schedule(7, 1, (FaultKind.KILL,))] == PINNED


PINNED = ["clickhouse", "postgres", "projection-clickhouse", "intake", "worker", "gateway"]


def test_shorter_run_is_the_beginning_of_a_longer_one() -> None:
    long, short = schedule(5, 30), schedule(5, 4)
    assert long[: len(short)] == short


def test_every_fault_of_the_table_comes_before_one_comes_twice() -> None:
    faults = [(fault.kind, fault.target) for fault in schedule(1, 60)]
    first_round = faults[: len(TEMPLATES)]
    assert set(first_round) == {(template.kind, template.target) for template in TEMPLATES}
    assert len(faults) > len(TEMPLATES)


def test_times_rise_and_end_with_the_run() -> None:
    times = [fault.at_s for fault in schedule(2, 15)]
    assert times == sorted(times)
    assert 800 < times[-1] < 900
    assert min(b - a for a, b in itertools.pairwise(times)) >= 7.9


def test_amounts_are_of_their_kind() -> None:
    for fault in schedule(9, 120):
        match fault.kind:
            case FaultKind.PAUSE:
                assert 3 <= fault.amount <= 16
            case FaultKind.POINT:
                assert fault.target in BY_NAME
                assert fault.amount in (1, 2, 3)
            case FaultKind.EXCHANGE:
                assert 1 <= fault.amount <= 5
            case FaultKind.KILL | FaultKind.EVERYTHING:
                assert fault.amount == 0


def test_only_chosen_kinds_are_scheduled() -> None:
    kinds = parse_kinds("pause, kill")
    assert kinds == (FaultKind.KILL, FaultKind.PAUSE)
    assert {fault.kind for fault in schedule(1, 30, kinds)} == set(kinds)


@pytest.mark.parametrize("text", ["kill,fire", "earthquake"])
def test_unknown_kind_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="--faults has"):
        parse_kinds(text)


def test_no_kind_is_refused() -> None:
    with pytest.raises(InvalidInput, match="names no kind"):
        schedule(1, 1, parse_kinds(""))


def test_fault_says_what_it_is() -> None:
    assert Fault(at_s=1, kind=FaultKind.PAUSE, target="desk", amount=13.25).text == "pause desk 13.2 s"
    assert (
        Fault(at_s=1, kind=FaultKind.POINT, target="desk.after_commit", amount=2).text == "crash at desk.after_commit:2"
    )


def test_percentiles_are_of_what_was_measured() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([3.0, 1.0, 2.0], 1.0) == 3.0


def test_report_is_clean_only_without_complaints() -> None:
    fault = FaultResult(at_s=1, what="kill desk", recovery_s=1.5, whole_s=1.0, traded=3)
    report = ChaosReport(seed=1, minutes=1, faults=[fault], traded=3, p50_s=1.5, max_s=1.5, verify_exit=0)
    assert report.clean
    report.show()
    report.complaints.append("doubled")
    assert not report.clean


def journal(data: Path, *orders: tuple[int, str]) -> None:
    """The exchange's journal with these accepted orders, checksums and all."""
    (data / "sim").mkdir()
    crc, lines = 0, []
    for number, (order_id, client_id) in enumerate(orders, start=1):
        line = {"n": number, "type": "OrderAccepted", "account": "demo", "symbol": "BTCUSDT"}
        body = json.dumps({**line, "order_id": order_id, "client_order_id": client_id})[:-1].encode()
        crc = zlib.crc32(body, crc)
        lines.append(body + f',"crc":"{crc:08x}"}}\n'.encode())
    (data / "sim" / "accounts.jsonl").write_bytes(b"".join(lines))


def test_client_id_that_the_exchange_took_twice_is_named(tmp_path: Path) -> None:
    journal(tmp_path, (1, "aa"), (2, "bb"), (3, "aa"))
    (found,) = doubled_orders(tmp_path)
    assert "client order id aa of demo was accepted 2 times" in found
    assert "journal lines 1, 3" in found


def test_orders_sent_once_are_no_complaint(tmp_path: Path) -> None:
    journal(tmp_path, (1, "aa"), (2, "bb"))
    assert doubled_orders(tmp_path) == []


def filled(order_id: str) -> OrderFilled:
    """A fill of which only the order matters here."""
    event = OrderFilled.__new__(OrderFilled)
    object.__setattr__(event, "order_id", order_id)
    return event


def test_recovery_is_the_first_fill_of_an_order_that_is_younger_than_the_fault() -> None:
    trades, young = Trades(), "b" * 32
    trades.take(authorised().event, 100)
    trades.take(replace(authorised().event, order_id=young), 210)
    trades.take(filled(ORDER_ID), 220)  # authorised before the fault at 200: proves nothing
    assert trades.first_after(200) is None
    trades.take(filled(young), 250)
    trades.take(filled(young), 260)
    assert trades.first_after(200) == Trade(authorised_ns=210, filled_ns=250)
    assert trades.traded == 2
    assert trades.between(220, 250) == 1


def test_fill_of_an_order_from_before_the_watch_is_not_counted() -> None:
    trades = Trades()
    trades.take(filled(ORDER_ID), 5)
    assert trades.traded == 0


def test_points_are_listed_with_role_and_meaning(skeet: Skeet) -> None:
    rows = json.loads(skeet("chaos", "points", "--json").stdout)
    assert [row["point"] for row in rows] == list(BY_NAME)
    assert all(row["role"] and row["where"] for row in rows)


def test_armed_point_waits_in_the_data_directory(skeet: Skeet, data_dir: Path) -> None:
    assert skeet("chaos", "arm", "desk.after_commit", "--nth", "3", "--freeze").exit_code == 0
    found = ChaosDirectory(data_dir / "chaos").arming("desk.after_commit")
    assert found == Arming(nth=3, action=Action.STOP)


def test_unknown_point_is_refused(skeet: Skeet, data_dir: Path) -> None:
    assert skeet("chaos", "arm", "desk.somewhere").exit_code == 2
    assert not (data_dir / "chaos").exists()


def test_plan_prints_the_schedule_and_does_nothing(skeet: Skeet, data_dir: Path) -> None:
    rows = json.loads(
        skeet("chaos", "run", "--plan", "--seed", "7", "--minutes", "1", "--faults", "kill", "--json").stdout
    )
    assert [row["target"] for row in rows] == PINNED
    assert list(data_dir.iterdir()) == []


def test_every_process_of_the_platform_is_among_the_killed_and_every_role_of_ours_has_points() -> None:
    """Whoever adds a role adds it to the faults: see chaos_schedule.py and crash_points.py."""
    assert set(KILLED) == {*ROLES, "supervisor"} - OPTIONAL
    assert {point.role for point in BY_NAME.values()} == set(ROLES) - OPTIONAL - {"kafka", "postgres", "clickhouse"} | {
        "supervisor"
    }
