"""`_index.jsonl`: one line per published item, the same text as its `_item.json`, and one per tombstone (`_removed.json`).

Functions on an open folder of one source type. Whoever writes holds the lock of the source type; readers
take complete lines only, because they may look in the middle of an append.
"""

import os
from collections.abc import Iterable, Iterator, Sequence

from medallion_defs.storage.item import INDEX_FILE
from medallion_defs.storage.local.disk import sync_file, write_all

_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK_BYTES = 65_536


def open_index(folder_fd: int) -> int:
    """Open (or create) the index for appending, and cut the torn last line that a crash or a full disk left."""
    fd = os.open(INDEX_FILE, _APPEND, 0o644, dir_fd=folder_fd)
    try:
        _cut_torn_tail(fd)
    except OSError:
        os.close(fd)
        raise
    return fd


def _cut_torn_tail(fd: int) -> None:
    size = os.lseek(fd, 0, os.SEEK_END)
    keep = size
    while keep:
        start = max(0, keep - _BLOCK_BYTES)
        newline = os.pread(fd, keep - start, start).rfind(b"\n")
        keep = start + newline + 1 if newline >= 0 else start
        if newline >= 0:
            break
    if keep < size:
        os.ftruncate(fd, keep)


def append_lines(fd: int, lines: Sequence[bytes]) -> None:
    """Append whole lines durably, or, when that fails, none."""
    start = os.lseek(fd, 0, os.SEEK_END)
    try:
        write_all(fd, b"".join(lines))
        sync_file(fd)
    except OSError:
        os.ftruncate(fd, start)
        raise


def read_lines(folder_fd: int) -> Iterator[bytes]:
    """Yield the complete lines of the index, newline included; none when there is no index yet."""
    try:
        fd = os.open(INDEX_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
    except FileNotFoundError:
        return
    with os.fdopen(fd, "rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))


def missing_lines(folder_fd: int, lines: Iterable[bytes]) -> list[bytes]:
    """Return those of `lines` that the index does not have, in their order. Reads the whole index."""
    missing = dict.fromkeys(lines)
    if missing:
        for line in read_lines(folder_fd):
            missing.pop(line, None)
    return list(missing)
