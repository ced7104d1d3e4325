"""The items in the open folder of one source type: reading them, and which revision is the current one."""

import os
from dataclasses import dataclass

import msgspec

from medallion_defs.bronze.disk import read_file
from medallion_defs.bronze.encoding import revision_directory
from medallion_defs.bronze.store import DamagedItemError
from medallion_defs.ops.item import ITEM_FILE, BronzeItem, decode_item


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
    """Return the `_item.json` of an item as it stands.

    Raises:
        DamagedItemError: there is none, though its directory is there.
    """
    try:
        return read_file(f"{directory}/{ITEM_FILE}", folder_fd)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _damaged(f"{path}/{directory}", f"has no {ITEM_FILE}") from error


def parse_item(line: bytes, path: str, directory: str) -> BronzeItem:
    """Parse an `_item.json` and check that it belongs where it lies.

    Raises:
        DamagedItemError: it is not an item, or the item of another directory.
    """
    try:
        item = decode_item(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(f"{path}/{directory}", f"has a broken {ITEM_FILE} ({error})") from error
    if item.directory != directory:
        raise _damaged(f"{path}/{directory}", f"holds the item of '{item.directory}'")
    return item


def current_item(folder_fd: int, path: str, name: str) -> BronzeItem | None:
    """Return the newest revision of the item whose encoded name is `name`: one stat per revision, whatever the number of items.

    Raises:
        DamagedItemError: its `_item.json` is missing or broken.
    """
    revision = 1
    while _exists(revision_directory(name, revision), folder_fd):
        revision += 1
    if revision == 1:
        return None
    directory = revision_directory(name, revision - 1)
    return parse_item(read_item_line(folder_fd, path, directory), path, directory)


def _exists(directory: str, folder_fd: int) -> bool:
    try:
        os.stat(directory, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _damaged(path: str, what: str) -> DamagedItemError:
    return DamagedItemError(f"{path} {what}. Run 'medallion bronze verify' and restore the directory from a backup.")
