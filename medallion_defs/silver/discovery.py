"""Discovery: which bronze items silver has not heard of. The cursor makes it cheap, the ledger makes it right.

*scan* compares the source folder's stamps, and when they moved subtracts the ledger's names from the folder's; it
trusts no item's own mtime. *index* reads `_index.jsonl` from the byte offset in the cursor. Both register what is new;
claiming is the ledger's. A lost, stale or broken cursor costs time, never an item. Nothing here opens an artifact.
"""

import hashlib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import msgspec
import psycopg

from medallion_defs.core import clock
from medallion_defs.core.errors import TerminalError, TransientError
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.item import INDEX_FILE, ITEM_FILE, BronzeItem
from medallion_defs.ops.ledger import Ledger
from medallion_defs.ops.tombstone import REMOVED_FILE, Tombstone, decode_line

Mode = Literal["scan", "index"]

INDEX_FROM_ITEMS = 100_000
SETTLE_SECONDS = 2.0
NAMES_PER_CHUNK = 1_000
BYTES_PER_CHUNK = 2 * 1024**2
TAIL_BYTES = 4_096
# Six bytes each at worst, in JSON. A name cut short only means that wrong directories of that prefix are read twice.
AFTER_CHARACTERS = 150
_REINDEX = "run 'medallion bronze reindex'"

_LOG = logging.getLogger(__name__)


class ScanCursor(msgspec.Struct, frozen=True, tag_field="mode", tag="scan", forbid_unknown_fields=True):
    """`stamps`: the folder's when all in it was known, None while that is not sure; `after`: where an unfinished pass goes on."""

    stamps: tuple[int, int, int] | None = None
    after: str = ""


class IndexCursor(msgspec.Struct, frozen=True, tag_field="mode", tag="index", forbid_unknown_fields=True):
    """How far the index is consumed; `inode` and the hash of the bytes before `offset` say whether it is still that index."""

    inode: int = 0
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    tail_sha256: str = ""


Cursor = ScanCursor | IndexCursor


class Problem(msgspec.Struct, frozen=True):
    """Something in bronze that is not an item as it should be: where (below the bronze root), and what to do."""

    path: str
    message: str


class Discovery(msgspec.Struct, frozen=True, kw_only=True):
    """What one call found.

    Attributes:
        cursor: for the next call; under 1 KB as JSON.
        registered: items that are new to the ledger.
        seen: directory names listed or index lines read; 0 when the cursor told that nothing moved.
        mode: how it looked.
        complete: False when the time was up; the next call goes on.
        problems: what could not be registered. Scan reports one at every tick until it is gone, index once.
    """

    cursor: Cursor
    registered: int
    seen: int
    mode: Mode
    complete: bool
    problems: tuple[Problem, ...] = ()


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """All of a source's directories against the ledger. `gone`: bronze paths in the ledger whose directory is not there."""

    directories: int
    known: int
    registered: int
    gone: tuple[str, ...]
    problems: tuple[Problem, ...]


def discover(
    connection: psycopg.Connection[Any],
    bronze_root: Path,
    source_type: str,
    cursor: Cursor | None,
    mode: Literal["auto", "scan", "index"],
    budget_seconds: float,
) -> Discovery:
    """Register in the ledger the items of a source that it does not know, in the caller's transaction.

    Each call makes progress, however small the budget; it stops at the first chunk past it.

    Raises:
        TransientError: the source's folder or index is there but cannot be read. Never raised for a single item.
    """
    deadline = time.monotonic() + budget_seconds
    folder = bronze_root / source_type
    try:
        if _choose_mode(folder, mode, cursor) == "index":
            start = cursor if isinstance(cursor, IndexCursor) else IndexCursor()
            return _discover_by_index(Ledger(connection), folder, start, deadline)
        resume = cursor if isinstance(cursor, ScanCursor) else ScanCursor()
        return _discover_by_scan(Ledger(connection), folder, resume, deadline)
    except OSError as error:
        raise TransientError(f"{folder} cannot be read: {error}. Nothing was taken for missing; the next tick tries again.") from error


