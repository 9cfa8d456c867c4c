"""The supervisor's decisions, without a process."""

from __future__ import annotations

import signal

from skeet.config import ScaleSettings
from skeet.local.plan import (
    MAX_BACKOFF_S,
    STABLE_AFTER_S,
    ProcessSpec,
    State,
    backoff_s,
    failures_after,
    may_start,
    platform_specs,
    startable,
    stop_waves,
)
from skeet.wiring import OPTIONAL, ROLES


def spec(name: str, *after: str) -> ProcessSpec:
    return ProcessSpec(name=name, command=("true",), after=after)


TABLE = (spec("log"), spec("store"), spec("desk", "log"), spec("view", "desk", "store"))


def states(**known: State) -> dict[str, State]:
    return {"log": State.WAITING, "store": State.WAITING, "desk": State.WAITING, "view": State.WAITING} | known


def test_independent_processes_start_together() -> None:
    assert startable(TABLE, states()) == ["log", "store"]


def test_process_waits_until_every_dependency_is_ready() -> None:
    assert startable(TABLE, states(log=State.STARTING, store=State.READY)) == []
    assert startable(TABLE, states(log=State.READY, store=State.READY)) == ["desk"]
    assert startable(TABLE, states(log=State.READY, desk=State.READY, store=State.BACKOFF)) == []


def test_part_given_by_address_is_not_waited_for() -> None:
    assert startable([spec("desk", "log")], {"desk": State.WAITING}) == ["desk"]


def test_backoff_doubles_up_to_its_limit() -> None:
    assert [backoff_s(n) for n in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert backoff_s(50) == MAX_BACKOFF_S


def test_failures_count_anew_after_a_stable_time() -> None:
    assert failures_after(4, ready_for_s=1) == 5
    assert failures_after(4, ready_for_s=STABLE_AFTER_S) == 1


def test_dependants_stop_before_what_they_depend_on() -> None:
    assert stop_waves(TABLE) == [["view"], ["desk"], ["log", "store"]]


def test_platform_holds_every_role_but_those_started_on_demand() -> None:
    specs = {spec.name: spec for spec in platform_specs(frozenset(), "skeet.")}
    assert specs.keys() == ROLES.keys() - {"strategy"} - OPTIONAL | {"topics"}
    assert specs["desk"].group == "skeet.desk"
    assert specs["postgres"].stop_signal is signal.SIGINT


def test_roles_start_only_after_topics_are_in_place() -> None:
    specs = {spec.name: spec for spec in platform_specs(frozenset({"kafka", "registry"}), "skeet.")}
    assert {"kafka", "registry"}.isdisjoint(specs)
    assert "topics" in specs["desk"].after
    assert "topics" not in specs["postgres"].after


def test_recorded_venue_needs_no_simulated_one() -> None:
    assert "sim" not in {spec.name for spec in platform_specs(frozenset(), "skeet.", simulated=False)}


def test_process_that_ended_waits_for_its_dependencies_as_at_its_first_start() -> None:
    assert not may_start("desk", TABLE, states(log=State.BACKOFF))
    assert not may_start("desk", TABLE, states(log=State.STARTING))
    assert may_start("desk", TABLE, states(log=State.READY))


def test_process_waits_for_what_its_dependencies_need() -> None:
    """A store of its own is up, but the desk that the view follows has lost its log."""
    assert not may_start("view", TABLE, states(log=State.BACKOFF, desk=State.READY, store=State.READY))
    assert may_start("view", TABLE, states(log=State.READY, desk=State.READY, store=State.READY))


def test_several_of_a_role_are_numbered_and_whoever_waits_for_the_role_waits_for_all() -> None:
    specs = {s.name: s for s in platform_specs(frozenset(), "skeet.", scale=ScaleSettings(desk=2), health_port=9100)}
    assert "desk" not in specs and {"desk-0", "desk-1", "gateway"} <= specs.keys()
    assert {"desk-0", "desk-1"} <= set(specs["strategies"].after)
    assert [specs[name].environment["SKEET_SLOT"] for name in ("desk-0", "desk-1")] == ["0", "1"]
    assert "SKEET_SLOT" not in specs["gateway"].environment
    ports = [spec.environment.get("SKEET_HEALTH__PORT") for spec in specs.values() if not spec.once]
    assert len(set(ports)) == len(ports) and "9100" in ports
    assert specs["desk-1"].group == "skeet.desk" and specs["desk-1"].command[-1] == "desk"


def test_secured_processes_are_principals_of_their_own_and_wait_for_access() -> None:
    specs = {spec.name: spec for spec in platform_specs(frozenset(), "skeet.", secured=True)}
    assert specs["desk"].principal == "desk"
    assert specs["topics"].principal == specs["access"].principal == specs["kafka"].principal == "admin"
    assert specs["postgres"].principal == ""
    assert specs["access"].after == ("kafka",)
    assert "access" in specs["registry"].after
    assert "access" in specs["topics"].after


def test_without_security_nobody_is_told_who_it_is() -> None:
    specs = platform_specs(frozenset(), "skeet.")
    assert {spec.principal for spec in specs} == {None}
    assert "access" not in {spec.name for spec in specs}
