"""What a library may do in the middle of one item, named by a word that a planted item holds."""

import ctypes
import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medallion_defs.core import isolation

FREE_BYTES = 64 * 1024**2


def _exhaust_recursion() -> None:
    _exhaust_recursion()


def _limit_memory() -> None:
    """Leave the process, for the rest of its life, little more memory than it has."""
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + FREE_BYTES, resource.RLIM_INFINITY))


def _exhaust_memory() -> object:
    """Take more memory than the process may have, as a library does that trusts a length in a file."""
    _limit_memory()
    return bytearray(4 * FREE_BYTES)


def _exhaust_memory_in_c() -> None:
    """The same in C, where a library ends the process when it gets no memory."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    _limit_memory()
    if libc.malloc(4 * FREE_BYTES) is None:
        libc.abort()


def _raise(error: BaseException) -> Callable[[], object]:
    def act() -> object:
        raise error

    return act


ACTIONS: dict[str, Callable[[], object]] = {
    "lookup": lambda: b"x".decode("undefined-charset"),
    "unicode": lambda: b"\xff".decode(),
    "memory": _exhaust_memory,
    "memory_in_c": _exhaust_memory_in_c,
    "recursion": _exhaust_recursion,
    "os": _raise(OSError(5, "Input/output error")),
    "assertion": _raise(AssertionError("odd")),
    "interrupt": _raise(KeyboardInterrupt()),
    "exit": lambda: sys.exit(3),
    "panic": _raise(BaseException("a panic of a library in Rust")),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "leave": lambda: os._exit(7),
    "regex": lambda: re.match(r"(a+)+$", "a" * 60 + "b"),
    "c_code": lambda: ctypes.PyDLL(None).sleep(1_000),  # keeps the interpreter's lock
}
HANGING = ("regex", "c_code")


def let_time_pass_for_what_hangs(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Measure the time of an item that hangs, and of no other: a slow machine makes no other overdue."""
    hangs, hung = folder / "hangs", list[isolation.Note]()

    def announced(act: Callable[[], object]) -> Callable[[], object]:
        return lambda: [hangs.write_bytes(b""), act()]

    def seconds(note: isolation.Note) -> float:
        if hangs.exists():
            hangs.unlink()
            hung.append(note)
        return measured.__get__(note) if note in hung else 0.0

    measured = isolation.Note.seconds
    monkeypatch.setattr(isolation.Note, "seconds", property(seconds))
    for word in HANGING:
        monkeypatch.setitem(ACTIONS, word, announced(ACTIONS[word]))
