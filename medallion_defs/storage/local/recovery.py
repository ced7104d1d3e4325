"""What a dead publisher left in staging, and the rebuilt index. Everything here runs under the lock of the source type.

What no publisher put there (a file, a link, a folder of another name) is left alone, logged, and told by `verify`: it must not keep
the source from publishing.
"""

import logging
import os
import re
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex

import msgspec

from medallion_defs.storage.item import INDEX_FILE, ITEM_FILE, STAGING_FOLDER, BronzeItem, decode_item
from medallion_defs.storage.local import index
from medallion_defs.storage.local.disk import CREATE, READ_ONLY_FOLDER, disk_errors, list_names, read_file, sync_file, write_all
from medallion_defs.storage.local.folder import SourceFolder

INTENT_FILE = "lines.jsonl"
DAMAGED_SUFFIX = ".damaged"
_PLACE = re.compile(r"[0-9a-f]{16}")
_LOG = logging.getLogger(__name__)


def recover(folder: SourceFolder) -> None:
    """Finish what dead publishers had renamed into place, remove the rest.

    The intent file of a group was durable before its first rename, so an item in place whose line is not in the
    index is found by it, and needs only its permissions and its line.
    """
    leftovers, strays = _look(folder.staging_fd)
    for name in strays:
        _LOG.warning("%s/%s/%s was not put there by Medallion; it is left alone. Move it away.", STAGING_FOLDER, folder.source_type, name)
    if not leftovers:
        return
    intended = {name: _read_intent(folder, name) for name in leftovers}
    published = [line for intent in intended.values() for line, item in intent.items if _is_published(folder, line, item)]
    missing = index.missing_lines(folder.fd, published)
    if missing:
        index_fd = index.open_index(folder.fd)
        try:
            for line in missing:
                directory = decode_item(line).directory
                os.chmod(directory, os.stat(directory, dir_fd=folder.fd).st_mode & READ_ONLY_FOLDER, dir_fd=folder.fd)
            sync_file(folder.fd)
            index.append_lines(index_fd, missing)
        finally:
            os.close(index_fd)
    for name, intent in intended.items():
        if intent.is_whole:
            remove_leftover(folder, name)
        else:
            _set_aside(folder, name)


def find_strays(staging_fd: int) -> list[str]:
    """Return the names in a source's staging folder that no publisher made."""
    return _look(staging_fd)[1]


def _look(staging_fd: int) -> tuple[list[str], list[str]]:
    """Return the folders of dead publishers, and what else is there."""
    names = list_names(staging_fd)
    own = [name for name in names if _PLACE.fullmatch(name) and _is_folder(name, staging_fd)]
    return own, sorted(set(names) - set(own))


def _is_folder(name: str, fd: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)


@dataclass(frozen=True)
class _Intent:
    """What a group meant to append: lines with their items. Not `is_whole`: something in it is garbage, so its folder is kept."""

    items: list[tuple[bytes, BronzeItem]]
    is_whole: bool = True


def _read_intent(folder: SourceFolder, name: str) -> _Intent:
    """Return the intent of a group; an empty one when it died before it wrote its lines down whole.

    Raises:
        MedallionError: the disk did not give it. It may name published items, so nothing of the group may be removed or set aside:
            the next publisher tries again.
    """
    path = f"{name}/{INTENT_FILE}"
    with disk_errors(f"{STAGING_FOLDER}/{folder.source_type}/{path}"):
        try:
            mode = os.stat(path, dir_fd=folder.staging_fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return _Intent([])
        if not stat.S_ISREG(mode):
            _LOG.warning("The intent %s in staging of %s is not a regular file.", name, folder.source_type)
            return _Intent([], is_whole=False)
        text = read_file(path, folder.staging_fd)
    items, is_whole = [], True
    for line in (line for line in text.splitlines(keepends=True) if line.endswith(b"\n")):
        try:
            items.append((line, decode_item(line)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            _LOG.warning("The intent %s in staging of %s has a broken line: %s", name, folder.source_type, error)
            is_whole = False
    return _Intent(items, is_whole)


def _is_published(folder: SourceFolder, line: bytes, item: BronzeItem) -> bool:
    try:
        return "/" not in item.directory and read_file(f"{item.directory}/{ITEM_FILE}", folder.fd) == line
    except (FileNotFoundError, NotADirectoryError):
        return False


def _set_aside(folder: SourceFolder, name: str) -> None:
    """Keep a staging folder whose intent is broken, under a name that no recovery looks at again."""
    os.rename(name, f"{name}{DAMAGED_SUFFIX}", src_dir_fd=folder.staging_fd, dst_dir_fd=folder.staging_fd)
    _LOG.warning(
        "%s of %s is kept as %s%s. Run 'medallion bronze verify %s': an item that is not in the index is found there.",
        name, folder.source_type, name, DAMAGED_SUFFIX, folder.source_type,
    )  # fmt: skip


def remove_leftover(folder: SourceFolder, name: str) -> None:
    """Remove one staging folder; the intent first, since it speaks of the rest."""
    with suppress(FileNotFoundError):
        os.unlink(f"{name}/{INTENT_FILE}", dir_fd=folder.staging_fd)
    shutil.rmtree(name, dir_fd=folder.staging_fd)


def replace_index(folder: SourceFolder, lines: Sequence[bytes]) -> None:
    """Put an index of these lines in the place of the present one; readers see the old or the new, never a part."""
    place = token_hex(8)
    os.mkdir(place, dir_fd=folder.staging_fd)
    fd = os.open(f"{place}/{INDEX_FILE}", CREATE, 0o644, dir_fd=folder.staging_fd)
    try:
        write_all(fd, b"".join(lines))
        sync_file(fd)
    finally:
        os.close(fd)
    os.rename(f"{place}/{INDEX_FILE}", INDEX_FILE, src_dir_fd=folder.staging_fd, dst_dir_fd=folder.fd)
    sync_file(folder.fd)
    os.rmdir(place, dir_fd=folder.staging_fd)
