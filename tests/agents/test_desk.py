"""The desk on a real broker: inputs become events exactly once, whatever is killed, aborted or malformed."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from floor import Floor, assert_gapless, made_floor

from skeet.agents.desk import Desk
from skeet.agents.desk_books import Books
from skeet.agents.desk_snapshots import Snapshots
from skeet.config import DeskSettings
from skeet.core import accounts, commands, control, reports
from skeet.core.account import decide as decide_account
from skeet.core.account_snapshot import state_hash
from skeet.core.record import Record
from skeet.core.values import (
    NS_PER_S,
)
from skeet.schemas.golden import sample
from skeet.streams.partitioner import partition_of
from skeet.streams.topics import (
    COMMANDS,
    CONTROL,
    topic_name,
)
from skeet.streams.transactional import TransactionAborted, Transactor

pytestmark = pytest.mark.integration

DEADLINE_S = 40.0


@pytest.fixture
def floor(kafka: str, registry_url: str, tmp_path_factory: pytest.TempPathFactory) -> Floor:
    return made_floor(kafka, registry_url, tmp_path_factory.mktemp("desk"))


@pytest.fixture
def desk(floor: Floor) -> Iterator[Desk]:
    member = Desk(floor.settings, floor.codec)
    member.start()
    yield member
    member.close()


def work(desk: Desk, count: int) -> None:
    """Let the desk do this many inputs."""
    deadline = time.monotonic() + DEADLINE_S
    done = 0
    while done < count:
        assert time.monotonic() < deadline, f"{done} of {count} inputs done"
        done += desk.step()


def test_order_is_authorised_reported_and_filled(floor: Floor, desk: Desk) -> None:
    floor.opened("alice")
    order_id = floor.order("alice")
    work(desk, 3)
    floor.attempted("alice", order_id)
    floor.fill("alice", order_id, "t1", "0.4")
    floor.report("alice", reports.SubmitAcknowledged, order_id, venue_order_id="1", written_ns=0, answered_ns=0)
    work(desk, 3)
    assert floor.events("alice") == [
        "AccountOpened", "FundsDeposited", "OrderAuthorized", "OrderSubmitted", "OrderFilled", "OrderAccepted",
    ]  # fmt: skip
    records = floor.records("alice")
    assert_gapless(floor.records())
    causes = [record.meta.cause_at.rpartition("/")[0] for record in records if record.meta]
    partition = partition_of(b"alice", 2)
    assert causes == [f"orders.commands.v1/{partition}"] * 3 + [f"venue.reports.v1/{partition}"] * 3


def test_genesis_is_echoed_by_every_partition(floor: Floor, desk: Desk) -> None:
    applied = [record for record in floor.records() if isinstance(record.event, accounts.ControlApplied)]
    assert sorted(record.meta.account_id for record in applied if record.meta) == ["~0", "~1"]


def test_kill_switch_is_echoed_cancels_what_is_open_and_denies_what_comes(floor: Floor, desk: Desk) -> None:
    floor.opened("alice")
    order_id = floor.order("alice")
    work(desk, 3)
    kill = control.KillSwitchSet(scope="account:alice", active=True, cancel_open=True, reason="drill")
    floor.publish(CONTROL.name, kill.scope, kill, floor.meta(""))
    deadline = time.monotonic() + DEADLINE_S
    while floor.events("alice")[-1] != "CancelAuthorized":
        assert time.monotonic() < deadline, floor.events("alice")
        desk.step()
    floor.order("alice")
    work(desk, 1)
    authorized, denied = floor.records("alice")[-2:]
    assert (authorized.event.order_id, type(denied.event)) == (order_id, accounts.OrderDenied)
    echoed = [r.event.control_offset for r in floor.records() if isinstance(r.event, accounts.ControlApplied)]
    assert sorted(echoed) == [0, 0, 1, 1]


def test_control_written_while_the_desk_was_away_is_applied_before_its_inputs(floor: Floor) -> None:
    first = Desk(floor.settings, floor.codec)
    first.start()
    floor.opened("alice")
    work(first, 2)
    first.close()
    kill = control.KillSwitchSet(scope="platform", active=True, cancel_open=False, reason="drill")
    floor.publish(CONTROL.name, kill.scope, kill, floor.meta(""))
    floor.order("alice")
    second = Desk(floor.settings, floor.codec)
    second.start()
    deadline = time.monotonic() + DEADLINE_S
    while "OrderDenied" not in floor.events("alice"):
        assert time.monotonic() < deadline, floor.events("alice")
        second.step()
    second.close()
    assert_gapless(floor.records())


def test_unreadable_input_is_a_dead_letter_and_halts_its_account_while_others_go_on(floor: Floor, desk: Desk) -> None:
    floor.opened("alice")
    work(desk, 2)
    other = next(name for name in map(str, range(100)) if partition_of(name.encode(), 2) == partition_of(b"alice", 2))
    floor.client.produce(topic_name(COMMANDS, floor.settings.kafka), b"no record of ours", key=b"alice")
    floor.client.flush()
    floor.opened(other)
    work(desk, 3)
    (letter,) = floor.letters()
    assert (letter.value, letter.topic, letter.role) == (b"no record of ours", COMMANDS.name, "desk")
    assert floor.events("alice")[-1] == "AccountHalted"
    assert floor.events(other) == ["AccountOpened", "FundsDeposited"]


def test_fill_among_the_commands_is_poison(floor: Floor, desk: Desk) -> None:
    """Whoever may command must never be able to forge a fill."""
    floor.opened("alice")
    order_id = floor.order("alice")
    work(desk, 3)
    forged = dataclasses.replace(sample(reports.FillReported), order_id=order_id)
    floor.publish(COMMANDS.name, "alice", forged, floor.meta("alice"))
    work(desk, 1)
    (letter,) = floor.letters()
    assert "FillReported does not belong into orders.commands.v1" in letter.cause
    assert floor.events("alice")[-1] == "AccountHalted"
    assert "OrderFilled" not in floor.events("alice")


def test_record_under_another_accounts_key_is_a_dead_letter(floor: Floor, desk: Desk) -> None:
    now = time.time_ns()
    event = commands.OpenAccount(ts_cause=now, valid_until=now + NS_PER_S, venue="sim", label="")
    floor.publish(COMMANDS.name, "mallory", event, floor.meta("alice"))
    work(desk, 1)
    (letter,) = floor.letters()
    assert "key" in letter.cause
    assert floor.events("alice") == []


def test_input_that_fails_is_retried_alone_then_dead_lettered_and_its_account_halted(
    floor: Floor, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    floor.opened("alice")
    work(desk, 2)
    broken = floor.order("alice")
    floor.order("alice")
    genuine = decide_account

    def decide(state: Any, record: Record[Any], context: Any) -> Any:
        tried.append(record.event_id)
        if record.event_id == broken:
            raise ZeroDivisionError("a mistake of ours")
        return genuine(state, record, context)

    monkeypatch.setattr("skeet.agents.desk_inputs.decide", decide)
    work(desk, 2)
    assert tried.count(broken) == 3
    assert floor.events("alice")[2:] == ["AccountHalted", "OrderDenied"]
    (letter,) = floor.letters()
    assert "ZeroDivisionError" in letter.cause
    assert_gapless(floor.records())


def test_aborted_transaction_is_decided_again_from_the_log(
    floor: Floor, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor.opened("alice")
    genuine = Transactor.commit
    aborts: list[int] = []

    def commit(self: Transactor, outs: Any, inputs: Any = None, consumed: Any = ()) -> Any:
        if consumed and len(aborts) < 2:
            aborts.append(len(consumed))

            def cut_off() -> Iterator[Any]:
                yield from outs
                raise TransactionAborted("the broker said so")

            return genuine(self, cut_off(), inputs, consumed)
        return genuine(self, outs, inputs, consumed)

    monkeypatch.setattr(Transactor, "commit", commit)
    deadline = time.monotonic() + DEADLINE_S
    while floor.events("alice") != ["AccountOpened", "FundsDeposited"]:
        assert time.monotonic() < deadline, floor.events("alice")
        desk.step()
    assert len(aborts) == 2
    assert_gapless(floor.records())


def test_snapshot_and_tail_are_the_fold_of_the_whole_log(floor: Floor) -> None:
    first = Desk(floor.settings, floor.codec)
    first.start()
    floor.opened("alice")
    orders = [floor.order("alice", price=str(90 + n)) for n in range(8)]
    work(first, 10)
    floor.fill("alice", orders[0], "t1", "0.25")
    work(first, 1)
    first._books._snapshots.flush()  # the tail after the last snapshot stays unsnapshotted: no close()
    partition = partition_of(b"alice", 2)
    live = state_hash(first.books.state(partition, "alice"))

    snapshots = Snapshots(floor.settings, floor.codec)
    restored = snapshots.read(partition)
    assert 0 < restored.states["alice"].version < 11
    from_snapshot = Books(floor.settings, floor.codec, snapshots)
    from_snapshot.fold([partition])
    monkey = Snapshots(floor.settings, floor.codec)
    monkey._code_version = "other code"
    assert monkey.read(partition).states == {}
    from_zero = Books(floor.settings, floor.codec, monkey)
    from_zero.fold([partition])
    assert state_hash(from_snapshot.state(partition, "alice")) == live
    assert state_hash(from_zero.state(partition, "alice")) == live
    first.close()


def test_second_desk_takes_over_a_share_of_the_partitions_without_hole_or_repeat(floor: Floor) -> None:
    names = [str(n) for n in range(6)]
    assert {partition_of(name.encode(), 2) for name in names} == {0, 1}
    first = Desk(floor.settings, floor.codec)
    first.start()
    for name in names:
        floor.opened(name)
    work(first, 12)
    settings = floor.settings.model_copy(update={"slot": 1, "desk": DeskSettings(snapshot_every=5)})
    second = Desk(settings, floor.codec)
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(second.start)
        deadline = time.monotonic() + DEADLINE_S
        while not (started.done() and len(first.books.partitions) == 1):
            assert time.monotonic() < deadline
            first.step()
    assert set(first.books.partitions) | set(second.books.partitions) == {0, 1}
    for name in names:
        floor.order(name)
    done = 0
    while done < len(names):
        assert time.monotonic() < deadline
        done += first.step() + second.step()
    for name in names:
        assert floor.events(name) == ["AccountOpened", "FundsDeposited", "OrderAuthorized"]
    assert_gapless(floor.records())
    first.close()
    second.close()


def test_desk_killed_in_mid_stream_decides_every_command_once(floor: Floor) -> None:
    floor.opened("alice", usdt="1000000")
    orders = [floor.order("alice", price="50") for _ in range(100)]
    desk = start_process(floor)
    wait_for_events(floor, desk, 20)
    desk.kill()
    desk.wait()
    orders += [floor.order("alice", price="50") for _ in range(100)]
    desk = start_process(floor)
    wait_for_events(floor, desk, 120)
    desk.kill()
    desk.wait()
    desk = start_process(floor)
    try:
        wait_for_events(floor, desk, 202)
    finally:
        desk.terminate()
        assert desk.wait(timeout=20) == 0
    records = floor.records("alice")
    assert_gapless(floor.records())
    assert [record.event.order_id for record in records[2:]] == orders
    assert len({record.meta.cause_at for record in records if record.meta}) == len(records)


def ready_file(floor: Floor) -> Path:
    return floor.settings.data / "desk.ready"


def start_process(floor: Floor) -> subprocess.Popen[bytes]:
    ready_file(floor).unlink(missing_ok=True)
    kafka = floor.settings.kafka
    environment = os.environ | {
        "SKEET_KAFKA__BOOTSTRAP": kafka.bootstrap,
        "SKEET_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
        "SKEET_KAFKA__ACCOUNT_PARTITIONS": str(kafka.account_partitions),
        "SKEET_KAFKA__MARKET_PARTITIONS": str(kafka.market_partitions),
        "SKEET_REGISTRY__URL": floor.settings.registry.url,
        "SKEET_DATA": str(floor.settings.data),
        "SKEET_DESK__SNAPSHOT_EVERY": "50",
        "SKEET_RISK__REFERENCE_MAX_AGE_MS": "600000",
        "SKEET_READY_FILE": str(ready_file(floor)),
    }
    program = "import sys; from skeet.agents.desk import main; from skeet.config import load_settings; sys.exit(main(load_settings()))"
    return subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL)


def wait_for_events(floor: Floor, desk: subprocess.Popen[bytes], count: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while len(floor.events("alice")) < count or not ready_file(floor).exists():
        assert time.monotonic() < deadline, f"{len(floor.events('alice'))} of {count} events"
        assert desk.poll() is None, "the desk ended"
        time.sleep(0.05)
