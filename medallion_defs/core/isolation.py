"""Work in a child process under its parent's eyes: what ends the child leaves the parent, which knows at which item it happened.

The child is a fork: it has the parent's code and settings, and opens connections of its own. It has to be a process: no handler
of Python sees a segmentation fault or the kernel's out-of-memory killer, and neither a signal handler nor a thread of Python runs
while a library's C code keeps the interpreter. Knows no database and no ledger; what a death means is `supervision.py`'s.
"""

import contextlib
import ctypes
import faulthandler
import mmap
import os
import pickle
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import IO, Any, Generic, NoReturn, TypeVar
from uuid import UUID

from medallion_defs.core.errors import UnexpectedError, find_place

R = TypeVar("R")
A = TypeVar("A")
# Runs in the child: opens what the work needs, gives the work, and closes what it opened.
Start = Callable[["Note"], AbstractContextManager[Callable[[R], A]]]

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHORTEST_WAIT, _LONGEST_WAIT = 0.01, 1.0
_TRACE_WITHIN = 5.0
_END_WITHIN = 5.0
_FRAME = re.compile(r'File "(.+)", line (\d+) in (.+)')
_AT_NONE, _AT_ONE_OF_THEM, _AT_ITEM = 0, 1, 2
_FORKING = threading.Lock()


@contextlib.contextmanager
def no_fork() -> Iterator[None]:
    """Hold back forks while another thread is inside of a library: the child would have the library's locks, and none to open them."""
    with _FORKING:
        yield


class Note:
    """What the child is at, in memory that it shares with its parent. To set it costs less than half a microsecond."""

    def __init__(self) -> None:
        memory = memoryview(mmap.mmap(-1, 32))
        self._state, self._started, self._item = memory[:8].cast("q"), memory[8:16].cast("d"), memory[16:]

    def begin(self, item: UUID | None) -> None:
        """Say that the work on this item begins now; None: on one of several, and it is not known on which."""
        # The state last: who looks in between takes the child for one between two items, and waits longer.
        self._state[0] = _AT_NONE
        self._started[0] = time.monotonic()
        if item is None:
            self._state[0] = _AT_ONE_OF_THEM
        else:
            self._item[:] = item.bytes
            self._state[0] = _AT_ITEM

    def end(self) -> None:
        """Say that the child is at no item."""
        self._state[0] = _AT_NONE

    @property
    def item(self) -> UUID | None:
        """The item that the child is at; None between two, and where it is not known."""
        return UUID(bytes=bytes(self._item)) if self._state[0] == _AT_ITEM else None

    @property
    def seconds(self) -> float:
        """Since the work on an item began; 0 between two items."""
        return time.monotonic() - self._started[0] if self._state[0] != _AT_NONE else 0.0


@dataclass(frozen=True)
class Death:
    """How a child ended that did not come to its end.

    Attributes:
        item: what it was at; None: no item, or it is not known which.
        exit_code: of the process; negative: the signal that killed it.
        is_overdue: it was killed because the item took too long.
        place: where in the code it was then, as far as that is known.
    """

    item: UUID | None
    exit_code: int
    is_overdue: bool = False
    place: str = ""

    @property
    def how(self) -> str:
        """How it ended, for a sentence: "killed by signal 9 (SIGKILL), perhaps for want of memory"."""
        if self.is_overdue:
            return "ended, because an item took too long"
        if self.exit_code >= 0:
            return f"ended by itself with exit code {self.exit_code}"
        number = -self.exit_code
        name = signal.Signals(number).name if number in {each.value for each in signal.Signals} else "unknown"
        guess = ", perhaps for want of memory" if number == signal.SIGKILL else ""
        return f"killed by signal {number} ({name}){guess}"


class Worker(Generic[R, A]):
    """A child process that does one piece of work after the other, and is followed by another child when it has died.

    It is forked when there is something to do. A child that is at one item for longer than `item_seconds` is killed. When the
    caller is interrupted, the child is killed at once, whatever it is doing; when the caller is killed, the child dies with it.
    """

    def __init__(self, start: Start[R, A], item_seconds: float) -> None:
        self._start = start
        self._item_seconds = item_seconds
        self._child: _Child | None = None

    def do(self, request: R) -> A | Death:
        """Return what the work makes of the request, or how the child died. What the work raises is raised here."""
        try:
            child = self._child or self._fork()
            said = child.ask((request,))
        except BaseException:
            self._kill()
            raise
        if said is None:
            return Death(child.note.item, self._kill(), child.is_overdue, child.place)
        error: BaseException | None = said[0]
        answer: A = said[1]
        if error is not None or child.is_overdue:
            self._kill()  # what it has open may be in any state
        if error is not None:
            raise error
        return answer

    def _fork(self) -> "_Child":
        with _stops_blocked():
            self._child = child = _fork(self._start, self._item_seconds)
        return child

    def _kill(self) -> int:
        """End the child at once; return its exit code, which is its own when it had ended before."""
        child, self._child = self._child, None
        if child is None:
            return 0
        child.kill()
        return child.end()

    def __enter__(self) -> "Worker[R, A]":
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.close()
        self._kill()


