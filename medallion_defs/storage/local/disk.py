"""Durable writing on a local file system: the few os calls that need care, and what their failures mean.

A failed fsync or syncfs is final: the kernel may have dropped the pages and marked them clean, so a second
fsync that succeeds proves nothing. Callers write again under a new name and never repeat the sync.
"""

import ctypes
import errno
import fcntl
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from medallion_defs.core.errors import ConfigurationError, MedallionError, TransientError

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
READ_ONLY = 0o444
READ_ONLY_FOLDER = 0o555

# macOS: fsync leaves the data in the drive's cache; this fcntl does not.
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)

_REMEDIES = {
    errno.ENOSPC: "Free disk space, then fetch again.",
    errno.EDQUOT: "Raise the quota or free space, then fetch again.",
    errno.EROFS: "The file system is read-only: mount it writable, then fetch again.",
    errno.EIO: "The disk failed: look at the kernel log and at the disk before you fetch again.",
}
_MISCONFIGURED = {
    errno.EXDEV: "A rename cannot leave its file system: keep the folder on one, or set landing.after to 'leave'.",
    errno.EACCES: "Give this process's user the right to read and write there.",
    errno.EPERM: "Give this process's user the right to read and write there.",
}


def explain_os_error(error: OSError, path: str) -> MedallionError:
    """Turn an OSError below `path` into one sentence that names the path and the remedy."""
    what = f"{path}: {error.strerror or error}{f' ({error.filename})' if error.filename else ''}."
    if error.errno in _MISCONFIGURED:
        return ConfigurationError(f"{what} {_MISCONFIGURED[error.errno]}")
    return TransientError(f"{what} {_REMEDIES.get(error.errno or 0, 'Fetch again; what was not finished is cleaned up first.')}")


@contextmanager
def disk_errors(path: str) -> Iterator[None]:
    """Raise an OSError of the block as a MedallionError that names `path`."""
    try:
        yield
    except OSError as error:
        raise explain_os_error(error, path) from error


@cache
def find_syncfs() -> Callable[[int], int] | None:
    """Return syncfs(2), or None where it is absent or (Linux before 5.8) hides failed writes."""
    version = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if sys.platform != "linux" or version is None or (int(version[1]), int(version[2])) < (5, 8):
        return None
    function: Callable[[int], int] | None = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    return function


def sync_file_system(fd: int) -> None:
    """Make everything written on the file system of `fd` durable. `fd` must have been opened before the writing began,
    because the kernel reports a failed write only to those who were there.

    Raises:
        OSError: a write-back failed since `fd` was opened.
    """
    syncfs = find_syncfs()
    if syncfs is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def sync_file(fd: int) -> None:
    """Make one file or directory durable."""
    if _FULL_SYNC is not None:
        fcntl.fcntl(fd, _FULL_SYNC)
    else:
        os.fsync(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`. A filling disk makes `os.write` return short without an exception."""
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def make_folder(path: Path) -> None:
    """Create a folder and those above it, each durable before the next; existing ones are left alone."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    fd = os.open(path.parent, FOLDER)
    try:
        sync_file(fd)
    finally:
        os.close(fd)


def read_file(path: str, folder_fd: int) -> bytes:
    """Return the bytes of a small regular file below an open folder; a symlink is an error."""
    # O_NONBLOCK: a FIFO of that name must not hang us.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    with os.fdopen(fd, "rb", buffering=0) as file:
        return file.read()


def list_names(folder_fd: int) -> list[str]:
    """Return the names in an open folder, sorted."""
    with os.scandir(folder_fd) as entries:
        return sorted(entry.name for entry in entries)