def reconcile(connection: psycopg.Connection[Any], bronze_root: Path, source_type: str) -> Reconciliation:
    """Compare every directory of a source with the ledger; register what both ways of discovery missed.

    Raises:
        TransientError: the source's folder cannot be read.
    """
    ledger, folder = Ledger(connection), bronze_root / source_type
    # The ledger first: an item published in between is then unknown, which registering puts right, and never "gone".
    known = ledger.known_directories(source_type)
    try:
        names = _item_names(folder)
    except OSError as error:
        raise TransientError(f"{folder} cannot be read: {error}. Nothing was taken for missing; reconcile again.") from error
    registered, problems = 0, []
    for chunk in _chunks(sorted(set(names) - known)):
        new, wrong = _read_items(folder, chunk)
        registered += _register(ledger, new)
        problems += wrong
    gone = tuple(f"{source_type}/{name}" for name in sorted(known - set(names)))
    return Reconciliation(directories=len(names), known=len(known), registered=registered, gone=gone, problems=tuple(problems))


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


def _discover_by_scan(ledger: Ledger, folder: Path, cursor: ScanCursor, deadline: float) -> Discovery:
    # Stamps before names: what arrives while we list moves them again.
    stamps = _folder_stamps(folder)
    is_settled = are_settled(stamps, clock.now().timestamp())
    if stamps == cursor.stamps or stamps is None:
        return Discovery(cursor=cursor, registered=0, seen=0, mode="scan", complete=True)
    names = _item_names(folder)
    new = sorted(set(names) - ledger.known_directories(folder.name))
    registered, problems = 0, []
    for chunk in _chunks([name for name in new if name > cursor.after]):
        items, wrong = _read_items(folder, chunk)
        registered += _register(ledger, items)
        problems += wrong
        if time.monotonic() > deadline and chunk[-1] != new[-1]:
            rest = ScanCursor(after=_shown(chunk[-1])[:AFTER_CHARACTERS])
            return Discovery(
                cursor=rest, registered=registered, seen=len(names), mode="scan", complete=False, problems=tuple(problems)
            )  # fmt: skip
    # What is wrong now may be put right without moving the folder's stamps; what lies before `after` was not looked at.
    is_sure = is_settled and not problems and not cursor.after
    after = ScanCursor(stamps=stamps if is_sure else None)
    return Discovery(
        cursor=after, registered=registered, seen=len(names), mode="scan", complete=True, problems=tuple(problems)
    )  # fmt: skip


def _folder_stamps(folder: Path) -> tuple[int, int, int] | None:
    """Return (inode, mtime, ctime in ns); None when nothing was published yet. The ctime: rsync sets an mtime back, nobody a ctime."""
    try:
        stat = folder.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns


def are_settled(stamps: tuple[int, int, int] | None, now: float) -> bool:
    """Whether a later change must give other stamps. A young one may be shared: ext4 stamps whole 4 ms ticks alike."""
    return stamps is not None and max(stamps[1:]) < (now - SETTLE_SECONDS) * 1e9


