"""``skeet up | down | status | logs | doctor | reset``: the platform on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Annotated

import typer
from rich.console import Console

from skeet.cli.output import console, print_json, print_rows, time_text
from skeet.config import load_settings
from skeet.core.errors import InfrastructureError, InvalidInput
from skeet.local import doctor as examination
from skeet.local.identity import Identity
from skeet.local.installation import Installation, external_parts, write_endpoints
from skeet.local.kafka_security import is_secured, secure
from skeet.local.logs import Follower, follow, last_lines, log_files
from skeet.local.plan import State
from skeet.local.ports import require_free
from skeet.local.state import PlatformState, read_state
from skeet.local.status import PlatformStatus, platform_status, unsettled
from skeet.local.strays import stop_strays
from skeet.local.supervisor import READY_DEADLINE_S, stop_recorded
from skeet.process import DRAIN_DEADLINE_S, StopSignal

POLL_INTERVAL_S = 0.2
DOWN_DEADLINE_S = 4 * DRAIN_DEADLINE_S
"""The supervisor stops its processes in waves, each with the drain deadline; most take a second."""

HOPELESS_AFTER = 4
"""Restarts before `up` stops waiting for a process (the supervisor goes on trying, further and further apart)."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def up(
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay, and show every process's log.")] = False,
    port_base: Annotated[
        int | None, typer.Option(min=1024, max=65_000, help="Use the ports from this one on, instead of free ones.")
    ] = None,
    desks: Annotated[int | None, typer.Option(min=1, max=64, help="This many desks; a second one takes over.")] = None,
    gateways: Annotated[int | None, typer.Option(min=1, max=64, help="This many gateways.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="This many Faust workers.")] = None,
    projections: Annotated[int | None, typer.Option(min=1, max=64, help="This many of each projection.")] = None,
    secured: Annotated[
        bool,
        typer.Option("--secure", help="Kafka asks for credentials and checks access; the first start of a directory."),
    ] = False,
) -> None:
    """Start everything on this machine, and return once all of it is ready. Safe to repeat.

    How many of a role stay running is a setting (SKEET_SCALE__DESK and so on); the options here hold until `skeet down`.
    """
    _scale({"desk": desks, "gateway": gateways, "worker": workers}, projections)
    installation = _installation()
    before = read_state(installation.state_file)
    if before.supervisor is not None and before.supervisor.alive:
        if port_base is not None:
            raise InvalidInput("the platform runs; its ports cannot change now, run `skeet down` first")
        if secured and not is_secured(installation, load_settings()):
            raise InvalidInput(
                "the platform runs without --secure; another data directory (SKEET_DATA) can run with it"
            )
        _await_ready(installation, before.supervisor)
        _show_started(installation)
        return
    _prepare(installation, before, port_base, secured=secured)
    if foreground:
        _stay(installation)
    else:
        _detach(installation)
        _show_started(installation)


def down() -> None:
    """Stop everything that was started here, whether or not its supervisor still lives. Leaves no process behind."""
    installation = _installation()
    state = read_state(installation.state_file)
    if state.supervisor is not None and state.supervisor.alive:
        state.supervisor.send(signal.SIGTERM)
        if not state.supervisor.wait_gone(DOWN_DEADLINE_S):
            state.supervisor.send(signal.SIGKILL)
        state = read_state(installation.state_file)
        stop_recorded(state.processes)
        console().print("stopped")
        return
    left = [*stop_recorded(state.processes), *stop_strays(installation, ())]
    console().print(f"the supervisor was gone; stopped {', '.join(left)}" if left else "nothing was running")


def status(as_json: Json = False) -> None:
    """What runs, where, and how it is. Exit code 0 when everything is ready, 3 otherwise."""
    found = platform_status(_installation())
    if as_json:
        print_json(found)
    else:
        _print_status(found)
    if not found.ready:
        raise typer.Exit(3)


def logs(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Processes; all by default.")] = None,
    following: Annotated[bool, typer.Option("-f", "--follow", help="Keep showing new lines.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many last lines of each.")] = 20,
) -> None:
    """Log lines of the parts, with the part's name before each."""
    folder = _installation().logs
    files = log_files(folder, names or [])
    follower = Follower(folder, names or [])
    for path in files:
        for line in last_lines(path, lines):
            _show_line(path.stem, line)
    if following:
        follow(follower, _show_line, lambda: False)


def doctor(as_json: Json = False) -> None:
    """Check this machine, with a remedy for each finding. Exit code 1 when something must be changed."""
    findings = examination.examine(load_settings())
    if as_json:
        print_json(findings)
    else:
        rows = [{"check": f.check, "": str(f.verdict), "found": f.detail, "remedy": f.remedy} for f in findings]
        print_rows("", rows, as_json=False)
    if any(finding.verdict is examination.Verdict.FAIL for finding in findings):
        raise typer.Exit(1)


def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete everything the platform wrote into the data directory; keeps skeet.toml and strategies/. No way back."""
    installation = _installation()
    state = read_state(installation.state_file)
    if (state.supervisor and state.supervisor.alive) or any(r.identity and r.identity.alive for r in state.processes):
        raise InvalidInput("the platform runs; stop it with `skeet down` first")
    if not yes:
        typer.confirm(f"Delete the log, the stores and the secrets in {installation.data}?", abort=True)
    deleted = installation.delete_content()
    console().print(f"deleted {', '.join(deleted)}" if deleted else "there was nothing to delete")


def _scale(counts: dict[str, int | None], projections: int | None) -> None:
    """Options become the environment that the supervisor, a process of its own, reads its settings from."""
    stores = dict.fromkeys(("projection_postgres", "projection_clickhouse"), projections)
    for role, count in (counts | stores).items():
        if count is not None:
            os.environ[f"SKEET_SCALE__{role.upper()}"] = str(count)


def _installation() -> Installation:
    return Installation(load_settings().data.absolute())


def _prepare(installation: Installation, before: PlatformState, port_base: int | None, *, secured: bool) -> None:
    """Directories, ports, secrets, downloads: everything that can fail with one clear line, before anything starts."""
    # What a killed supervisor left behind holds its ports rightly; the new one takes it over.
    ours = {record.name for record in before.processes if record.identity is not None and record.identity.alive}
    if ours and port_base is not None:
        raise InvalidInput("parts of the platform still run; their ports cannot change now, run `skeet down` first")
    installation.create()
    stop_strays(installation, [r.identity for r in before.processes if r.identity is not None and r.identity.alive])
    settings = load_settings()
    external = external_parts(settings, installation)
    secured = "kafka" not in external and (secured or is_secured(installation, settings))
    if secured:
        secure(installation)
    ports = write_endpoints(installation, external, port_base, secured=secured)
    for name, port in ports.items():
        if name.removesuffix("-controller") not in ours and (name != "sim" or settings.feed.venue == "sim"):
            require_free(name, port)
    if "kafka" not in external:
        from skeet.local.kafka import ensure_installed

        said = Console(stderr=True)
        ensure_installed(lambda text: said.print(text, style="dim"))


def _stay(installation: Installation) -> None:
    from skeet.local.supervisor import platform

    stopping = StopSignal().install()
    ended = threading.Event()
    follower = Follower(installation.logs)
    threading.Thread(target=follow, args=(follower, _show_line, ended.is_set), daemon=True).start()
    supervisor, end_watchdog = platform()
    try:
        supervisor.run(stopping)
    finally:
        end_watchdog()
        ended.set()


def _detach(installation: Installation) -> None:
    with (installation.logs / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "skeet.local.supervisor"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "SKEET_DATA": str(installation.data)},
        )
    _await_ready(installation, Identity.of(process.pid), process)


def _await_ready(
    installation: Installation, supervisor: Identity, process: subprocess.Popen[bytes] | None = None
) -> None:
    deadline = time.monotonic() + READY_DEADLINE_S
    before: dict[str, int] = {}
    with Console(stderr=True).status("starting") as display:
        while time.monotonic() < deadline:
            state = read_state(installation.state_file)
            if (process is not None and process.poll() is not None) or not supervisor.alive:
                raise InfrastructureError(_last_words(installation))
            if state.supervisor == supervisor:
                if state.settled:
                    return
                for record in state.processes:
                    before.setdefault(record.name, record.restarts)
                _raise_if_hopeless(installation, state, before)
                waiting = unsettled(state)
                display.update(f"{len(state.processes) - len(waiting)}/{len(state.processes)} ready; {_phrase(state)}")
            time.sleep(POLL_INTERVAL_S)
    late = ", ".join(record.name for record in unsettled(read_state(installation.state_file)))
    raise InfrastructureError(f"not ready after {READY_DEADLINE_S:.0f} s: {late}; see `skeet logs`, `skeet status`")


def _raise_if_hopeless(installation: Installation, state: PlatformState, before: Mapping[str, int]) -> None:
    """``before``: restarts that a process had when this wait began. One that was taken over may have had many in its life."""
    for record in state.processes:
        if record.state is State.BACKOFF and record.restarts - before[record.name] >= HOPELESS_AFTER:
            last = " ".join(last_lines(installation.logs / f"{record.name}.log", 1))
            raise InfrastructureError(
                f"{record.name} ends again and again ({record.last_exit}): {last[-400:]}; see `skeet logs {record.name}`. "
                "The rest runs; `skeet down` stops it"
            )


def _phrase(state: PlatformState) -> str:
    working = [record for record in unsettled(state) if record.state is not State.WAITING]
    return ", ".join(
        f"{record.name} {record.state}" + (f" after {record.last_exit}" if record.last_exit else "")
        for record in working
    )


def _last_words(installation: Installation) -> str:
    last = last_lines(installation.logs / "supervisor.log", 3)
    return f"the supervisor ended; its last lines: {' | '.join(last)}"


def _show_started(installation: Installation) -> None:
    _print_status(platform_status(installation))
    console().print(
        "\nNext: [b]skeet account create demo[/b] · [b]skeet watch[/b] · [b]skeet connect kafka[/b] · "
        "[b]skeet logs -f[/b] · [b]skeet down[/b]"
    )


def _print_status(found: PlatformStatus) -> None:
    rows = [
        {
            "process": row.name,
            "state": row.state,
            "pid": row.pid,
            "uptime": _duration(row.uptime_s),
            "restarts": row.restarts,
            "address": row.address,
            "health": row.health.removeprefix("http://"),
            "lag": "" if row.lag is None else row.lag,
            "cpu %": row.cpu_percent,
            "MiB": round(row.rss_mib),
            "last exit": row.last_exit,
        }
        for row in found.processes
    ]
    print_rows("", rows, as_json=False, empty="nothing was ever started here; `skeet up` starts it")
    for line in found.full_disks:
        console().print(line, style="red")
    supervisor = f"supervisor pid {found.supervisor_pid}" if found.running else "the supervisor does not run"
    given = f" · given by address: {', '.join(found.external)}" if found.external else ""
    console().print(f"{supervisor} · data in {found.data}{given}")
    if found.incident:
        console().print(f"last incident {time_text(found.incident['at_ns'])}: {found.incident['text']}", markup=False)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _show_line(name: str, line: str) -> None:
    sys.stdout.write(f"{name:>21} | {line}\n")
    sys.stdout.flush()
