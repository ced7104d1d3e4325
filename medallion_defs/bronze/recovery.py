"""What a dead publisher left in staging, and the index built anew. Everything here runs under the lock of the source type."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from secrets import token_hex

from medallion_defs.bronze import index
from medallion_defs.bronze.disk import CREATE, READ_ONLY_FOLDER, list_names, read_file, sync_file, write_all
from medallion_defs.bronze.folder import SourceFolder
from medallion_defs.ops.item import INDEX_FILE, ITEM_FILE, decode_item

INTENT_FILE = "lines.jsonl"


def recover(folder: SourceFolder) -> None:
    """Finish what dead publishers had renamed into place, remove the rest.

    The intent file of a group was durable before its first rename, so an item in place whose line is not in the
    index is found by it, and needs only its permissions and its line.
    """
    leftovers = list_names(folder.staging_fd)
    if not leftovers:
        return
    published = [line for name in leftovers for line in _intended_lines(folder, name) if _is_published(folder, line)]
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
    for name in leftovers:
        remove_leftover(folder, name)


def _intended_lines(folder: SourceFolder, name: str) -> Iterator[bytes]:
    """Yield the lines that a group meant to append; none when it died before it wrote them down whole."""
    try:
        text = read_file(f"{name}/{INTENT_FILE}", folder.staging_fd)
    except FileNotFoundError:
        return
    yield from (line for line in text.splitlines(keepends=True) if line.endswith(b"\n"))


def _is_published(folder: SourceFolder, line: bytes) -> bool:
    try:
        return read_file(f"{decode_item(line).directory}/{ITEM_FILE}", folder.fd) == line
    except FileNotFoundError:
        return False


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
