"""Bytes that are hashed while they are read, so that no value comes from bytes other than those that were published."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import BinaryIO

from medallion_defs.core.errors import TerminalError

CHUNK_BYTES = 1024**2


class DamagedBronzeItemError(TerminalError):
    """A bronze item is not in the storage as the ledger says."""


class ChangedBytesError(DamagedBronzeItemError):
    """The bytes of a file are not those that were published."""


class HashedFile:
    """A file open for reading whose bytes are hashed as they pass. Seeking to the start begins a new pass; there is no other seeking.

    Args:
        place: where it is, for messages.
        expected: the sha256 that was published; None: nothing is compared.
        remedy: what to do when the bytes are others.
        size: the bytes that it has.
    """

    def __init__(self, place: str, expected: str | None, file: BinaryIO, remedy: str, size: int) -> None:
        self.size = size
        self._place = place
        self._expected = expected
        self._file = file
        self._remedy = remedy
        self._digest = sha256()

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, all that are left when `size` is negative.

        Raises:
            ChangedBytesError: this was the end, and the file is not as it was published.
        """
        data = self._file.read(size)
        self._digest.update(data)
        if size != 0 and (size < 0 or not data):
            self._check()
        return data

    def __iter__(self) -> Iterator[bytes]:
        for line in self._file:
            self._digest.update(line)
            yield line
        self._check()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if (offset, whence) != (0, os.SEEK_SET):
            raise ValueError("A file that is hashed while it is read can only be read from its start.")
        self._digest = sha256()
        return self._file.seek(0)

    def drain(self) -> None:
        """Read what is left, for the hash alone."""
        while self.read(CHUNK_BYTES):
            pass

    def _check(self) -> None:
        require_same(self._place, self._expected, self._digest.hexdigest(), self._remedy)


@contextmanager
def drained(hashed: HashedFile) -> Iterator[HashedFile]:
    """Give the block a hashed file; at its end all of it has been read and compared, however much the block read.

    Raises:
        ChangedBytesError: the bytes are others. Takes the place of any error that the block raised: what a reader says of other bytes is
            beside the point.
    """
    try:
        yield hashed
    except GeneratorExit:  # a reader that wants no more has not used what it has read
        raise
    except Exception:
        hashed.drain()
        raise
    hashed.drain()


@contextmanager
def blame_bytes(check: Callable[[], None]) -> Iterator[None]:
    """Where the block fails, look whether the file has the bytes that were published: a sentence about other bytes would mislead.

    Args:
        check: reads the file for its hash alone.

    Raises:
        ChangedBytesError: it has not. Else what the block raised.
    """
    try:
        yield
    except ChangedBytesError:
        raise
    except Exception:
        # What cannot be read at all the block has said already.
        with suppress(OSError):
            check()
        raise


def require_same(place: str, expected: str | None, found: str, remedy: str) -> None:
    """Raise `ChangedBytesError` when a file has another sha256 than it was published with."""
    if expected is not None and found != expected:
        raise ChangedBytesError(
            f"{place} has the sha256 {found}; {expected} was published. Its bytes have changed, so nothing of it is used. {remedy}"
        )
