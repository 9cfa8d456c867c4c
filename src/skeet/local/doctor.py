"""Is this machine fit to run the platform? One finding per check, each with a remedy where it is not."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from skeet.config import Settings
from skeet.core.errors import SkeetError
from skeet.local import jars, postgres
from skeet.local.disks import full_disks
from skeet.local.installation import Installation, external_parts
from skeet.local.plan import State
from skeet.local.ports import holder, is_free
from skeet.local.state import read_state

OLDEST_PYTHON = (3, 11)
FIRST_UNTRIED_PYTHON = (3, 14)
MIN_DISK_GIB = 5.0
MIN_MEMORY_GIB = 4.0


class Verdict(StrEnum):
    """How a check came out. Only FAIL makes the exit code 1."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check; ``remedy`` is empty when all is well."""

    check: str
    verdict: Verdict
    detail: str
    remedy: str = ""


def examine(settings: Settings) -> list[Finding]:
    """All checks, in order. A check that itself breaks is a finding, not an error."""
    installation = Installation(settings.data.absolute())
    external = external_parts(settings, installation)
    findings = [*_python(), *_packages(), *_machine(installation), *_permissions(installation)]
    if "kafka" not in external:
        findings += [_tried("java", _java), _tried("kafka jars", _kafka_jars)]
    if "postgres" not in external:
        findings.append(_tried("postgres", _postgres))
    if "clickhouse" not in external:
        findings.append(_installed("chdb", "clickhouse engine"))
    return findings + list(_ports(installation))


def _python() -> Iterator[Finding]:
    found = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    fits = OLDEST_PYTHON <= sys.version_info[:2] < FIRST_UNTRIED_PYTHON
    yield Finding(
        check="python",
        verdict=Verdict.OK if fits else Verdict.FAIL,
        detail=found,
        remedy="" if fits else "install Python 3.11, 3.12 or 3.13 and make the virtual environment anew",
    )


def _packages() -> Iterator[Finding]:
    """The dependencies of the installed distribution, pinned ones above all, against what is installed."""
    try:
        wanted = [Requirement(text) for text in requires("skeet") or ()]
    except PackageNotFoundError:
        yield Finding(
            check="packages",
            verdict=Verdict.WARN,
            detail="a source tree",
            remedy="`pip install -e .` to have them checked",
        )
        return
    needed = [requirement for requirement in wanted if requirement.marker is None or requirement.marker.evaluate()]
    wrong = [text for text in map(_mismatch, needed) if text]
    yield Finding(
        check="packages",
        verdict=Verdict.FAIL if wrong else Verdict.OK,
        detail="; ".join(wrong) or f"{len(needed)} as required",
        remedy="install the locked versions again (see README)" if wrong else "",
    )


def _mismatch(requirement: Requirement) -> str:
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement.name} is missing"
    return "" if requirement.specifier.contains(found, prereleases=True) else f"{requirement} but {found} is installed"


def _machine(installation: Installation) -> Iterator[Finding]:
    folder = next(path for path in [installation.data, *installation.data.parents] if path.exists())
    free_gib = shutil.disk_usage(folder).free / 2**30
    enough = free_gib >= MIN_DISK_GIB
    yield Finding(
        check="disk",
        verdict=Verdict.OK if enough else Verdict.FAIL,
        detail=f"{free_gib:.1f} GiB free at {folder}",
        remedy="" if enough else f"free {MIN_DISK_GIB:.0f} GiB, or use another disk with --data DIR",
    )
    for line in full_disks(installation.data):
        yield Finding(
            check="disk", verdict=Verdict.FAIL, detail=line, remedy="free space there; what died of it starts again"
        )
    available_gib = psutil.virtual_memory().available / 2**30
    roomy = available_gib >= MIN_MEMORY_GIB or read_state(installation.state_file).supervisor is not None
    yield Finding(
        check="memory",
        verdict=Verdict.OK if roomy else Verdict.WARN,
        detail=f"{available_gib:.1f} GiB available",
        remedy="" if roomy else f"close programs; the platform wants {MIN_MEMORY_GIB:.0f} GiB",
    )


def _permissions(installation: Installation) -> Iterator[Finding]:
    if not installation.data.exists():
        yield Finding(check="data directory", verdict=Verdict.OK, detail=f"{installation.data} will be created")
        return
    writable = os.access(installation.data, os.W_OK | os.X_OK)
    yield Finding(
        check="data directory",
        verdict=Verdict.OK if writable else Verdict.FAIL,
        detail=str(installation.data),
        remedy="" if writable else f"make {installation.data} writable for you, or choose another with --data DIR",
    )
    readable = [path.name for path in _files(installation.secrets) if path.stat().st_mode & 0o077]
    yield Finding(
        check="secrets",
        verdict=Verdict.FAIL if readable else Verdict.OK,
        detail=f"others may read {', '.join(readable)}" if readable else "readable by you only",
        remedy=f"chmod -R go= {installation.secrets}" if readable else "",
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []


def _tried(check: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(check=check, verdict=Verdict.OK, detail=look())
    except (SkeetError, OSError) as error:
        detail, _, remedy = str(error).partition("; ")
        return Finding(check=check, verdict=Verdict.FAIL, detail=detail, remedy=remedy or "see the message")


def _java() -> str:
    java = jars.find_java()
    return f"{java} (version {jars.java_version(java)})"


def _kafka_jars() -> str:
    folder = jars.cache_dir() / f"kafka-{jars.KAFKA_VERSION}" / "jars"
    if not folder.is_dir():
        return "not downloaded yet; the first `skeet up` does it"
    jars.verify(folder)
    return f"{len(jars.expected_hashes())} jars as published, in {folder}"


def _postgres() -> str:
    folder = postgres.find_bin()
    return f"version {postgres.server_version(folder)} in {folder}"


def _installed(package: str, check: str) -> Finding:
    try:
        return Finding(check=check, verdict=Verdict.OK, detail=f"{package} {version(package)}")
    except PackageNotFoundError:
        return Finding(
            check=check, verdict=Verdict.FAIL, detail=f"{package} is missing", remedy="`pip install skeet[local]`"
        )


def _ports(installation: Installation) -> Iterator[Finding]:
    """Ports of parts that do not run, held by somebody else."""
    if not installation.ports_file.exists():
        yield Finding(check="ports", verdict=Verdict.OK, detail="chosen free at the first start")
        return
    state = read_state(installation.state_file)
    ours = {r.name for r in state.processes if r.identity and r.identity.alive and r.state is not State.WAITING}
    taken = [
        f"{port} ({name}) by {holder(port)}"
        for name, port in state.ports.items()
        if name.removesuffix("-controller") not in ours and not is_free(port)
    ]
    yield Finding(
        check="ports",
        verdict=Verdict.FAIL if taken else Verdict.OK,
        detail="; ".join(taken) or "free, or held by our own processes",
        remedy="stop those processes, or `skeet up --port-base N`" if taken else "",
    )
