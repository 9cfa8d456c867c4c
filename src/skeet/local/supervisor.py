"""Keeps a table of processes running: starts them in order of readiness, restarts with back-off, stops in reverse order.

It holds no connection and no state but ``state.json``: killed with SIGKILL it leaves its processes at work, and the next
one takes them over by pid and start time. What to do next is decided by ``plan.py``; this file only does it.
"""

from __future__ import annotations

import fcntl
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO

from skeet.config import Settings, load_settings
from skeet.core.errors import InfrastructureError
from skeet.core.platform import ProcessRestarted
from skeet.health import HEALTH
from skeet.local.child import Child
from skeet.local.disks import full_disks
from skeet.local.identity import Identity, stop
from skeet.local.incidents import Incidents
from skeet.local.installation import Installation, external_parts, write_endpoints
from skeet.local.kafka_security import is_secured
from skeet.local.plan import (
    ProcessSpec,
    State,
    backoff_s,
    failures_after,
    may_start,
    platform_specs,
    startable,
    stop_waves,
)
from skeet.local.sampler import Sampler
from skeet.local.state import PlatformState, ProcessRecord, read_state, write_state
from skeet.local.strays import stop_strays
from skeet.local.watchdog import Followed, Watchdog
from skeet.metrics import Source
from skeet.probes import serve
from skeet.process import DRAIN_DEADLINE_S, StopSignal, announce_ready, configure_logging, logger
from skeet.streams import crash_points
from skeet.streams.crash_points import SUPERVISOR_AFTER_START, reach
from skeet.streams.topics import FEEDS_OWN, topic_name

TICK_S = 0.1
READY_DEADLINE_S = 180.0
"""A process that is not ready by then is ended and started anew; long enough for Kafka to recover a large log."""

WATCHDOG = "watchdog"
"""Who the outside look at consumer groups is to a secured Kafka."""

LOG_TRIM_INTERVAL_S = 30.0
LOCK_DEADLINE_S = 1.0
"""A predecessor that was killed has let go of the lock at once; one that is stopping takes longer, and is an error."""


