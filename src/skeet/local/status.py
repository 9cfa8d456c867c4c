"""What runs, as rows: state.json joined with what the system says about each pid now."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import psutil

from skeet.local.disks import full_disks
from skeet.local.incidents import read_report
from skeet.local.installation import Installation
from skeet.local.plan import TOPICS_STEP, State
from skeet.local.ports import LOOPBACK
from skeet.local.state import PlatformState, ProcessRecord, read_state
from skeet.probes import read_address

CPU_SAMPLE_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """One process now. ``cpu_percent`` is of one core, over a moment; ``rss_mib`` resident memory. ``health`` is where it
    answers ``/livez``, ``/readyz`` and ``/metrics``; ``lag`` the offsets its group has not committed, None without a group."""

    name: str
    state: str
    pid: int | None
    uptime_s: float
    restarts: int
    address: str
    cpu_percent: float
    rss_mib: float
    last_exit: str
    health: str = ""
    lag: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformStatus:
    """The platform now. ``running``: its supervisor is alive. ``ready``: it is, and so is every process. ``incident`` is
    the newest thing the supervisor had to report: ``at_ns``, ``type``, ``key``, ``text``."""

    running: bool
    ready: bool
    supervisor_pid: int | None
    data: str
    processes: tuple[ProcessStatus, ...]
    external: tuple[str, ...]
    incident: dict[str, Any] | None = None
    full_disks: tuple[str, ...] = ()
    """One line for each: which part, where, what is free."""


def platform_status(installation: Installation) -> PlatformStatus:
    """Look at every process of this data directory."""
    state = read_state(installation.state_file)
    running = state.supervisor is not None and state.supervisor.alive
    records = [record for record in state.processes if record.name != TOPICS_STEP]
    processes = {record.name: record.identity.process() if record.identity else None for record in records}
    measured = _cpu([process for process in processes.values() if process is not None])
    report = read_report(installation.watch_report)
    lags = report.get("lag", {})
    rows = tuple(_row(record, processes[record.name], measured, state, lags) for record in records)
    return PlatformStatus(
        running=running,
        ready=running and state.settled and all(row.state == State.READY for row in rows),
        supervisor_pid=state.supervisor.pid if running and state.supervisor else None,
        data=str(installation.data),
        processes=rows,
        external=state.external,
        incident=report.get("incident"),
        full_disks=tuple(full_disks(installation.data)),
    )


def metrics_targets(installation: Installation) -> dict[str, str]:
    """Where each process of ours exposes metrics now, as ``host:port``: supervisor, roles, strategy instances."""
    state = read_state(installation.state_file)
    found = {"supervisor": read_address(installation.ready / "supervisor.health")}
    found |= {record.name: record.health for record in state.processes}
    instances = sorted((installation.data / "instances").glob("*/home/ready.health"))
    found |= {f"strategy/{path.parent.parent.name}": read_address(path) for path in instances}
    return {name: url.removeprefix("http://") for name, url in found.items() if url}


def _row(
    record: ProcessRecord,
    process: psutil.Process | None,
    cpu: dict[int, float],
    state: PlatformState,
    lags: dict[str, int],
) -> ProcessStatus:
    port = state.ports.get(record.name)
    alive = record.state if process is not None or record.identity is None else "gone"
    try:
        uptime_s = time.time() - process.create_time() if process else 0.0
        rss = process.memory_info().rss / 2**20 if process else 0.0
    except psutil.NoSuchProcess:
        uptime_s, rss = 0.0, 0.0
    return ProcessStatus(
        name=record.name,
        state=str(alive),
        pid=process.pid if process else None,
        uptime_s=round(uptime_s, 1),
        restarts=record.restarts,
        address=f"{LOOPBACK}:{port}" if port else "",
        cpu_percent=round(cpu.get(process.pid, 0.0), 1) if process else 0.0,
        rss_mib=round(rss, 1),
        last_exit=record.last_exit,
        health=record.health,
        lag=lags.get(record.group) if record.group else None,
    )


def _cpu(processes: list[psutil.Process]) -> dict[int, float]:
    for process in processes:
        _percent(process)
    time.sleep(CPU_SAMPLE_S if processes else 0)
    return {process.pid: _percent(process) for process in processes}


def _percent(process: psutil.Process) -> float:
    try:
        return float(process.cpu_percent())
    except psutil.NoSuchProcess:
        return 0.0


def unsettled(state: PlatformState) -> list[ProcessRecord]:
    """The processes that are not ready yet."""
    return [record for record in state.processes if record.state is not State.READY]