@dataclass
class _Child:
    """The parent's side of one child."""

    pid: int
    connection: Connection
    note: Note
    item_seconds: float
    trace: IO[bytes]
    is_overdue: bool = False
    place: str = ""

    def ask(self, request: tuple[Any]) -> tuple[BaseException | None, Any] | None:
        """Return what the child raised and what it answered; None when it died."""
        try:
            self.connection.send(request)
            while not self.connection.poll(max(_SHORTEST_WAIT, min(self.item_seconds - self.note.seconds, _LONGEST_WAIT))):
                if self.note.seconds > self.item_seconds and not self.is_overdue:
                    self.is_overdue = True
                    self._end_with_a_trace()
                    self.place = self._traced()
            said: tuple[BaseException | None, Any] = self.connection.recv()
        except (EOFError, OSError):
            return None
        return said

    def _end_with_a_trace(self) -> None:
        """End the child, which says where it hangs. A handler in C does both, also where the interpreter does not react.

        It must not come back from the handler: a signal cuts `sleep()` and its like short, and the item would go on with that.
        """
        os.kill(self.pid, signal.SIGUSR1)
        self.connection.poll(_TRACE_WITHIN)
        self.kill()

    def _traced(self) -> str:
        frames = os.pread(self.trace.fileno(), 65_536, 0).decode("utf-8", "replace").splitlines()
        found = [(match[1], int(match[2]), match[3]) for frame in frames if (match := _FRAME.search(frame))]
        return find_place(list(reversed(found)))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let the child close what it has open, if that does not take long."""
        with contextlib.suppress(OSError):
            self.connection.send(())
            self.connection.poll(_END_WITHIN)

    def end(self) -> int:
        """Return the exit code of the child, which has ended or will in a moment."""
        self.connection.close()
        self.trace.close()
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:  # reaped by a handler that waits for all children
            return 1


def _fork(start: Start[Any, Any], item_seconds: float) -> _Child:
    note, parent = Note(), os.getpid()
    trace = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the child has ended
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # No other child in between: it would hold the end of this one's pipe open, and its death would not be seen.
    with _FORKING, warnings.catch_warnings():
        # Python warns of threads. Of the locks that they may hold, the child takes none of Dagster's: it opens its own connections.
        warnings.simplefilter("ignore", DeprecationWarning)
        ours, theirs = Pipe()
        pid = os.fork()
        if pid == 0:
            _FORKING.release()
            ours.close()
            _be_child(parent, start, note, theirs, trace)
        theirs.close()
    return _Child(pid, ours, note, item_seconds, trace)


def _be_child(parent: int, start: Start[Any, Any], note: Note, connection: Connection, trace: IO[bytes]) -> NoReturn:
    """Work, tell the parent, and end without what a process usually does at its end: all of that is the parent's."""
    try:
        _prepare_child(parent, trace)
        _serve(start, note, connection)
    finally:
        os._exit(0)


def _serve(start: Start[Any, Any], note: Note, connection: Connection) -> None:
    try:
        with start(note) as work:
            while request := connection.recv():
                connection.send_bytes(pickle.dumps((None, work(*request))))
    except Exception as error:  # noqa: BLE001 - raised again in the parent
        connection.send_bytes(_pickled(error))
    except BaseException as error:  # noqa: BLE001 - `sys.exit()` in a library, a panic in one of Rust: no stop of the parent
        connection.send_bytes(_pickled(UnexpectedError.of(error)))


def _pickled(error: Exception) -> bytes:
    error.add_note("In the child process:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(text := pickle.dumps((error, None)))
    except Exception:  # noqa: BLE001 - an error that does not survive the way: its text does
        return pickle.dumps((UnexpectedError.of(error), None))
    return text


def _prepare_child(parent: int, trace: IO[bytes]) -> None:
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)  # who stops a run stops the parent; the parent kills us
    faulthandler.unregister(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    faulthandler.register(signal.SIGUSR1, file=trace, all_threads=False, chain=True)  # then the default: the end
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*_STOPS, signal.SIGUSR1))
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died in between
            os._exit(1)


@contextlib.contextmanager
def _stops_blocked() -> Iterator[None]:
    """Hold stops back: one between the fork and the watch would leave a child that has no parent's eye on it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
