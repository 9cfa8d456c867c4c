"""A real Apache Kafka (KRaft, one broker) in a directory: format once, start, know when it answers, stop.

``python -m skeet.local.kafka --data DIR`` runs one in the foreground and prints its address. The role ``kafka`` of the
platform replaces itself by the broker, so that its pid in ``skeet status`` is the broker's.
"""

from __future__ import annotations

import argparse
import base64
import json
import logging
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from skeet.config import Settings
from skeet.core.errors import Damaged, InfrastructureError, InvalidInput
from skeet.local.children import stop_child, tied
from skeet.local.disks import FULL_BELOW, free_bytes, no_space, require_space
from skeet.local.installation import Installation
from skeet.local.jars import KAFKA_VERSION, ClassArchive, Progress, class_archive, find_java, kafka_jars, silent
from skeet.local.kafka_security import BrokerSecurity, broker_security, write_private
from skeet.local.ports import LOOPBACK, PortBook, free_port, loopback_port, require_free
from skeet.local.readiness import watch_in_background
from skeet.process import StopSignal, logger

_MUTE = logging.getLogger("skeet.local.kafka.probe")
_MUTE.addHandler(logging.NullHandler())
_MUTE.propagate = False

MADE_BY = "kafka-version"
"""The file in a broker's directory that says which Kafka formatted it."""
BEFORE_NOTES = "4.4.0"
"""The Kafka of directories without that file."""
JVM = ("-Xms384m", "-Xmx384m", "-Xmn192m", "-XX:+UseParallelGC", "-XX:+ExitOnOutOfMemoryError")
"""A collection stops every request. With one thread and the default young space of 85 MiB, of which a platform at 1,000 frames a
second fills one in 1.6 s, each took 20 to 30 ms on two busy cores; with two threads and 160 MiB 7 to 20 ms, every 3 s. G1 in
slices and Shenandoah take more of a processor that others need (docs/performance.md)."""
START_DEADLINE_S = 60.0
"""A cold start takes 3 s, a recovery after power loss with many segments much longer; past this it is an error."""

