"""Reading a file of another's, which may change at any moment: its bytes come from before it was looked at to after, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from medallion_defs.core.errors import TerminalError, TransientError
from medallion_defs.storage.local.disk import FOLDER

_CHUNK_BYTES = 1024**2


class FileRefusedError(TerminalError):
    """A file cannot be taken as it is."""


class FileUnsettledError(TransientError):
    """A file changed or went away while it was copied."""


class FileState(msgspec.Struct, frozen=True, array_like=True):
    """What of a file says whether it is still the one that was looked at. The ctime moves with every edit, whatever the mtime is set to."""

    bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "FileState":
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    @property
    def changed_at(self) -> float:
        """Seconds since the epoch."""
        return self.ctime_ns / 1e9


def read_unchanged(root: Path, name: str, state: FileState, what: str) -> Iterator[bytes]:
    """Yield the bytes of the file `name` (a path below `root`, no step of which may be a symlink).

    Args:
        what: what to call it in a sentence, such as "it" or "the label".

    Raises:
        FileUnsettledError: it is not, or no longer, as it was looked at.
        FileRefusedError: it cannot be read.
    """
    try:
        # Inside of the generator: the file is opened when its first bytes are wanted.
        with open_parent(root, name) as (folder_fd, file_name):
            # O_NONBLOCK: a FIFO that took the file's place must not hang us.
            fd = os.open(file_name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
        try:
            _check_same(fd, state, what)
            left = state.bytes + 1  # one more than there should be: a file that grows as fast as we read must not hold us
            while chunk := os.read(fd, min(left, _CHUNK_BYTES)):
                left -= len(chunk)
                yield chunk
            _check_same(fd, state, what)
        finally:
            os.close(fd)
    except FileNotFoundError as error:
        raise FileUnsettledError(f"{what} vanished before it was copied") from error
    except PermissionError as error:
        raise FileRefusedError(f"this process's user may not read {what}; give it the right") from error
    except OSError as error:
        raise FileRefusedError(f"{what} cannot be read: {error.strerror}") from error


@contextmanager
def open_parent(root: Path, name: str) -> Iterator[tuple[int, str]]:
    """Open the folder that holds the file `name` below `root`, no step of the way through a symlink; yield it with the file's own name."""
    *folders, file_name = name.split("/")
    fd = os.open(root, FOLDER)
    try:
        for folder in folders:
            parent_fd, fd = fd, os.open(folder, FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            os.close(parent_fd)
        yield fd, file_name
    finally:
        os.close(fd)


def _check_same(fd: int, state: FileState, what: str) -> None:
    if FileState.of(os.fstat(fd)) != state:
        raise FileUnsettledError(f"{what} changed while it was copied")
