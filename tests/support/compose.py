"""docker-compose.yml without an engine: the SKEET services' own commands and environment, as processes of this machine.

Nothing but addresses and mount points is put in other words: ``kafka:9092`` becomes a local broker's address, and
``/var/lib/skeet`` a folder that stands for the volume mounted there. What the file does not give a service, its process does
not have.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from installation import eventually

from skeet.local.children import stop_child, tied
from skeet.local.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "skeet:latest"
BIN = Path(sys.executable).parent
START_DEADLINE_S = 120.0
ONCE_DEADLINE_S = 120.0
STOP_DEADLINE_S = 25.0

Service = Mapping[str, Any]


def compose_file() -> dict[str, Any]:
    """The file, anchors and merges resolved."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def our_services() -> dict[str, Service]:
    """The services that run our image."""
    return {name: service for name, service in compose_file()["services"].items() if service["image"] == IMAGE}


def image_environment() -> dict[str, str]:
    """The variables that the Dockerfile's last stage sets, PATH left out."""
    last = (ROOT / "deploy" / "Dockerfile").read_text().rpartition("\nFROM ")[2].replace("\\\n", " ")
    pairs = [pair for line in re.findall(r"^ENV (.*)$", last, re.MULTILINE) for pair in line.split()]
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs) if name != "PATH"}


class ComposeRun:
    """The services of our image as processes.

    Parameters
    ----------
    home
        folder of volumes, secrets, ready files and output.
    addresses
        what the file says → what it is here; longest first.
    secrets
        content of each secret.
    """

    def __init__(self, home: Path, addresses: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        self.home = home
        self._addresses = dict(sorted(addresses.items(), key=lambda pair: -len(pair[0])))
        self._secrets = secrets
        self._services = our_services()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._done: set[str] = set()
        self._health: dict[str, int] = {}

    def up(self) -> None:
        """Start every service without a profile, each after what it depends on is as it must be."""
        waiting = {name: service for name, service in self._services.items() if "profiles" not in service}
        while waiting:
            startable = [name for name, service in waiting.items() if self._met(service)]
            for name in startable:
                self._start(name, waiting.pop(name))
            if not startable:
                eventually(lambda: any(map(self._met, waiting.values())), START_DEADLINE_S, f"{list(waiting)}: {self}")
        eventually(lambda: all(map(self.healthy, self._processes)), START_DEADLINE_S, f"all healthy: {self}")

    def run(self, name: str, *words: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        """``docker compose run --rm NAME WORDS``."""
        done = subprocess.run(
            self._command(words),
            env=self.environment(name),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=ONCE_DEADLINE_S,
            check=False,
        )
        assert expect is None or done.returncode == expect, f"{name} {' '.join(words)}: {done.stdout}\n{done.stderr}"
        return done

    def down(self) -> None:
        """Stop all, last started first."""
        for process in reversed(self._processes.values()):
            stop_child(process, STOP_DEADLINE_S)

    def output(self) -> dict[str, str]:
        """What each process wrote."""
        return {path.stem: path.read_text() for path in self.home.glob("*.log")}

    def healthy(self, name: str) -> bool:
        """What the image's health check says, run with the service's environment."""
        check = ["/bin/sh", str(ROOT / "deploy" / "healthcheck")]
        return subprocess.run(check, env=self.environment(name), capture_output=True, check=False).returncode == 0

    def environment(self, name: str) -> dict[str, str]:
        """The image's variables, the service's on top, in this machine's addresses and folders."""
        given = image_environment() | {k: str(v) for k, v in self._services[name].get("environment", {}).items()}
        here = {variable: self._here(name, value) for variable, value in given.items()}
        if "SKEET_HEALTH__PORT" in here:  # one in each container; here they share one machine
            here["SKEET_HEALTH__PORT"] = str(self._health.setdefault(name, free_port()))
        return {"PATH": f"{BIN}:/usr/bin:/bin", **here}

    def _here(self, name: str, value: str) -> str:
        """The value in this machine's terms, in one pass: what was put in is not looked at again."""
        table = {**self._addresses, **self._mounts(name)}
        places = "|".join(re.escape(there) for there in sorted(table, key=len, reverse=True))
        return re.sub(places, lambda found: table[found[0]], value)

    def _mounts(self, name: str) -> dict[str, str]:
        folders = {"/run/skeet": self.home / "run" / name, "/run/secrets": self.home / "secrets" / name}
        volumes = dict(volume.split(":")[1::-1] for volume in self._services[name].get("volumes", ()))
        folders |= {mount: self.home / "volumes" / volume for mount, volume in volumes.items()}
        folders.setdefault("/var/lib/skeet", self.home / "volumes" / f"of-{name}")
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        for secret in self._services[name].get("secrets", ()):
            (folders["/run/secrets"] / secret).write_text(self._secrets[secret])
        return {mount: str(folder) for mount, folder in folders.items()}

    def _met(self, service: Service) -> bool:
        wanted = service.get("depends_on", {})
        return all(
            self._healthy_service(name) if need["condition"] == "service_healthy" else self._completed(name)
            for name, need in wanted.items()
        )

    def _healthy_service(self, name: str) -> bool:
        return name not in self._services or (name in self._processes and self.healthy(name))

    def _completed(self, name: str) -> bool:
        return name in self._done

    def _start(self, name: str, service: Service) -> None:
        if service["restart"] == "no":
            self.run(name, *service["command"])
            self._done.add(name)
            return
        with (self.home / f"{name}.log").open("ab") as log:
            command = tied(self._command(service["command"]))
            self._processes[name] = subprocess.Popen(
                command, env=self.environment(name), cwd=self.home, stdout=log, stderr=log
            )

    def _command(self, words: tuple[str, ...] | list[str]) -> list[str]:
        return [str(BIN / "skeet"), *words]  # ENTRYPOINT ["skeet"]

    def __str__(self) -> str:
        ended = {name: process.poll() for name, process in self._processes.items() if process.poll() is not None}
        return f"ended {ended}; last words { ({name: text[-300:] for name, text in self.output().items()}) }"
