"""Starting the process of an instance: its environment, its user, the line it reports on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from pydantic import SecretStr

from skeet.agents.strategy_guard import HOME, instance_data, named_ports
from skeet.agents.strategy_loading import user_folder
from skeet.agents.strategy_oversight import Overseer
from skeet.config import KafkaSettings, Settings
from skeet.connections.kafka import connection_environment
from skeet.process import logger
from skeet.streams.access_admin import password_file
from skeet.streams.crash_points import chaos_environment
from skeet.streams.kafka import admin

STRATEGIES, STRATEGY = "strategies", "strategy"
"""The role and its instances, which are principals of their own to a secured Kafka."""
METADATA_TIMEOUT_S = 5.0
INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "PYTHONHASHSEED", "VIRTUAL_ENV")
"""All that an instance's environment takes over from ours."""


@dataclass(slots=True)
class Child:
    """The process of one instance, for the start at ``offset`` of the control topic; ``uid`` is 0 where it shares ours."""

    process: subprocess.Popen[bytes]
    overseer: Overseer
    started_at: float
    offset: int
    uid: int

    def end(self, deadline_s: float) -> None:
        """Ask it to stop; kill what does not in time. Returns once it is gone."""
        self.process.terminate()
        self.wait(deadline_s)

    def wait(self, deadline_s: float) -> None:
        """Give it this long to end by itself, then kill it."""
        try:
            self.process.wait(max(0.1, deadline_s))
        except subprocess.TimeoutExpired:
            self.kill()
        self.overseer.close()

    def kill(self) -> None:
        """End it and whatever shares its session, now."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.overseer.close()


def launch(settings: Settings, instance_id: str, offset: int, taken: Iterable[int], ports: tuple[int, ...]) -> Child:
    """Start it, in a session of its own and with no open file but the line. ``taken`` are the user ids in use."""
    limits = settings.strategy.limits
    uid = 0
    # Crash points are armed and spent by files that belong to one user.
    if limits.separate_user and os.geteuid() == 0 and not chaos_environment(settings):
        uid = next(number for number in range(limits.first_uid, 2**31) if number not in set(taken))
    (settings.data / "instances").mkdir(parents=True, exist_ok=True, mode=0o711)
    instance_data(settings, instance_id).mkdir(exist_ok=True, mode=0o711)
    reading, writing = os.pipe()
    environment = instance_environment(settings, instance_id) | {
        "SKEET_STRATEGY__UID": str(uid),
        "SKEET_STRATEGY__PORTS": json.dumps(ports),
        "SKEET_STRATEGY__REPORT_FD": str(writing),
        "SKEET_STRATEGY__PARENT": str(os.getpid()),
    }
    try:
        process = subprocess.Popen(
            # -P: a module of the directory it is started in must not come before ours.
            [sys.executable, "-P", "-m", "skeet", "run", "strategy"],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            pass_fds=(writing,),
            start_new_session=True,
        )
    finally:
        os.close(writing)
    return Child(process, Overseer(process.pid, reading, limits), time.monotonic(), offset, uid)


def broker_ports(settings: Settings) -> tuple[int, ...]:
    """Ports that an instance needs: those of the settings, and those the brokers themselves name."""
    found = set(named_ports(settings))
    try:
        found |= {broker.port for broker in admin(settings).list_topics(timeout=METADATA_TIMEOUT_S).brokers.values()}
    except Exception as error:
        # Brokers that are away answer once they are back, and the settings name at least one of them.
        logger().warning("brokers' ports not read", error=str(error))
    return tuple(sorted(found))


def instance_environment(settings: Settings, instance_id: str) -> dict[str, str]:
    """The whole environment of an instance's process. Its data directory is its own: it holds no secrets."""
    kafka, data = settings.kafka, instance_data(settings, instance_id)
    chosen = {
        "HOME": str(data / HOME),
        "TMPDIR": str(data / HOME),
        "MALLOC_ARENA_MAX": "2",  # else every thread reserves memory that counts as used
        "OPENBLAS_NUM_THREADS": "1",  # numpy's threads would be there before the process is confined
        "PYTHONDONTWRITEBYTECODE": "1",
        "SKEET_DATA": str(data),
        "SKEET_READY_FILE": str(data / HOME / "ready"),  # written once confined, and its address beside it
        "SKEET_STRATEGY__INSTANCE": instance_id,
        "SKEET_STRATEGIES_DIR": str(user_folder(settings)),
        "SKEET_TENANT": settings.tenant,
        "SKEET_LOG_LEVEL": settings.log_level,
        "SKEET_KAFKA__BOOTSTRAP": kafka.bootstrap,
        "SKEET_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
        "SKEET_KAFKA__ACCOUNT_PARTITIONS": str(kafka.account_partitions),
        "SKEET_KAFKA__MARKET_PARTITIONS": str(kafka.market_partitions),
        "SKEET_KAFKA__LINGER_MS": str(kafka.linger_ms),
        "SKEET_REGISTRY__URL": settings.registry.url,
    }
    limits = {
        f"SKEET_STRATEGY__LIMITS__{name.upper()}": str(value)
        for name, value in settings.strategy.limits.model_dump().items()
    }
    chosen |= (
        limits | chaos_environment(settings) | connection_environment(_instances_login(settings), settings.registry)
    )
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | chosen


def _instances_login(settings: Settings) -> KafkaSettings:
    """As the principal ``strategy`` where this process is the principal ``strategies``; else as this process."""
    kafka = settings.kafka
    if kafka.sasl_username != STRATEGIES:
        return kafka
    password = SecretStr(password_file(settings, STRATEGY).read_text().strip())
    return kafka.model_copy(update={"sasl_username": STRATEGY, "sasl_password": password})