class Supervisor:
    """Runs a table of processes until it is told to stop.

    Parameters
    ----------
    installation
        the data directory; its lock is held while this runs.
    specs
        what to run.
    ports, external
        for ``state.json`` only.
    environment
        variables for the processes, added to this one's.
    incidents
        is told of restarts.
    """

    def __init__(
        self,
        installation: Installation,
        specs: Sequence[ProcessSpec],
        *,
        ports: Mapping[str, int] | None = None,
        external: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        incidents: Incidents | None = None,
    ) -> None:
        self._installation = installation
        self._specs = specs
        self._ports = dict(ports or {})
        self._external = tuple(external)
        variables = {**os.environ, **(environment or {}), "SKEET_DATA": str(installation.data)}
        self._children = {spec.name: Child(spec, installation, variables) for spec in specs}
        self._wanted_restarts: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._reasons: dict[str, str] = {}
        self._incidents = incidents
        self._written: PlatformState | None = None
        self._unwritten = False
        self._trimmed_s = time.monotonic()

    def run(self, stopping: StopSignal) -> None:
        """Supervise until asked to stop, then stop everything.

        Raises
        ------
        InfrastructureError
            another supervisor runs in this data directory.
        """
        lock = hold_lock(self._installation)
        try:
            self._take_over(read_state(self._installation.state_file))
            HEALTH.loop("supervisor")
            while not stopping.stopping:
                HEALTH.beat()
                self.step()
                stopping.wait(TICK_S)
            self.stop_all()
        finally:
            lock.close()

    def restart(self, name: str, reason: str) -> None:
        """Ask for a restart; safe to call from another thread."""
        self._wanted_restarts.put((name, reason))

    def ready_since(self, name: str) -> float | None:
        """When a process became ready (seconds since the epoch); None while it is not."""
        child = self._children.get(name)
        return child.since if child is not None and child.state is State.READY else None

    def health_of(self, name: str) -> str:
        """Where a process answers about its health; empty for none."""
        child = self._children.get(name)
        return child.health if child is not None else ""

    def step(self) -> None:
        """Look at every process once, and do what is due."""
        while not self._wanted_restarts.empty():
            name, reason = self._wanted_restarts.get()
            logger().warning("restarting", process=name, reason=reason)
            self._reasons[name] = reason
            self._children[name].send(signal.SIGKILL)
        for child in self._children.values():
            self._look(child)
        for name in startable(self._specs, {name: child.state for name, child in self._children.items()}):
            self._start(self._children[name])
        self._write()
        self._trim_logs()

    def _look(self, child: Child) -> None:
        match child.state:
            case State.STARTING if child.spec.once and child.ended() and child.succeeded:
                child.forget()
                child.enter(State.READY)
            case State.STARTING | State.READY if child.identity is not None and child.ended():
                self._failed(child)
            case State.STARTING if child.is_ready:
                child.enter(State.READY)
                logger().info("ready", process=child.spec.name, pid=child.identity.pid if child.identity else None)
            case State.STARTING if time.time() - child.since > READY_DEADLINE_S:
                logger().error("not ready in time", process=child.spec.name, deadline_s=READY_DEADLINE_S)
                child.send(signal.SIGKILL)
            case State.BACKOFF if time.time() - child.since >= backoff_s(child.failures) and self._may_start(child):
                child.restarts += 1
                self._tell_restart(child)
                self._start(child)
            case _:
                pass

    def _may_start(self, child: Child) -> bool:
        return may_start(child.spec.name, self._specs, {name: other.state for name, other in self._children.items()})

    def _start(self, child: Child) -> None:
        try:
            child.start()
        except OSError as error:
            child.last_exit = str(error)
            child.failures += 1
            child.enter(State.BACKOFF)
            return
        reach(SUPERVISOR_AFTER_START)

    def _tell_restart(self, child: Child) -> None:
        name = child.spec.name
        how = self._reasons.pop(name, child.last_exit)
        if self._incidents is not None:
            self._incidents.add(name, ProcessRestarted(process=name, how=how, restarts=child.restarts))

    def up(self) -> dict[tuple[str, ...], float]:
        """1 for each process that is ready, for the metric."""
        return {(name,): float(child.state is State.READY) for name, child in self._children.items()}

    def restarts(self) -> dict[tuple[str, ...], float]:
        """Starts of each process after its first, for the metric."""
        return {(name,): float(child.restarts) for name, child in self._children.items()}

    def _failed(self, child: Child) -> None:
        ready_for_s = time.time() - child.since if child.state is State.READY else 0.0
        child.failures = failures_after(child.failures, ready_for_s)
        if full := full_disks(self._installation.data):
            child.last_exit = f"{child.last_exit}; {'; '.join(full)}"
        child.forget()
        child.enter(State.BACKOFF)
        wait_s = backoff_s(child.failures)
        logger().warning("ended", process=child.spec.name, how=child.last_exit, again_in_s=wait_s)

    def _take_over(self, before: PlatformState) -> None:
        """Adopt what a killed predecessor left running and ready; end the rest of it."""
        for record in before.processes:
            child = self._children.get(record.name)
            if child is not None and child.adopt(record):
                logger().info("taken over", process=record.name, pid=record.identity.pid if record.identity else None)
            elif record.identity is not None:
                stop(record.identity, signal.SIGKILL, DRAIN_DEADLINE_S)
        adopted = [child.identity for child in self._children.values() if child.identity is not None]
        for name in stop_strays(self._installation, adopted):
            logger().warning("ended: started by a predecessor that did not live to note it", process=name)

    def stop_all(self) -> None:
        """Stop everything, dependants first; returns when no process is left."""
        for wave in stop_waves(self._specs):
            going = [self._children[name] for name in wave if self._children[name].identity is not None]
            for child in going:
                child.send(child.spec.stop_signal)
                child.enter(State.STOPPING)
            self._write()
            deadline = time.monotonic() + DRAIN_DEADLINE_S
            while any(not child.ended() for child in going) and time.monotonic() < deadline:
                time.sleep(TICK_S / 2)
            for child in going:
                if not child.ended():
                    logger().warning("did not drain in time", process=child.spec.name, deadline_s=DRAIN_DEADLINE_S)
                    child.send(signal.SIGKILL)
                    while not child.ended():
                        time.sleep(TICK_S / 2)
                child.forget()
        for child in self._children.values():
            child.enter(State.STOPPED)
        self._write(supervisor=False)

    def _write(self, *, supervisor: bool = True) -> None:
        state = PlatformState(
            supervisor=Identity.of(os.getpid()) if supervisor else None,
            processes=tuple(child.record() for child in self._children.values()),
            ports=self._ports,
            external=self._external,
        )
        if state == self._written:
            return
        try:
            write_state(self._installation.state_file, state)
            self._written = state
        except OSError as error:
            # A full disk: the processes matter more than what is written of them; the next look tries again.
            if not self._unwritten:
                logger().error("state.json cannot be written", error=str(error))
            self._unwritten = True
            return
        self._unwritten = False

    def _trim_logs(self) -> None:
        if time.monotonic() - self._trimmed_s > LOG_TRIM_INTERVAL_S:
            self._trimmed_s = time.monotonic()
            for child in self._children.values():
                with suppress(OSError):  # a full disk; cutting is tried again
                    child.trim_log()