STOP_DEADLINE_S = 20.0
BALLAST = "ballast"
BALLAST_BYTES = 32 * 1024 * 1024
BALLAST_SHARE = 16
"""The ballast is set aside only where it is no more than this part of what is free."""
POLL_INTERVAL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaPaths:
    """One broker's directory and its two loopback ports; the secrets of a broker that asks for credentials."""

    home: Path
    port: int
    controller_port: int
    security: BrokerSecurity | None = None

    @property
    def bootstrap(self) -> str:
        """What clients connect to."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def config(self) -> Path:
        """The generated server.properties."""
        return self.home / "server.properties"


def server_properties(paths: KafkaPaths) -> str:
    """The broker's configuration: defaults, except where one machine needs something else (reason beside it)."""
    protocol = "SASL_PLAINTEXT" if paths.security else "PLAINTEXT"
    cores = os.cpu_count() or 1
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.bootstrap.servers": f"{LOOPBACK}:{paths.controller_port}",
        "listeners": f"{protocol}://{LOOPBACK}:{paths.port},CONTROLLER://{LOOPBACK}:{paths.controller_port}",
        "advertised.listeners": f"{protocol}://{LOOPBACK}:{paths.port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": f"{protocol}:{protocol},CONTROLLER:{protocol}",
        "inter.broker.listener.name": protocol,
        "log.dirs": str(paths.home / "logs"),
        # One broker: every internal topic has one copy, and few partitions start faster.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        # A transaction that outlived its time holds up whoever takes over; the default looks every 10 s.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        # After kill -9 the controller waits for the old registration to lapse: 9 s by default, 6 s so. With less, a machine that
        # is busy with other things (load 20 on two cores) made the controller fence its own broker: with 1 s in mid-flow, with
        # 3 s while it came back, and its group coordinators never recovered from that.
        "broker.session.timeout.ms": "6000",
        "broker.heartbeat.interval.ms": "200",
        # Threads beyond the cores only take turns: a request wakes three of them.
        "num.network.threads": str(max(1, cores // 2)),
        "num.io.threads": str(max(2, cores)),
        # Topics are made by `skeet topics apply` only; a typing mistake must not make one.
        "auto.create.topics.enable": "false",
        # A laptop that slept for a month must still find its consumers' positions (default: 7 days).
        "offsets.retention.minutes": str(10 * 365 * 24 * 60),
        # Space that records left returns at the next such look (default: 5 minutes).
        "log.retention.check.interval.ms": "30000",
        # The default takes 128 MiB of a heap of 384.
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    }
    if paths.security:
        settings |= paths.security.properties()
    else:
        # Before each first record of a transaction the broker asks itself once more whether its partition belongs to it, a
        # third of what a transaction takes. Against whom, and why not here: docs/adr/0022-transactions-are-not-verified-twice.md.
        settings["transaction.partition.verification.enable"] = "false"
    return "".join(f"{name}={value}\n" for name, value in settings.items())


class KafkaBroker:
    """One broker on this machine, as a child of this process that dies with it.

    Parameters
    ----------
    home
        directory of its configuration, log segments and output; kept between runs.
    port, controller_port
        loopback ports; free ones when not given (then the directory must be new: a formatted one keeps its ports).
    security
        makes it ask for credentials and check access; fixed when the directory is new.
    """

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        controller_port: int | None = None,
        security: BrokerSecurity | None = None,
        progress: Progress = silent,
    ) -> None:
        self.paths = KafkaPaths(
            home=home.absolute(),
            port=port or free_port(),
            controller_port=controller_port or free_port(),
            security=security,
        )
        self._progress = progress
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """``host:port`` for clients."""
        return self.paths.bootstrap

    def connection(self) -> dict[str, str]:
        """Address and the operator's credentials, as librdkafka names them."""
        security = self.paths.security
        return {"bootstrap.servers": self.bootstrap} | (security.admin_connection() if security else {})

    @property
    def pid(self) -> int:
        """Process id of the running broker."""
        if self._process is None:
            raise InfrastructureError("the broker is not started")
        return self._process.pid

    def start(self) -> str:
        """Start and wait until it answers; returns the bootstrap address.

        Raises
        ------
        InfrastructureError
            a port is taken, or the broker ended or did not answer in time; the message ends with its last output.
        """
        command = prepare(self.paths, self._progress)
        output = self.paths.home / "broker.out"
        with output.open("ab") as log:
            self._process = subprocess.Popen(tied(command), stdout=log, stderr=log)
        deadline = time.monotonic() + START_DEADLINE_S
        while not answers(self.connection()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise InfrastructureError(f"Kafka did not start: {output.read_text()[-1500:]}")
            time.sleep(POLL_INTERVAL_S)
        return self.bootstrap

    def stop(self) -> None:
        """Stop cleanly; killed when it takes too long. Idempotent."""
        if self._process is not None:
            stop_child(self._process, STOP_DEADLINE_S)

    def ended(self) -> bool:
        """Whether the broker was started and ended."""
        return self._process is not None and self._process.poll() is not None

    def kill(self) -> None:
        """kill -9, for tests of recovery."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def prepare(paths: KafkaPaths, progress: Progress = silent) -> list[str]:
    """Everything before the start: jars, class archive, configuration, formatted storage. Returns the command."""
    java, jars, archive = ensure_installed(progress)
    spend_ballast(paths.home)
    require_space("kafka", paths.home)
    require_free("Kafka", paths.port)
    require_free("Kafka's controller", paths.controller_port)
    write_and_format(java, jars, paths)
    keep_ballast(paths.home)
    return broker_command(java, jars, paths, *archive.use)


def keep_ballast(home: Path) -> None:
    """Set space aside, where there is plenty: a file to throw overboard when the disk is full (:func:`spend_ballast`)."""
    ballast = home / BALLAST
    if not ballast.exists() and free_bytes(home) >= BALLAST_SHARE * BALLAST_BYTES:
        ballast.write_bytes(bytes(BALLAST_BYTES))


def spend_ballast(home: Path) -> None:
    """Give a broker whose disk is full the space to start once more: only a broker that runs can let records leave."""
    ballast = home / BALLAST
    if ballast.exists() and free_bytes(home) < FULL_BELOW:
        ballast.unlink()
        logger().error(no_space("kafka", home), ballast=f"{BALLAST_BYTES >> 20} MiB were given up to start once more")


def ensure_installed(progress: Progress = silent) -> tuple[Path, list[Path], ClassArchive]:
    """Java, the verified jars and the class archive; downloaded and made by the first call of this user."""
    java, jars = find_java(), kafka_jars(progress)
    return java, jars, class_archive(java, jars, lambda flag: _train(java, jars, flag), progress)


def broker_command(java: Path, jars: list[Path], paths: KafkaPaths, *flags: str) -> list[str]:
    """The broker's command line. The order of the jars is part of the class archive's key."""
    # Full optimisation: with C1 only a start costs 2 s less of processor, but after the first minute every transaction takes
    # longer (two cores, 310-324 frames a second, median tick to socket: 31 ms against 37 and 40).
    quiet = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Djava.awt.headless=true"]
    return [str(java), *JVM, *flags, *quiet, "-cp", _class_path(jars), "kafka.Kafka", str(paths.config)]


def write_and_format(java: Path, jars: list[Path], paths: KafkaPaths) -> None:
    """Write the configuration and, the first time, format the log directory with a fresh cluster id.

    Raises
    ------
    InvalidInput
        the directory was formatted with credentials and is to run without, or the other way round; or by a newer Kafka.
    Damaged
        a file by which the directory is known cannot be what was written.
    """
    paths.home.mkdir(parents=True, exist_ok=True)
    formatted = (paths.home / "logs" / "meta.properties").exists()
    secured = paths.home / "secured"
    if formatted and secured.exists() is not (paths.security is not None):
        was, wanted = ("with", "without") if secured.exists() else ("without", "with")
        raise InvalidInput(
            f"{paths.home} holds a broker {was} credentials and is to be started {wanted} (SKEET_KAFKA__SECURE): "
            "the first start decides; name another data directory, or `skeet reset` this one"
        )
    # Its configuration holds passwords.
    write_private(paths.config, server_properties(paths))
    if formatted:
        check_formatted(paths.home / "logs" / "meta.properties")
        _require_readable(paths.home)
        return
    (paths.home / MADE_BY).write_text(KAFKA_VERSION)  # first: formatted and without it would be of an older SKEET
    _format(java, jars, paths)
    if paths.security is not None:
        secured.touch()


def _require_readable(home: Path) -> None:
    """A broker does not read what a newer one wrote, and says so with a stack trace."""
    note = home / MADE_BY
    made_by = note.read_text().strip() if note.exists() else BEFORE_NOTES
    if not re.fullmatch(r"\d+(\.\d+)*", made_by):
        raise Damaged(f"{note} holds {made_by[:40]!r}, expected a version such as {KAFKA_VERSION}; write it there")
    if [int(part) for part in made_by.split(".")] > [int(part) for part in KAFKA_VERSION.split(".")]:
        raise InvalidInput(
            f"{home} was written by Kafka {made_by}, which this SKEET's Kafka {KAFKA_VERSION} cannot read: `skeet backup "
            "create` with the SKEET that wrote it and `skeet backup restore` with this one, or `skeet reset`"
        )


def _format(java: Path, jars: list[Path], paths: KafkaPaths) -> None:
    cluster = "S" + base64.urlsafe_b64encode(secrets.token_bytes(16)).decode()[1:22]
    cluster = cluster[:21] + "A"  # the 22nd character carries two bits only
    words = ["-XX:TieredStopAtLevel=1", "-cp", _class_path(jars), "kafka.tools.StorageTool"]
    words += ["format", "--standalone", "-t", cluster, "-c", str(paths.config)]
    words += paths.security.format_words() if paths.security is not None else []
    arguments = paths.home / "format.args"
    # A file of arguments, because everybody on the machine may read a command line.
    write_private(arguments, "".join(json.dumps(word) + "\n" for word in words))
    try:
        done = subprocess.run(
            [str(java), f"@{arguments}"], capture_output=True, text=True, timeout=START_DEADLINE_S, check=False
        )
    finally:
        arguments.unlink()
    if done.returncode != 0:
        raise InfrastructureError(f"Kafka's storage could not be formatted: {(done.stdout + done.stderr)[-1000:]}")


def check_formatted(meta: Path) -> None:
    """Raise Damaged when the file by which Kafka knows its own directory cannot be what Kafka wrote."""
    lines = meta.read_text(errors="replace").splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    for name, expected in {"version": "1", "node.id": "1", "cluster.id": None, "directory.id": None}.items():
        value = found.get(name, "")
        if not value or (expected is not None and value != expected):
            raise Damaged(
                f"{meta}: {name} is {value!r}, expected {expected or 'the id it was formatted with'}; restore the file "
                "from a backup (its bootstrap.checkpoint and the segments beside it are untouched), or `skeet reset`"
            )


def answers(connection: Mapping[str, str], timeout_s: float = 1.0) -> bool:
    """Whether a broker there is registered and answers metadata requests. ``connection`` as librdkafka names it."""
    # librdkafka reports each refused connection on stderr; here a refusal is an expected answer.
    client = AdminClient({**connection, "log_level": 0, "logger": _MUTE})
    try:
        return bool(client.list_topics(timeout=timeout_s).brokers)
    except KafkaException:
        return False


def _class_path(jars: list[Path]) -> str:
    return os.pathsep.join(str(jar) for jar in jars)


def _train(java: Path, jars: list[Path], flag: str) -> None:
    with tempfile.TemporaryDirectory(prefix="skeet-kafka-") as scratch:
        paths = KafkaPaths(home=Path(scratch), port=free_port(), controller_port=free_port())
        write_and_format(java, jars, paths)
        command = broker_command(java, jars, paths, flag)
        with (Path(scratch) / "broker.out").open("wb") as log:
            process = subprocess.Popen(tied(command), stdout=log, stderr=log)
        deadline = time.monotonic() + START_DEADLINE_S
        while (
            process.poll() is None
            and time.monotonic() < deadline
            and not answers({"bootstrap.servers": paths.bootstrap})
        ):
            time.sleep(POLL_INTERVAL_S)
        stop_child(process, START_DEADLINE_S)


def main(settings: Settings) -> int:
    """The role ``kafka``: become the broker of the data directory. Returns only by an error."""
    paths = KafkaPaths(
        home=settings.data / "kafka",
        port=loopback_port(settings.kafka.bootstrap),
        controller_port=PortBook(settings.data / "ports.json").get("kafka-controller"),
        security=broker_security(Installation(settings.data)) if settings.kafka.secure else None,
    )
    command = prepare(paths, lambda text: logger().info(text))
    watch_in_background("kafka")
    os.execv(command[0], command)


def foreground() -> None:
    """``python -m skeet.local.kafka --data DIR``: a broker by hand, until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Run Apache Kafka in a directory until Ctrl-C.")
    parser.add_argument("--data", type=Path, required=True, help="directory of the broker; kept between runs")
    parser.add_argument("--port", type=int)
    parser.add_argument("--controller-port", type=int)
    chosen = parser.parse_args()
    stop = StopSignal().install()
    broker = KafkaBroker(chosen.data, port=chosen.port, controller_port=chosen.controller_port, progress=_say)
    _say(f"SKEET_KAFKA__BOOTSTRAP={broker.start()}")
    stop.wait()
    broker.stop()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    foreground()
