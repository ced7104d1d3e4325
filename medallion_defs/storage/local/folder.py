"""The items in the open folder of one source type, and the tombstones of removed ones: reading them, and which is the current one."""

import os
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from medallion_defs.storage.item import ITEM_FILE
from medallion_defs.storage.local.disk import read_file
from medallion_defs.storage.naming import revision_directory
from medallion_defs.storage.publishing import DamagedItemError
from medallion_defs.storage.tombstone import REMOVED_FILE, Entry, decode_line, facts_of


@dataclass(frozen=True)
class SourceFolder:
    """An open, locked source type: its folder and its part of the staging folder, on one file system."""

    source_type: str
    path: str
    fd: int
    staging_fd: int


def item_directories(folder_fd: int) -> list[str]:
    """Return the names of the item directories, in no order."""
    with os.scandir(folder_fd) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def read_item_line(folder_fd: int, path: str, directory: str) -> bytes:
    """Return the `_item.json` of an item as it stands; the `_removed.json` of one that was removed, also while other files are left of it.

    Raises:
        DamagedItemError: there is none, though its directory is there.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        return read_file(f"{directory}/{REMOVED_FILE}", folder_fd)
    try:
        return read_file(f"{directory}/{ITEM_FILE}", folder_fd)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _damaged(f"{path}/{directory}", f"has no {ITEM_FILE}") from error


def parse_entry(line: bytes, path: str, directory: str) -> Entry:
    """Parse what `read_item_line` gave and check that it belongs where it lies.

    Raises:
        DamagedItemError: it is not an item, or the item of another directory.
    """
    try:
        entry = decode_line(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(f"{path}/{directory}", f"has a broken {ITEM_FILE} ({error})") from error
    if facts_of(entry).directory != directory:
        raise _damaged(f"{path}/{directory}", f"holds the item of '{facts_of(entry).directory}'")
    return entry


def current_entry(folder_fd: int, path: str, name: str) -> Entry | None:
    """Return the newest revision of the item whose encoded name is `name`: one stat per revision, whatever the number of items.

    Raises:
        DamagedItemError: its `_item.json` is missing or broken.
    """
    revision = 1
    while exists(revision_directory(name, revision), folder_fd):
        revision += 1
    if revision == 1:
        return None
    directory = revision_directory(name, revision - 1)
    return parse_entry(read_item_line(folder_fd, path, directory), path, directory)


def exists(directory: str, folder_fd: int) -> bool:
    """Tell whether there is such a name in an open folder."""
    try:
        os.stat(directory, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _damaged(path: str, what: str) -> DamagedItemError:
    return DamagedItemError(f"{path} {what}. Run 'medallion bronze verify' and restore the directory from a backup.")