def hold_lock(installation: Installation) -> IO[str]:
    """Take the data directory's lock; it is let go when the file is closed or the process ends."""
    handle = installation.lock.open("w")
    deadline = time.monotonic() + LOCK_DEADLINE_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except OSError:
            if time.monotonic() > deadline:
                handle.close()
                raise InfrastructureError(
                    f"another supervisor runs in {installation.data}; see `skeet status`, or stop it with `skeet down`"
                ) from None
            time.sleep(TICK_S)


def stop_recorded(records: Sequence[ProcessRecord]) -> list[str]:
    """End every recorded process that still runs, for a supervisor that is no more. Returns their names."""
    left = [(record, record.identity) for record in records if record.identity is not None and record.identity.alive]
    # Last in the table are roles, first the stores they write to.
    for record, identity in reversed(left):
        stop(identity, signal.Signals(record.stop_signal), DRAIN_DEADLINE_S)
    return [record.name for record, _ in left]


def platform(port_base: int | None = None) -> tuple[Supervisor, Callable[[], None]]:
    """The supervisor of this machine's platform, and a function that ends its watchdog."""
    settings = load_settings()
    installation = Installation(settings.data.absolute())
    installation.create()
    external = external_parts(settings, installation)
    secured = "kafka" not in external and is_secured(installation, settings)
    ports = write_endpoints(installation, external, port_base, secured=secured)
    first_port = settings.health.port
    specs = platform_specs(
        external,
        settings.kafka.topic_prefix,
        simulated=settings.feed.venue == "sim",
        scale=settings.scale,
        health_port=first_port + 1 if first_port else 0,
        secured=secured,
    )
    settings = load_settings(kafka={"sasl_username": WATCHDOG}) if secured else load_settings()
    who = {"SKEET_KAFKA__SASL_USERNAME": WATCHDOG} if secured else {}
    sampler = Sampler(settings.kafka, {"SKEET_DATA": str(installation.data), **who})
    incidents = Incidents(sampler, installation.watch_report)
    supervisor = Supervisor(installation, specs, ports=ports, external=sorted(external), incidents=incidents)
    serve(settings, "supervisor")
    Source("skeet_process_up", supervisor.up).register()
    Source("skeet_process_restarts_total", supervisor.restarts).register()
    watchdog = Watchdog(supervisor, followed_of(specs, settings), sampler, incidents, settings.watchdog)
    thread = threading.Thread(target=watchdog.run, name="watchdog", daemon=True)
    thread.start()
    announce_ready()
    return supervisor, watchdog.stop


def followed_of(specs: Sequence[ProcessSpec], settings: Settings) -> dict[str, Followed]:
    """What the watchdog looks at: every process of ours, its group, and the topics that it alone writes."""
    writes = {"feed": tuple(topic_name(topic, settings.kafka) for topic in FEEDS_OWN)}
    several = {spec.role for spec in specs if spec.slot > 0}
    return {
        spec.name: Followed(
            group=spec.group,
            member=f"{spec.role}-{spec.slot}" if spec.role in several else "",
            writes=writes.get(spec.role, ()),
        )
        for spec in specs
        if not spec.once
    }


def main() -> int:
    """``python -m skeet.local.supervisor``: what ``skeet up`` leaves running."""
    configure_logging("supervisor", load_settings().log_level)
    crash_points.install(load_settings())
    stopping = StopSignal().install()
    supervisor, end_watchdog = platform()
    try:
        supervisor.run(stopping)
    except InfrastructureError as error:
        logger().error(str(error))
        return error.exit_code
    finally:
        end_watchdog()
    return 0


if __name__ == "__main__":
    sys.exit(main())
