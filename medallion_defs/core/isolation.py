"""Work in a child process under its parent's eyes: what ends the child leaves the parent, which knows at which item it happened.

The child is a fork: it has the parent's code and settings, and opens connections of its own. It has to be a process: no handler
of Python sees a segmentation fault or the kernel's out-of-memory killer, and neither a signal handler nor a thread of Python runs
while a library's C code keeps the interpreter. Knows no database and no ledger; what a death means is its caller's to say.
"""

import contextlib
import ctypes
import faulthandler
import mmap
import os
import pickle
import re
import select
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, NoReturn

from medallion_defs.core.errors import UnexpectedError, find_place

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHORTEST_WAIT, _LONGEST_WAIT = 0.01, 1.0
_TRACE_WITHIN = 5.0
_FRAME = re.compile(r'File "(.+)", line (\d+) in (.+)')


class Note:
    """What the child is at, in memory that it shares with its parent. To set it costs less than a microsecond."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 16)

    def begin(self, item: int) -> None:
        """Say that the work on this item begins now."""
        # The time first: who looks in between takes the item before for a younger one, and waits longer.
        struct.pack_into("d", self._memory, 8, time.monotonic())
        struct.pack_into("q", self._memory, 0, item + 1)

    def end(self) -> None:
        """Say that the child is at no item."""
        struct.pack_into("q", self._memory, 0, 0)

    @property
    def item(self) -> int | None:
        """The item that the child is at, None between two."""
        number: int = struct.unpack_from("q", self._memory, 0)[0]
        return number - 1 if number else None

    @property
    def seconds(self) -> float:
        """Since the work on the item began; 0 between two items."""
        started: float = struct.unpack_from("d", self._memory, 8)[0]
        return time.monotonic() - started if self.item is not None else 0.0


@dataclass(frozen=True)
class Death:
    """How a child ended that did not come to its end.

    Attributes:
        item: what it was at; None: no item, or none yet.
        exit_code: of the process; negative: the signal that killed it.
        is_overdue: it was killed because the item took too long.
        place: where in the code it was then, as far as that is known.
    """

    item: int | None
    exit_code: int
    is_overdue: bool = False
    place: str = ""

    @property
    def how(self) -> str:
        """How it ended, for a sentence: "killed by signal 9 (SIGKILL), perhaps for want of memory"."""
        if self.exit_code >= 0:
            return f"ended by itself with exit code {self.exit_code}"
        number = -self.exit_code
        name = signal.Signals(number).name if number in {each.value for each in signal.Signals} else "unknown"
        guess = ", perhaps for want of memory" if number == signal.SIGKILL else ""
        return f"killed by signal {number} ({name}){guess}"


def run_isolated(work: Callable[[Note], None], item_seconds: float) -> Death | None:
    """Run `work` in a child process; return None when it came to its end, else how the child died.

    A child that is at one item for longer than `item_seconds` is killed. What `work` raises is raised here. When the caller is
    interrupted, the child is killed at once, whatever it is doing; when the caller is killed, the child dies with it.
    """
    note = Note()
    with tempfile.TemporaryFile() as trace, _stops_blocked():
        read_fd, write_fd = os.pipe()
        parent, pid = os.getpid(), _fork()
        if pid == 0:
            _be_child(parent, work, note, write_fd, trace)
        os.close(write_fd)
        return _attend(_Watch(pid, read_fd, note, item_seconds, trace))


def _attend(watch: "_Watch") -> Death | None:
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        answer = watch.until_end()
    except BaseException:
        watch.kill()
        watch.exit_code()
        raise
    finally:
        os.close(watch.fd)
    exit_code = watch.exit_code()
    if not answer:
        return Death(watch.note.item, exit_code, watch.is_overdue, watch.place)
    error: BaseException | None = pickle.loads(answer)
    if error is not None:
        raise error
    return None


@dataclass
class _Watch:
    """The parent's side of one child."""

    pid: int
    fd: int
    note: Note
    item_seconds: float
    trace: IO[bytes]
    is_overdue: bool = False
    place: str = ""

    def until_end(self) -> bytes:
        """Return what the child had to say at its end; nothing when it died."""
        poll, said = select.poll(), b""
        poll.register(self.fd, select.POLLIN)
        while True:
            if poll.poll(1000 * max(_SHORTEST_WAIT, min(self.item_seconds - self.note.seconds, _LONGEST_WAIT))):
                chunk = os.read(self.fd, 65_536)
                if not chunk:
                    return said
                said += chunk
            elif self.note.seconds > self.item_seconds and not self.is_overdue:
                self.is_overdue = True
                self._end_with_a_trace(poll)
                self.place = self._traced()

    def _end_with_a_trace(self, poll: select.poll) -> None:
        """End the child, which says where it hangs. A handler in C does both, also where the interpreter does not react.

        It must not come back from the handler: a signal cuts `sleep()` and its like short, and the item would go on with that.
        """
        os.kill(self.pid, signal.SIGUSR1)
        poll.poll(1000 * _TRACE_WITHIN)
        self.kill()

    def _traced(self) -> str:
        frames = os.pread(self.trace.fileno(), 65_536, 0).decode("utf-8", "replace").splitlines()
        found = [(match[1], int(match[2]), match[3]) for frame in frames if (match := _FRAME.search(frame))]
        return find_place(list(reversed(found)))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def exit_code(self) -> int:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:  # reaped by a handler that waits for all children
            return 1


def _fork() -> int:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with warnings.catch_warnings():
        # Python warns of threads. Of the locks that they may hold, the child takes none of Dagster's: it opens its own connections.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _be_child(parent: int, work: Callable[[Note], None], note: Note, fd: int, trace: IO[bytes]) -> NoReturn:
    """Work, tell the parent, and end without what a process usually does at its end: all of that is the parent's."""
    try:
        _prepare_child(parent, trace)
        os.write(fd, _work(work, note))
    finally:
        os._exit(0)


def _work(work: Callable[[Note], None], note: Note) -> bytes:
    try:
        work(note)
    except Exception as error:  # noqa: BLE001 - raised again in the parent
        return _pickled(error)
    except BaseException as error:  # noqa: BLE001 - `sys.exit()` in a library, a panic in one of Rust: no stop of the parent
        return _pickled(UnexpectedError.of(error))
    return pickle.dumps(None)


def _pickled(error: Exception) -> bytes:
    error.add_note("In the child process:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(text := pickle.dumps(error))
    except Exception:  # noqa: BLE001 - an error that does not survive the way: its text does
        return pickle.dumps(UnexpectedError.of(error))
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
