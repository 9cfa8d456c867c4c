"""What runs, as rows: state.json joined with what the system says about each pid now."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil

from skeet.local.installation import Installation
from skeet.local.plan import TOPICS_STEP, State
from skeet.local.ports import LOOPBACK
from skeet.local.state import PlatformState, ProcessRecord, read_state

CPU_SAMPLE_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """One process now. ``cpu_percent`` is of one core, over a moment; ``rss_mib`` resident memory."""

    name: str
    state: str
    pid: int | None
    uptime_s: float
    restarts: int
    address: str
    cpu_percent: float
    rss_mib: float
    last_exit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformStatus:
    """The platform now. ``running``: its supervisor is alive. ``ready``: it is, and so is every process."""

    running: bool
    ready: bool
    supervisor_pid: int | None
    data: str
    processes: tuple[ProcessStatus, ...]
    external: tuple[str, ...]


def platform_status(installation: Installation) -> PlatformStatus:
    """Look at every process of this data directory."""
    state = read_state(installation.state_file)
    running = state.supervisor is not None and state.supervisor.alive
    records = [record for record in state.processes if record.name != TOPICS_STEP]
    processes = {record.name: record.identity.process() if record.identity else None for record in records}
    measured = _cpu([process for process in processes.values() if process is not None])
    rows = tuple(_row(record, processes[record.name], measured, state) for record in records)
    return PlatformStatus(
        running=running,
        ready=running and state.settled and all(row.state == State.READY for row in rows),
        supervisor_pid=state.supervisor.pid if running and state.supervisor else None,
        data=str(installation.data),
        processes=rows,
        external=state.external,
    )


def _row(
    record: ProcessRecord, process: psutil.Process | None, cpu: dict[int, float], state: PlatformState
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
