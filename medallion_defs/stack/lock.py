"""The lock of a data folder: one stack at a time.

The lock is the kernel's (`flock`) and ends with the process that holds it, however it dies; the file and the text
in it stay behind and mean nothing by themselves.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from medallion_defs.core.errors import ConfigurationError

LOCK_NAME = ".lock"


@contextlib.contextmanager
def stack_lock(data_path: Path) -> Iterator[None]:
    """Hold the lock of `data_path`; the file says which process holds it.

    Raises:
        ConfigurationError: another stack runs on the folder.
    """
    data_path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(data_path / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"Medallion already runs on {data_path} ({_holder(descriptor)}). Stop it there with Ctrl-C, "
                "or set MEDALLION_DATA_DIR to another folder for a second one."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)


def lock_holder(data_path: Path) -> str | None:
    """Return who holds the lock of `data_path` ("process 123"), None when nobody does."""
    try:
        descriptor = os.open(data_path / LOCK_NAME, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(descriptor)
    else:
        return None
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
    return f"process {pid}" if pid else "a process that is just starting"
