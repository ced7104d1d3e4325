"""A published item as its readers get it: which files it has, and their bytes, hashed while they are read.

Every layer opens bronze through this module, so that a value never comes from bytes that are not those of the recorded sha256. What is
in the files is not its business; publishing, and verifying the whole store, are bronze's.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import file_digest, sha256
from pathlib import Path
from typing import BinaryIO

import msgspec

from medallion_defs.core.errors import TerminalError
from medallion_defs.ops.item import ITEM_FILE, Artifact, BronzeItem, content_sha256, decode_item

CHUNK_BYTES = 1024**2


class DamagedBronzeItemError(TerminalError):
    """A bronze item is not on the disk as the ledger says."""


class ChangedBytesError(DamagedBronzeItemError):
    """The bytes of a file are not those that were published."""


class HashedFile:
    """A file open for reading whose bytes are hashed as they pass. Seeking to the start begins a new pass; there is no other seeking."""

    def __init__(self, path: Path, expected: str | None, file: BinaryIO) -> None:
        self._path = path
        self._expected = expected
        self._file = file
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
        _require_same(self._path, self._expected, self._digest.hexdigest())


def read_item(folder: Path, expected_content: str | None = None) -> BronzeItem:
    """Return what `_item.json` says of the item in `folder`.

    Args:
        expected_content: the `content_sha256` that the ledger has; None: it is not compared.

    Raises:
        DamagedBronzeItemError: the file cannot be read, or is another item's.
    """
    path = folder / ITEM_FILE
    try:
        item = decode_item(path.read_bytes())
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise DamagedBronzeItemError(f"{path} cannot be read ({error}). {_remedy(folder)}") from error
    found = content_sha256(item.artifacts)
    if expected_content is not None and found != expected_content:
        raise ChangedBytesError(
            f"{path} names files with the content hash {found}; the ledger has {expected_content} for the item. {_remedy(folder)}"
        )
    return item


def find_artifact(folder: Path, name: str) -> Artifact:
    """Return what `_item.json` says of one of the item's files.

    Raises:
        DamagedBronzeItemError: it names no such file, or cannot be read.
    """
    for artifact in read_item(folder).artifacts:
        if artifact.name == name:
            return artifact
    raise DamagedBronzeItemError(f"{folder / ITEM_FILE} names no file {name}. {_remedy(folder)}")


@contextmanager
def open_hashed(path: Path, expected: str | None) -> Iterator[HashedFile]:
    """Open a published file, or, with None for the hash, any other.

    At the end of the block all of it has been read and compared, however much the block read.

    Raises:
        ChangedBytesError: the bytes are not those of `expected`. Takes the place of any error that the block raised: what a reader
            says of other bytes is beside the point.
        OSError: as for `open`.
    """
    with path.open("rb") as file:
        hashed = HashedFile(path, expected, file)
        try:
            yield hashed
        except GeneratorExit:  # a reader that wants no more has not used what it has read
            raise
        except Exception:
            hashed.drain()
            raise
        hashed.drain()


def check_file(path: Path, expected: str) -> None:
    """Read a published file for its hash alone.

    Raises:
        ChangedBytesError: the bytes are not those of `expected`.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        _require_same(path, expected, file_digest(file, "sha256").hexdigest())


@contextmanager
def blame_bytes(path: Path, expected: str) -> Iterator[None]:
    """Where the block fails, look whether the file has the bytes that were published: a sentence about other bytes would mislead.

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
            check_file(path, expected)
        raise


@contextmanager
def held(path: Path, expected: str) -> Iterator[Path]:
    """Hash a published file, then let the block open it by its path, as libraries do that take nothing else.

    Raises:
        ChangedBytesError: the bytes are not those of `expected`, or somebody wrote to the file while the block had it.
        OSError: it cannot be read.
    """
    before = _stamps(path)
    check_file(path, expected)
    yield path
    if _stamps(path) != before:
        raise ChangedBytesError(f"{path} was written to while it was read. {_remedy(path.parent)}")


def read_checked(path: Path, expected: str | None) -> bytes:
    """Return all bytes of a published file, or, with None for the hash, of any other.

    Raises:
        ChangedBytesError: they are not those of `expected`.
        OSError: it cannot be read.
    """
    with open_hashed(path, expected) as file:
        return file.read()


def find_damage(folder: Path, item: BronzeItem, expected_content: str) -> tuple[str, ...]:
    """Return a sentence for each file of the item that is not as it was published, after reading all of them."""
    found = []
    if content_sha256(item.artifacts) != expected_content:
        found.append(f"{folder / ITEM_FILE} is not the one that the ledger knows. {_remedy(folder)}")
    for artifact in item.artifacts:
        try:
            check_file(folder / artifact.name, artifact.sha256)
        except (ChangedBytesError, OSError) as error:
            found.append(str(error))
    return tuple(found)


def _require_same(path: Path, expected: str | None, found: str) -> None:
    if expected is not None and found != expected:
        raise ChangedBytesError(
            f"{path} has the sha256 {found}; {expected} was published. Its bytes have changed, so nothing of it is used. "
            f"{_remedy(path.parent)}"
        )


def _remedy(folder: Path) -> str:
    return (
        f"Run 'medallion bronze verify {folder.parent.name}' to see what else is damaged, restore the directory from a copy, then run "
        "'medallion requeue'."
    )


def _stamps(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
