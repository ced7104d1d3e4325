"""Taking items out of the store: a tombstone in the place of each, then the bytes go. All under the lock of the source type.

A tombstone is durable, in its place and in the index, before the first byte goes. From then on every reader takes the item for
removed, whatever is still left of it; the next call removes the rest. What may be removed is not decided here.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from secrets import token_hex

import msgspec

from medallion_defs.storage.item import ITEM_FILE, BronzeItem
from medallion_defs.storage.local import index
from medallion_defs.storage.local.disk import (
    CREATE,
    FOLDER,
    READ_ONLY,
    READ_ONLY_FOLDER,
    find_syncfs,
    list_names,
    sync_file,
    sync_file_system,
    write_all,
)
from medallion_defs.storage.local.folder import SourceFolder, exists, item_directories, parse_entry, read_item_line
from medallion_defs.storage.local.recovery import remove_leftover, replace_index
from medallion_defs.storage.naming import encode_external_id
from medallion_defs.storage.publishing import DamagedItemError, Removal
from medallion_defs.storage.tombstone import (
    REMOVED_FILE,
    Entry,
    Tombstone,
    bury,
    bury_forgotten,
    decode_line,
    encode_tombstone,
    facts_of,
    forgotten_directory,
)

_OWNER_MAY_WRITE = 0o200


def remove_items(folder: SourceFolder, directories: Sequence[str], at: datetime, by: str) -> Removal:
    """Leave a tombstone in each of `directories`, and nothing else. A damaged item is left as it is."""
    entries: list[Entry] = []
    damaged: list[str] = []
    for directory in directories:
        try:
            entries.append(_read_entry(folder, directory))
        except DamagedItemError as error:
            damaged.append(str(error))
    begun = [entry for entry in entries if isinstance(entry, Tombstone)]
    fresh = [bury(entry, at, by) for entry in entries if isinstance(entry, BronzeItem)]
    _place_tombstones(folder, fresh)
    lines = [encode_tombstone(tombstone) for tombstone in fresh]
    _append_lines(folder, index.missing_lines(folder.fd, map(encode_tombstone, begun)) + lines)
    for tombstone in begun + fresh:
        _empty(folder, tombstone.item.directory)
    return Removal(tuple(begun + fresh), tuple(damaged))


def forget_subject(folder: SourceFolder, external_id: str, at: datetime) -> list[Tombstone]:
    """Put tombstones of hashes in the place of all revisions of an external id; its directories and index lines go.

    Where there is no revision a tombstone is left all the same: the external id is not to come in later.
    """
    directories = _revisions(folder, external_id)
    items = [_facts_at(folder, external_id, directory, at) for directory in directories]
    if not items and not exists(forgotten_directory(folder.source_type, external_id), folder.fd):
        items = [_nothing_known(folder.source_type, external_id, 1, at)]
    with _place(folder) as place:
        _place_graves(folder, place, [bury_forgotten(item, at) for item in items])
        for number, directory in enumerate(directories):
            _make_writable(folder, directory)
            os.rename(directory, f"{place}/gone-{number}", src_dir_fd=folder.fd, dst_dir_fd=folder.staging_fd)
        sync_file(folder.fd)
    tombstones = _forgotten(folder, external_id)
    _rewrite_index(folder, external_id, tombstones)
    return tombstones


def _read_entry(folder: SourceFolder, directory: str) -> Entry:
    return parse_entry(read_item_line(folder.fd, folder.path, directory), folder.path, directory)


@contextmanager
def _place(folder: SourceFolder) -> Iterator[str]:
    """Yield the name of a new staging folder; remove it with all that is in it. What a kill leaves, the next publisher removes."""
    name = token_hex(8)
    os.mkdir(name, dir_fd=folder.staging_fd)
    yield name
    remove_leftover(folder, name)


# -- removed by a policy -----------------------------------------------------------------------------------------------


def _place_tombstones(folder: SourceFolder, tombstones: Sequence[Tombstone]) -> None:
    if not tombstones:
        return
    with _place(folder) as place:
        for number, tombstone in enumerate(tombstones):
            _write(folder, f"{place}/{number}", encode_tombstone(tombstone))
        _sync(folder)
        for number, tombstone in enumerate(tombstones):
            directory = tombstone.item.directory
            _make_writable(folder, directory)
            os.rename(f"{place}/{number}", f"{directory}/{REMOVED_FILE}", src_dir_fd=folder.staging_fd, dst_dir_fd=folder.fd)
        _sync(folder, [tombstone.item.directory for tombstone in tombstones])


def _append_lines(folder: SourceFolder, lines: Sequence[bytes]) -> None:
    if lines:
        index_fd = index.open_index(folder.fd)
        try:
            index.append_lines(index_fd, lines)
        finally:
            os.close(index_fd)


def _empty(folder: SourceFolder, directory: str) -> None:
    """Remove all but the tombstone; `_item.json` last, for it says what the rest is."""
    _make_writable(folder, directory)
    fd = os.open(directory, FOLDER | os.O_NOFOLLOW, dir_fd=folder.fd)
    try:
        for name in sorted(list_names(fd), key=lambda name: name == ITEM_FILE):
            if name != REMOVED_FILE:
                os.unlink(name, dir_fd=fd)
        os.fchmod(fd, os.fstat(fd).st_mode & READ_ONLY_FOLDER)
    finally:
        os.close(fd)


# -- forgotten ---------------------------------------------------------------------------------------------------------


def _revisions(folder: SourceFolder, external_id: str) -> list[str]:
    # An '@' of the id itself is encoded: after the name it can only open the number of a revision.
    name = encode_external_id(external_id)
    return sorted(found for found in item_directories(folder.fd) if found.partition("@")[0] == name)


def _facts_at(folder: SourceFolder, external_id: str, directory: str, at: datetime) -> BronzeItem:
    try:
        return facts_of(_read_entry(folder, directory))
    except DamagedItemError:  # it must go all the same
        return _nothing_known(folder.source_type, external_id, int(directory.partition("@")[2] or 1), at)


def _nothing_known(source_type: str, external_id: str, revision: int, at: datetime) -> BronzeItem:
    return BronzeItem(source_type, external_id, revision, "", "", "", at, "", ())


def _place_graves(folder: SourceFolder, place: str, tombstones: Iterable[Tombstone]) -> None:
    for tombstone in tombstones:
        directory = tombstone.item.directory
        if not exists(directory, folder.fd):
            os.mkdir(f"{place}/{directory}", dir_fd=folder.staging_fd)
            _write(folder, f"{place}/{directory}/{REMOVED_FILE}", encode_tombstone(tombstone))
            _sync(folder)
            os.rename(f"{place}/{directory}", directory, src_dir_fd=folder.staging_fd, dst_dir_fd=folder.fd)
            os.chmod(directory, os.stat(directory, dir_fd=folder.fd).st_mode & READ_ONLY_FOLDER, dir_fd=folder.fd)
            _sync(folder, [directory, "."])


def _forgotten(folder: SourceFolder, external_id: str) -> list[Tombstone]:
    name = forgotten_directory(folder.source_type, external_id)
    found = (_read_entry(folder, directory) for directory in item_directories(folder.fd) if directory.partition("@")[0] == name)
    return sorted((entry for entry in found if isinstance(entry, Tombstone)), key=lambda tombstone: tombstone.item.revision)


def _rewrite_index(folder: SourceFolder, external_id: str, tombstones: Iterable[Tombstone]) -> None:
    graves = [encode_tombstone(tombstone) for tombstone in tombstones]
    lines = list(index.read_lines(folder.fd))
    kept = [line for line in lines if not _is_of(line, external_id)]
    missing = [line for line in graves if line not in set(kept)]
    if missing or len(kept) < len(lines):
        replace_index(folder, kept + missing)


def _is_of(line: bytes, external_id: str) -> bool:
    try:
        return facts_of(decode_line(line)).external_id == external_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False  # 'bronze verify' tells of it


# -- both --------------------------------------------------------------------------------------------------------------


def _write(folder: SourceFolder, path: str, content: bytes) -> None:
    fd = os.open(path, CREATE, READ_ONLY, dir_fd=folder.staging_fd)
    try:
        write_all(fd, content)
        if find_syncfs() is None:
            sync_file(fd)
    finally:
        os.close(fd)


def _make_writable(folder: SourceFolder, directory: str) -> None:
    """Moving or emptying a directory that one may not write is refused to everybody but root."""
    os.chmod(directory, os.stat(directory, dir_fd=folder.fd).st_mode | _OWNER_MAY_WRITE, dir_fd=folder.fd)


def _sync(folder: SourceFolder, directories: Iterable[str] = ()) -> None:
    """Make durable what was written: all at once where the system can, else these directories (files were synced by themselves)."""
    if find_syncfs() is not None:
        sync_file_system(folder.staging_fd)
        return
    for directory in directories:
        fd = os.open(directory, FOLDER, dir_fd=folder.fd)
        try:
            sync_file(fd)
        finally:
            os.close(fd)
