"""Files on this machine, opened so that their bytes are hashed: the parts that reading items and reading derived files share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path

from medallion_defs.storage.hashed import ChangedBytesError, HashedFile, drained, require_same


@contextmanager
def open_hashed(path: Path, expected: str | None, remedy: str = "") -> Iterator[HashedFile]:
    """Open a file. At the end of the block all of it has been read and, unless `expected` is None, compared.

    Raises:
        ChangedBytesError: the bytes are not those of `expected`. Takes the place of any error that the block raised.
        OSError: as for `open`.
    """
    with path.open("rb") as file, drained(HashedFile(str(path), expected, file, remedy, os.fstat(file.fileno()).st_size)) as hashed:
        yield hashed


def check_file(path: Path, expected: str, remedy: str = "") -> None:
    """Read a file for its hash alone.

    Raises:
        ChangedBytesError: the bytes are not those of `expected`.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        require_same(str(path), expected, file_digest(file, "sha256").hexdigest(), remedy)


@contextmanager
def held(path: Path, expected: str, remedy: str = "") -> Iterator[Path]:
    """Hash a file, then let the block open it by its path, as libraries do that take nothing else.

    Raises:
        ChangedBytesError: the bytes are not those of `expected`, or were written to while the block had the path.
        OSError: it cannot be read.
    """
    before = _stamps(path)
    check_file(path, expected, remedy)
    yield path
    if _stamps(path) != before:
        raise ChangedBytesError(f"{path} was written to while it was read. {remedy}")


def read_checked(path: Path, expected: str | None, remedy: str = "") -> bytes:
    """Return all bytes of a file.

    Raises:
        ChangedBytesError: they are not those of `expected`.
        OSError: it cannot be read.
    """
    with open_hashed(path, expected, remedy) as file:
        return file.read()


def _stamps(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
