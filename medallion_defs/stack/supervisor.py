"""The supervisor behind `medallion up`: starts Postgres, code servers, daemon and web server, keeps them alive, stops them.

Order: Postgres, migrations and code servers, the pass over runs left open, daemon and web server. Stopping goes the other
way, Postgres last. The loop is one thread without blocking calls, so that Ctrl-C counts at any time.
"""

import errno
import os
import shutil
import signal
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medallion_defs.core import clock
from medallion_defs.core.errors import ConfigurationError, TransientError
from medallion_defs.core.logging import encode_line
from medallion_defs.core.settings import Settings, process_environment
from medallion_defs.stack.child import Child, describe_exit, kill_left_over, stop_children
from medallion_defs.stack.dagster_home import (
    JSON_LOGS,
    LOCATIONS,
    WEBSERVER,
    code_server_command,
    home_folder,
    prepare_home,
    write_workspace,
)
from medallion_defs.stack.databases import Databases, check_urls, is_dagster_database_ready, open_databases
from medallion_defs.stack.environment import host_environment, location_environment
from medallion_defs.stack.folders import close_folders
from medallion_defs.stack.health import accepts_connections, find_free_port, is_guarded, is_port_free, read_health
from medallion_defs.stack.lock import stack_lock
from medallion_defs.stack.logs import ErrorRelay, cap_log
from medallion_defs.stack.migrate import migrate
from medallion_defs.stack.sockets import make_private, socket_folder
from medallion_defs.stack.state import StackState, write_state

LEAST_FREE_BYTES = 256 * 1024**2
_START_SECONDS = 240.0
_STOP_SECONDS = 10.0
_LOOP_SECONDS = 0.25
_DEATHS_FORGOTTEN_SECONDS = 600.0
_MOST_DEATHS = 6
_POSTGRES = "Postgres"
_UNGUARDED = "This Dagster is not one that Medallion can guard; install the versions of requirements.lock."


class StopAskedError(Exception):
    """Somebody asked the stack to stop while it was starting or running. Not a failure."""


