"""One process of the stack: how it is started, watched and ended. What runs in it is the supervisor's business.

Every process gets a session of its own (Ctrl-C in the terminal is for the supervisor alone), default signal handling
(one started in the background of a script inherits an ignored SIGINT, and Dagster then ignores SIGTERM too), a log
file, and on Linux a signal from the kernel when the supervisor dies. Start processes from a thread that lives as long
as they do: the kernel's signal is tied to the thread.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from medallion_defs.stack.logs import cap_log, tail

MARK = "MEDALLION_STACK"
"""Environment variable that marks every process of a stack, and theirs, with the data folder."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass
class Child:
    """A process of the stack.

    Attributes:
        name: what a person calls it ("daemon").
        command: program and arguments.
        log: where its output goes; appended to.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    before_start: Callable[[], None] = lambda: None
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it (again)."""
        self.before_start()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        cap_log(self.log)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=dict(self.environment),
                cwd=self.folder, start_new_session=True, preexec_fn=_child_signals(os.getpid()),
            )  # fmt: skip

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def exit_code(self) -> int | None:
        """Return how it ended (negative: the signal), None while it runs or when it was never started."""
        return self.process.poll() if self.process else None

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the process and to those that it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    def describe_end(self) -> str:
        """Return how it ended and the end of its log, for a person."""
        return f"{self.name} ended with {describe_exit(self.exit_code())}. The end of {self.log}:\n{tail(self.log)}"


def stop_children(children: list[Child], seconds: float, *, hurry: Callable[[], bool] = lambda: False) -> None:
    """End `children` politely, all at once; kill what is left after `seconds`, or as soon as `hurry()`."""
    for child in children:
        if child.is_alive():
            child.signal(signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while any(child.is_alive() for child in children) and time.monotonic() < deadline and not hurry():
        time.sleep(0.05)
    for child in children:
        child.signal(signal.SIGKILL)
        if child.process is not None:
            child.process.wait()


def describe_exit(code: int | None) -> str:
    """Return an exit code in words: "exit code 1", "signal SIGKILL"."""
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def kill_left_over(mark: str) -> list[int]:
    """Kill the processes that a killed stack left behind (a run's worker outlives its code server); return their pids.

    They are known by the mark in their environment, which only Linux shows (/proc). Elsewhere: none.
    """
    wanted = f"{MARK}={mark}".encode()
    pids = [pid for pid in _pids() if pid != os.getpid() and wanted in _environment_of(pid)]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pids


def _pids() -> list[int]:
    proc = Path("/proc")
    return [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()] if proc.is_dir() else []


def _environment_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it ended meanwhile, or it is somebody else's
        return []


def _child_signals(parent: int) -> Callable[[], None]:
    def prepare() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # the supervisor died between fork and prctl
                os._exit(1)

    return prepare