def _item_names(folder: Path) -> list[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208  strings: a Path for each of 100,000 names costs more than the listing
    except FileNotFoundError:
        return []
    return [name for name in names if not name.startswith(".") and name != INDEX_FILE]


def _read_items(folder: Path, names: Iterable[str]) -> tuple[list[DatasetIngestion], list[Problem]]:
    rows, problems, now = [], [], clock.now()
    for name in names:
        path = f"{folder.name}/{_shown(name)}"
        try:
            rows.append(_as_row(_read_entry(folder / name), folder.name, name, now))
        except OSError as error:
            problems.append(Problem(path, f"has no readable {ITEM_FILE} ({error.strerror}). Move it out of bronze, or restore the file."))
        except (ValueError, RecursionError, TerminalError) as error:
            problems.append(Problem(path, f"{ITEM_FILE} is not this item's: {error}. Restore it from a backup, or move the folder away."))
    return rows, problems


# -- index -------------------------------------------------------------------------------------------------------------


def _discover_by_index(ledger: Ledger, folder: Path, cursor: IndexCursor, deadline: float) -> Discovery:
    try:
        index = (folder / INDEX_FILE).open("rb")
    except FileNotFoundError:
        return _without_index(folder)
    seen, registered, problems, is_complete = 0, 0, list[Problem](), True
    with index:
        position = cursor.offset if _is_same_index(index, cursor) else 0
        while block := read_complete_lines(index, position):
            if seen and time.monotonic() > deadline:
                is_complete = False
                break
            lines = block[:-1].split(b"\n")
            rows, wrong = _parse_lines(lines, folder.name, position)
            registered += _register_unknown(ledger, rows)
            problems += wrong
            seen += len(lines)
            position += len(block)
        after = IndexCursor(inode=os.fstat(index.fileno()).st_ino, offset=position, tail_sha256=_tail_sha256(index, position))
    return Discovery(
        cursor=after, registered=registered, seen=seen, mode="index", complete=is_complete, problems=tuple(problems)
    )  # fmt: skip


def _without_index(folder: Path) -> Discovery:
    problems = (Problem(f"{folder.name}/{INDEX_FILE}", f"is missing although there are items; {_REINDEX}."),) if _item_names(folder) else ()
    return Discovery(cursor=IndexCursor(), registered=0, seen=0, mode="index", complete=True, problems=problems)


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
    while more := index.read(BYTES_PER_CHUNK):
        end = more.rfind(b"\n") + 1
        if end:
            return block + more[:end]
        block += more
    return b""  # what is left has no end yet: its writer is still at it, or died


def _parse_lines(lines: Sequence[bytes], source_type: str, position: int) -> tuple[list[DatasetIngestion], list[Problem]]:
    rows, problems, now = [], [], clock.now()
    for line in lines:
        try:
            rows.append(_as_row(decode_line(line), source_type, None, now))
        except (ValueError, RecursionError, TerminalError) as error:
            text = f"the line at byte {position} is not an item of this source: {error}. It was passed over; {_REINDEX}."
            problems.append(Problem(f"{source_type}/{INDEX_FILE}", text))
        position += len(line) + 1
    return rows, problems


def _register_unknown(ledger: Ledger, rows: Sequence[DatasetIngestion]) -> int:
    # Asking first: after a reindex nearly every line is known, and a refused insert costs ten times a look.
    by_path = {row.bronze_path: row for row in rows if row.bronze_path}
    unknown = ledger.unknown_paths(list(by_path))
    # A tombstone is registered whether or not its path is known: its item's own line, read first, may have made the path known.
    return _register(ledger, [row for path, row in by_path.items() if path in unknown or row.bronze_removed_at])


# -- both --------------------------------------------------------------------------------------------------------------


def _register(ledger: Ledger, rows: Sequence[DatasetIngestion]) -> int:
    removed = [row for row in rows if row.bronze_removed_at]
    registered = ledger.register_published(row for row in rows if not row.bronze_removed_at)
    return registered + (ledger.register_removed(removed) if removed else 0)


def _read_entry(directory: Path) -> BronzeItem | Tombstone:
    try:
        return decode_line((directory / REMOVED_FILE).read_bytes())
    except FileNotFoundError:
        return decode_line((directory / ITEM_FILE).read_bytes())


def _as_row(entry: BronzeItem | Tombstone, source_type: str, directory: str | None, at: datetime) -> DatasetIngestion:
    item = entry.item if isinstance(entry, Tombstone) else entry
    if item.source_type != source_type:
        raise TerminalError(f"it is of source '{item.source_type}', not '{source_type}'")
    if directory is not None and item.directory != directory:
        raise TerminalError(f"it belongs to the directory '{item.directory}'")
    if not item.directory or item.directory.startswith(".") or "/" in item.directory:
        raise TerminalError(f"'{item.directory}' is not the name of an item directory")
    return DatasetIngestion.buried(entry, at) if isinstance(entry, Tombstone) else DatasetIngestion.published(entry, at)


def _shown(name: str) -> str:
    """Return a file name as text that every log and database takes, whatever bytes it is made of."""
    return name.encode("utf-8", "backslashreplace").decode()


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[start : start + NAMES_PER_CHUNK] for start in range(0, len(names), NAMES_PER_CHUNK))
