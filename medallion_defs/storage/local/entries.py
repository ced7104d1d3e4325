"""Which entries a source's folder has since a cursor. The cursor makes it cheap; what is known already, the caller says.

*scan* compares the folder's stamps, and when they moved subtracts the known names from the folder's; it trusts no item's own mtime.
*index* reads `_index.jsonl` from the byte offset in the cursor. A lost, stale or broken cursor costs time, never an item. Nothing here
opens an artifact.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

from medallion_defs.core import clock
from medallion_defs.core.errors import TerminalError
from medallion_defs.storage.item import INDEX_FILE, ITEM_FILE, require_storable
from medallion_defs.storage.reading import Cursor, EntryPage, IndexCursor, Mode, Problem, ScanCursor
from medallion_defs.storage.tombstone import REMOVED_FILE, Entry, Tombstone, decode_line

INDEX_FROM_ITEMS = 100_000
SETTLE_SECONDS = 2.0
NAMES_PER_PAGE = 1_000
BYTES_PER_PAGE = 2 * 1024**2
TAIL_BYTES = 4_096
# Six bytes each at worst, in JSON. A name cut short only means that wrong directories of that prefix are read twice.
AFTER_CHARACTERS = 150
_REINDEX = "run 'medallion bronze reindex'"

_LOG = logging.getLogger(__name__)


def read_since(
    folder: Path, cursor: Cursor | None, mode: Literal["auto", "scan", "index"], known: Callable[[], set[str]]
) -> Iterator[EntryPage]:
    """Yield what the folder has since `cursor`, in pages; see `ItemReader.entries`.

    Raises:
        OSError: the folder or its index is there but cannot be read.
    """
    if _choose_mode(folder, mode, cursor) == "index":
        yield from _by_index(folder, cursor if isinstance(cursor, IndexCursor) else IndexCursor())
    else:
        yield from _by_scan(folder, cursor if isinstance(cursor, ScanCursor) else ScanCursor(), known)


def _choose_mode(folder: Path, mode: Literal["auto", "scan", "index"], position: Cursor | None) -> Mode:
    if mode != "auto":
        return mode
    try:
        with (folder / INDEX_FILE).open("rb") as index:
            items = estimate_lines(os.fstat(index.fileno()).st_size, index.read(TAIL_BYTES * 4))
    except FileNotFoundError:
        return "scan"
    # Once on the index, stay: at the threshold the estimate may waver, and each change of mode looks at everything again.
    return "index" if isinstance(position, IndexCursor) or items >= INDEX_FROM_ITEMS else "scan"


def estimate_lines(size: int, head: bytes) -> int:
    """Return about how many lines a file of `size` bytes has that starts with `head`."""
    lines = head.count(b"\n")
    return size * lines // (head.rindex(b"\n") + 1) if lines else 0


# -- scan --------------------------------------------------------------------------------------------------------------


def _by_scan(folder: Path, cursor: ScanCursor, known: Callable[[], set[str]]) -> Iterator[EntryPage]:
    # Stamps before names: what arrives while we list moves them again.
    stamps = _folder_stamps(folder)
    is_settled = are_settled(stamps, clock.now().timestamp())
    if stamps == cursor.stamps or stamps is None:
        yield EntryPage((), (), 0, "scan", cursor, is_last=True)
        return
    names = item_names(folder)
    new = sorted(set(names) - known())
    is_sure = is_settled and not cursor.after
    for chunk in _chunks([name for name in new if name > cursor.after]) or [()]:
        found, problems = _read_named(folder, chunk)
        # What is wrong now may be put right without moving the folder's stamps; what lies before `after` was not looked at.
        is_sure = is_sure and not problems
        is_last = not chunk or chunk[-1] == new[-1]
        after = ScanCursor(stamps=stamps if is_sure else None) if is_last else ScanCursor(after=_shown(chunk[-1])[:AFTER_CHARACTERS])
        yield EntryPage(found, problems, len(names), "scan", after, is_last)


def _folder_stamps(folder: Path) -> tuple[int, int, int] | None:
    """Return (inode, mtime, ctime in ns); None when nothing was published yet. The ctime: rsync sets an mtime back, but not a ctime."""
    try:
        stat = folder.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns


def are_settled(stamps: tuple[int, int, int] | None, now: float) -> bool:
    """Whether a later change must give other stamps. A young one may be shared: ext4 stamps whole 4 ms ticks alike."""
    return stamps is not None and max(stamps[1:]) < (now - SETTLE_SECONDS) * 1e9


def item_names(folder: Path) -> list[str]:
    """Return the names of the item directories, in no order; none when there is no folder."""
    try:
        names = os.listdir(folder)  # noqa: PTH208  strings: a Path for each of 100,000 names costs more than the listing
    except FileNotFoundError:
        return []
    return [name for name in names if not name.startswith(".") and name != INDEX_FILE]


def read_named(folder: Path, names: Sequence[str]) -> Iterator[EntryPage]:
    """Yield the entries of these directories, in pages."""
    for chunk in _chunks(names):
        found, problems = _read_named(folder, chunk)
        yield EntryPage(found, problems, len(names), "scan", ScanCursor(), is_last=chunk[-1] == names[-1])


def _read_named(folder: Path, names: Sequence[str]) -> tuple[list[Entry], list[Problem]]:
    found, problems = [], []
    for name in names:
        path = f"{folder.name}/{_shown(name)}"
        try:
            found.append(_checked(_read_entry(folder / name), folder.name, name))
        except OSError as error:
            problems.append(Problem(path, f"has no readable {ITEM_FILE} ({error.strerror}). Move it out of bronze, or restore the file."))
        except (ValueError, RecursionError, TerminalError) as error:
            problems.append(Problem(path, f"{ITEM_FILE} is not this item's: {error}. Restore it from a backup, or move the folder away."))
    return found, problems


def _read_entry(directory: Path) -> Entry:
    try:
        return decode_line((directory / REMOVED_FILE).read_bytes())
    except FileNotFoundError:
        return decode_line((directory / ITEM_FILE).read_bytes())


# -- index -------------------------------------------------------------------------------------------------------------


def _by_index(folder: Path, cursor: IndexCursor) -> Iterator[EntryPage]:
    try:
        index = (folder / INDEX_FILE).open("rb")
    except FileNotFoundError:
        yield EntryPage((), _missing_index(folder), 0, "index", IndexCursor(), is_last=True)
        return
    with index:
        position, seen = cursor.offset if _is_same_index(index, cursor) else 0, 0
        block = read_complete_lines(index, position)
        if not block:
            yield EntryPage((), (), 0, "index", _index_cursor(index, position), is_last=True)
        while block:
            lines = block[:-1].split(b"\n")
            found, problems = _parse_lines(lines, folder.name, position)
            seen, position = seen + len(lines), position + len(block)
            block = read_complete_lines(index, position)
            yield EntryPage(found, problems, seen, "index", _index_cursor(index, position), is_last=not block)


def _missing_index(folder: Path) -> tuple[Problem, ...]:
    return (Problem(f"{folder.name}/{INDEX_FILE}", f"is missing although there are items; {_REINDEX}."),) if item_names(folder) else ()


def _index_cursor(index: BinaryIO, position: int) -> IndexCursor:
    return IndexCursor(inode=os.fstat(index.fileno()).st_ino, offset=position, tail_sha256=_tail_sha256(index, position))


def _is_same_index(index: BinaryIO, cursor: IndexCursor) -> bool:
    stat = os.fstat(index.fileno())
    if cursor.offset == 0:
        return True
    if stat.st_ino == cursor.inode and stat.st_size >= cursor.offset and _tail_sha256(index, cursor.offset) == cursor.tail_sha256:
        return True
    _LOG.warning("%s is not the file that was read before (rebuilt, cut or replaced); reading it from the start.", index.name)
    return False


def _tail_sha256(index: BinaryIO, offset: int) -> str:
    length = min(offset, TAIL_BYTES)
    index.seek(offset - length)
    return hashlib.sha256(index.read(length)).hexdigest()


def read_complete_lines(index: BinaryIO, position: int) -> bytes:
    """Return a block of complete lines from `position`, about 2 MB, more when one line is longer; b"" when there is none."""
    index.seek(position)
    block = b""
    while more := index.read(BYTES_PER_PAGE):
        end = more.rfind(b"\n") + 1
        if end:
            return block + more[:end]
        block += more
    return b""  # what is left has no end yet: it is still being written, or its writer died


def _parse_lines(lines: Sequence[bytes], source_type: str, position: int) -> tuple[list[Entry], list[Problem]]:
    found, problems = [], []
    for line in lines:
        try:
            found.append(_checked(decode_line(line), source_type, None))
        except (ValueError, RecursionError, TerminalError) as error:
            text = f"the line at byte {position} is not an item of this source: {error}. It was passed over; {_REINDEX}."
            problems.append(Problem(f"{source_type}/{INDEX_FILE}", text))
        position += len(line) + 1
    return found, problems


# -- both --------------------------------------------------------------------------------------------------------------


def _checked(entry: Entry, source_type: str, directory: str | None) -> Entry:
    """Return the entry when it belongs where it was found."""
    item = entry.item if isinstance(entry, Tombstone) else entry
    if item.source_type != source_type:
        raise TerminalError(f"it is of source '{item.source_type}', not '{source_type}'")
    if directory is not None and item.directory != directory:
        raise TerminalError(f"it belongs to the directory '{item.directory}'")
    if not item.directory or item.directory.startswith(".") or "/" in item.directory:
        raise TerminalError(f"'{item.directory}' is not the name of an item directory")
    require_storable(item)
    return entry


def _shown(name: str) -> str:
    """Return a file name as text that every log and database takes, whatever bytes it is made of."""
    return name.encode("utf-8", "backslashreplace").decode()


def _chunks(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[start : start + NAMES_PER_PAGE] for start in range(0, len(names), NAMES_PER_PAGE)]