@dataclass
class StopRequest:
    """How often the stack was asked to stop: once is polite, twice is in a hurry."""

    count: int = 0

    def handle(self, _number: int, _frame: object) -> None:
        self.count += 1

    def is_hurried(self) -> bool:
        return self.count > 1

    def listen(self) -> None:
        """Count SIGINT, SIGTERM and SIGHUP from now on, whatever the caller made of them."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.handle)


def restart_delay(deaths: Sequence[float], now: float) -> float | None:
    """Return the seconds to wait before the next start of what died at `deaths`, None when it is hopeless.

    Only deaths of the last ten minutes count: 0.5 s, then twice as long each time; the sixth is the last.
    """
    recent = [death for death in deaths if now - death < _DEATHS_FORGOTTEN_SECONDS]
    if len(recent) >= _MOST_DEATHS:
        return None
    return 0.5 * 2.0 ** max(0, len(recent) - 1)


@dataclass
class Supervisor:
    """One stack. `run` does everything; the attributes are its memory."""

    settings: Settings
    port: int
    say: Callable[[str], None]
    stop: StopRequest = field(default_factory=StopRequest)
    phase: Literal["starting", "running", "stopping"] = "starting"
    children: list[Child] = field(default_factory=list)
    relays: dict[str, ErrorRelay] = field(default_factory=dict)
    deaths: dict[str, list[float]] = field(default_factory=dict)
    due: dict[str, float] = field(default_factory=dict)
    databases: Databases | None = None
    written: StackState | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def home(self) -> Path:
        return home_folder(self.settings.data_path)

    @property
    def sockets(self) -> dict[str, Path]:
        """The code servers' sockets by location."""
        folder = socket_folder("stack", self.settings.data_path)
        return {location: folder / f"{location}.sock" for location in LOCATIONS}

    def run(self) -> None:
        """Start everything, watch it until somebody asks to stop, stop it.

        Raises:
            ConfigurationError: a setting or the machine is in the way; nothing was started.
            TransientError: a process did not start, or died too often. Everything was stopped.
        """
        self.stop.listen()
        check_urls(self.settings, process_environment())
        check_port(self.port)
        try:
            with stack_lock(self.settings.data_path):
                self._run_locked()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise TransientError(f"The disk that holds {self.settings.data_path} is full. Free some space, then start again.") from error

    def _run_locked(self) -> None:
        check_disk(self.settings.data_path)
        prepare_home(self.settings)
        try:
            self._start()
            self._watch()
        except StopAskedError:
            self._tell("Stopping …")
        finally:
            self._stop()

    def _start(self) -> None:
        began = time.monotonic()
        left = kill_left_over(str(self.settings.data_path))
        if left:
            self._tell(f"Ended {len(left)} processes that a killed Medallion left behind.")
        self._tell(f"Starting Medallion on {self.settings.data_path}")
        self._tell("  Postgres")
        self.databases = open_databases(self.settings)
        closed = close_folders(self.settings, self.databases.embedded)
        if closed:
            self._tell(f"  {closed}")
        self._pause()
        self._tell("  the database's schema, and the code locations " + ", ".join(LOCATIONS))
        closer = self._make_processes()
        closer.start()
        if not is_dagster_database_ready(self.databases.dagster_url):
            self._await_closer(closer)
        for child in self.children:
            if child.name.startswith("code-"):
                child.start()
        migrate(self.settings.root, self.databases.medallion_url)
        self._await_closer(closer)
        # The web server does not ask again after a code server that was not there yet.
        self._wait("the code servers", lambda: all(accepts_connections(path) for path in self.sockets.values()))
        self._tell("  the daemon and the web server")
        for child in self.children:
            if not child.is_alive() and child.exit_code() is None:
                child.start()
        self._wait("the web server and the daemon", self._is_healthy)
        self.phase = "running"
        self._tell(f"Medallion is up after {time.monotonic() - began:.0f} s:  {self.url}")
        self._tell(f"Drop files into the folders of {self.settings.landing_path}. Ctrl-C stops everything.")

    def _await_closer(self, closer: Child) -> None:
        self._wait("closing the runs of last time", lambda: closer.exit_code() == 0, [closer])

    def _make_processes(self) -> Child:
        """Make all processes, none of them started; return the pass over runs left open, the first to start."""
        assert self.databases is not None
        make_private(socket_folder("stack", self.settings.data_path))
        write_workspace(self.home / "workspace.yaml", self.sockets)
        databases, settings = self.databases, self.settings
        host = host_environment(settings, databases)
        scripts = Path(sysconfig.get_path("scripts"))
        workspace = ["-w", str(self.home / "workspace.yaml")]

        def make(name: str, command: Sequence[str], environment: Mapping[str, str] = host, socket: Path | None = None) -> Child:
            clean = (lambda: socket.unlink(missing_ok=True)) if socket else (lambda: None)
            return Child(name, list(command), environment, self.settings.root, self.home / "logs" / f"{name}.log", clean)

        servers = [
            make(
                f"code-{location}",
                code_server_command(scripts, location, socket, settings.root),
                location_environment(settings, databases, location),
                socket,
            )
            for location, socket in self.sockets.items()
        ]
        closer = make("left-runs", [sys.executable, "-m", "medallion_defs.stack.dagster_home"])
        web = [*WEBSERVER, "-h", "127.0.0.1", "-p", str(self.port), *workspace, *JSON_LOGS]
        daemon = [str(scripts / "dagster-daemon"), "run", *workspace, *JSON_LOGS]
        self.children = [*servers, make("daemon", daemon), make("web", web)]
        self.relays = {child.name: ErrorRelay.from_now(child.log) for child in self.children}
        self._write_state()
        return closer

    def _is_healthy(self) -> bool:
        try:
            health = read_health(f"{self.url}/graphql")
        except TransientError:  # the web server does not listen yet; a deadline watches over this
            return False
        for location, message in health.broken.items():
            raise TransientError(f"The code location {location} does not load: {message}")
        if not is_guarded(self.url):
            raise ConfigurationError(f"The web server at {self.url} answers requests of foreign pages. {_UNGUARDED}")
        return health.is_healthy

    def _wait(self, what: str, is_done: Callable[[], bool], watched: Sequence[Child] = ()) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not is_done():
            self._pause()
            for child in (*watched, *self.children):
                if child.exit_code() not in (None, 0):
                    raise TransientError(f"Medallion did not start: {child.describe_end()}")
            if time.monotonic() > deadline:
                raise TransientError(f"Waited {_START_SECONDS:.0f} s for {what}, which did not come. The logs are in {self.home / 'logs'}.")

    def _pause(self) -> None:
        self._write_state()
        if self.stop.count:
            raise StopAskedError
        time.sleep(_LOOP_SECONDS)

    def _watch(self) -> None:
        while True:
            self._pause()
            self._revive_postgres()
            for child in self.children:
                if not child.is_alive():
                    self._revive(child)
                for line in self.relays[child.name].read():
                    self._tell(f"[{child.name}] {line}", "error")
                cap_log(child.log)

    def _revive(self, child: Child) -> None:
        if child.name not in self.due:
            delay = self._note_death(child.name, describe_exit(child.exit_code()), child.describe_end)
            self.due[child.name] = time.monotonic() + delay
        elif time.monotonic() >= self.due[child.name]:
            del self.due[child.name]
            child.start()

    def _revive_postgres(self) -> None:
        server = self.databases.embedded if self.databases else None
        if server is not None and server.pid() is None:
            self._note_death(_POSTGRES, "its process is gone", lambda: f"Postgres keeps dying; see {server.log}.")
            server.start()
        if server is not None:
            cap_log(server.log)

    def _note_death(self, name: str, how: str, explain: Callable[[], str]) -> float:
        deaths = self.deaths.setdefault(name, [])
        deaths.append(time.monotonic())
        delay = restart_delay(deaths, time.monotonic())
        if delay is None:
            raise TransientError(f"{name} died {_MOST_DEATHS} times within ten minutes, so Medallion stops. {explain()}")
        self._tell(f"{name} died ({how}); restarting it (number {len(deaths)}).", "error")
        return delay

    def _stop(self) -> None:
        """Stop what runs: first what starts work, then what works, Postgres last."""
        self.phase = "stopping"
        servers = [child for child in self.children if child.name.startswith("code-")]
        others = [child for child in self.children if child not in servers]
        stop_children(others, _STOP_SECONDS, hurry=self.stop.is_hurried)
        stop_children(servers, _STOP_SECONDS, hurry=self.stop.is_hurried)
        kill_left_over(str(self.settings.data_path))
        shutil.rmtree(socket_folder("stack", self.settings.data_path), ignore_errors=True)
        if self.databases is not None and self.databases.embedded is not None:
            self.databases.embedded.stop(hurry=self.stop.is_hurried())
        self._write_state()
        self._tell("Medallion is stopped.")

    def _write_state(self) -> None:
        server = self.databases.embedded if self.databases else None
        state = StackState(
            pid=os.getpid(), url=self.url, phase=self.phase,
            children={child.name: child.process.pid for child in self.children if child.process and child.is_alive()},
            restarts={name: len(deaths) for name, deaths in self.deaths.items()},
            postgres_pid=server.pid() if server else None,
        )  # fmt: skip
        if state != self.written:
            write_state(self.home, state)
            self.written = state

    def _tell(self, text: str, level: Literal["info", "error"] = "info") -> None:
        with (self.home / "logs" / "up.log").open("a", encoding="utf-8") as log:
            log.write(encode_line(clock.now(), level, __name__, text) + "\n")
        try:
            self.say(text)
        except OSError:  # the terminal is gone (SIGHUP follows); the log has it
            return


def check_port(port: int) -> None:
    """Raise a `ConfigurationError` when another program listens on `port`."""
    if not is_port_free(port):
        raise ConfigurationError(
            f"Port {port} is taken by another program. Choose a free one, for example: medallion up --port {find_free_port()}"
        )


def check_disk(data_path: Path) -> None:
    """Raise a `ConfigurationError` when the disk is too full to start on."""
    free = shutil.disk_usage(data_path).free
    if free < LEAST_FREE_BYTES:
        raise ConfigurationError(
            f"The disk that holds {data_path} is full: {free // 1024**2} MB left, Medallion needs {LEAST_FREE_BYTES // 1024**2} MB. "
            "Free some space, or set MEDALLION_DATA_DIR to a folder on another disk."
        )
