"""A stack in a process of its own, for programs: the demo and the acceptance tests use the very command that people use."""

import contextlib
import os
import signal
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from medallion_defs.core.errors import TransientError
from medallion_defs.core.settings import Settings, process_environment
from medallion_defs.stack.child import MARK
from medallion_defs.stack.dagster_home import home_folder
from medallion_defs.stack.databases import Databases, open_databases
from medallion_defs.stack.environment import stack_environment
from medallion_defs.stack.health import ask_graphql
from medallion_defs.stack.state import StackState, read_state

_START_SECONDS = 300.0
_STOP_SECONDS = 90.0


@dataclass(frozen=True)
class RunningStack:
    """A `medallion up` that runs, and was healthy at least once."""

    settings: Settings
    process: "subprocess.Popen[bytes]"

    @property
    def state(self) -> StackState:
        """The processes as they are now."""
        state = read_state(home_folder(self.settings.data_path))
        if state is None:
            raise TransientError(f"The stack on {self.settings.data_path} has written no state.")
        return state

    @property
    def url(self) -> str:
        """Address of the Dagster UI."""
        return self.state.url

    @property
    def graphql_url(self) -> str:
        return f"{self.url}/graphql"

    @property
    def databases(self) -> Databases:
        """The databases of the stack."""
        return open_databases(self.settings)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the stack's processes, for a process that works beside them."""
        environment = stack_environment(self.settings, self.databases)
        del environment[MARK]  # what bears the mark ends with the stack
        return environment

    def ask(self, query: str, variables: dict[str, object] | None = None) -> dict[str, Any]:
        """Return `data` of the answer to a GraphQL query."""
        return ask_graphql(self.graphql_url, query, variables)

    def pid(self, name: str) -> int:
        """Return the pid of "code-bronze", "code-silver", "code-gold", "daemon", "web" or "postgres"."""
        state = self.state
        pid = state.postgres_pid if name == "postgres" else state.children.get(name)
        if pid is None:
            raise TransientError(f"{name} does not run at this moment.")
        return pid

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to one process of the stack; return its pid."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def wait_for(self, what: str, is_done: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait until `is_done()`.

        Raises:
            TransientError: it is not within `seconds`, or the stack ended.
        """
        deadline = time.monotonic() + seconds
        while not is_done():
            if time.monotonic() > deadline:
                raise TransientError(f"Waited {seconds:.0f} s for {what}, which did not come.")
            if self.process.poll() is not None:
                raise TransientError(f"The stack ended with exit code {self.process.returncode} while waiting for {what}.")
            time.sleep(0.1)


@contextlib.contextmanager
def running_stack(settings: Settings, port: int = 0, environment: Mapping[str, str] | None = None) -> Iterator[RunningStack]:
    """Run `medallion up` on the project and the data folder of `settings`; stop it at the end.

    Args:
        port: of the web server; 0 takes a free one.
        environment: variables to add, such as the two database URLs.

    Raises:
        TransientError: it did not start, or did not stop as it should; the message holds what it said.
    """
    with tempfile.TemporaryFile() as output:
        process = start_up(settings, port, environment or {}, output)
        stack = RunningStack(settings, process)
        try:
            await_start(stack, output)
            yield stack
        finally:
            stop_up(process, output)


def start_up(settings: Settings, port: int, environment: Mapping[str, str], output: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start `medallion up` as a process, its words going to `output`."""
    command = [str(Path(sysconfig.get_path("scripts")) / "medallion"), "up", "--port", str(port)]
    own = {"MEDALLION_ROOT": str(settings.root), "MEDALLION_DATA_DIR": str(settings.data_path)}
    variables = {**process_environment(), **own, **environment}
    return subprocess.Popen(
        command, env=variables, cwd=settings.root, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )


def stop_up(process: "subprocess.Popen[bytes]", output: IO[bytes]) -> None:
    """Stop a `medallion up` as Ctrl-C does; nothing to do when it ended before.

    Raises:
        TransientError: it did not end in time (it is killed then), or not with exit code 0.
    """
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        code = process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.wait()
        raise TransientError(f"'medallion up' did not stop within {_STOP_SECONDS:.0f} s. It said:\n{read_output(output)}") from error
    if code:
        raise TransientError(f"'medallion up' stopped with exit code {code}. It said:\n{read_output(output)}")


def read_output(output: IO[bytes]) -> str:
    """Return all that a process wrote to `output` so far."""
    return os.pread(output.fileno(), 1024**2, 0).decode("utf-8", "replace")


def await_start(stack: RunningStack, output: IO[bytes]) -> None:
    """Wait until the stack was healthy once.

    Raises:
        TransientError: it is not within five minutes, or it ended; the message holds what it said.
    """
    deadline = time.monotonic() + _START_SECONDS
    home = home_folder(stack.settings.data_path)
    while True:
        state = read_state(home)
        if state is not None and state.pid == stack.process.pid and state.phase == "running":
            return
        if stack.process.poll() is not None or time.monotonic() > deadline:
            raise TransientError(f"'medallion up' did not start. It said:\n{read_output(output)}")
        time.sleep(0.1)
