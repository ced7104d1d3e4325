"""Is bronze still what was published? Hash everything again, and compare directories with the index. Changes nothing."""

import os
import stat
from collections.abc import Iterator, Sequence
from hashlib import file_digest

import msgspec

from medallion_defs.core import clock
from medallion_defs.core.errors import TerminalError
from medallion_defs.storage.item import INDEX_FILE, ITEM_FILE, STAGING_FOLDER, Artifact, BronzeItem, content_sha256, is_ahead
from medallion_defs.storage.local.disk import FOLDER, disk_errors, list_names
from medallion_defs.storage.local.folder import parse_entry, read_item_line
from medallion_defs.storage.local.recovery import DAMAGED_SUFFIX
from medallion_defs.storage.naming import encode_external_id, revision_directory
from medallion_defs.storage.publishing import DamagedItemError, Problem, ProblemKind
from medallion_defs.storage.tombstone import REMOVED_FILE, Entry, Tombstone, decode_line, facts_of

_RESTORE = "Restore it from a backup; the landing archive or the source may still have the file."
_REMOVE = "Move it out of bronze: nothing but published items belongs there."
_REINDEX = "Run 'medallion bronze reindex {}'."
_REMOVE_REST = "Run 'medallion retention --apply', or 'medallion forget' again: what was begun is finished."
_OUTDATED = "Nothing: later deliveries win over it all the same. Deliver again what came since, if a release before 0.2 took it."
_WRITE_BITS = 0o222


def verify_items(root: str, source_type: str, names: Sequence[str], lines: Sequence[bytes]) -> Iterator[Problem]:
    """Yield the problems of one source type, given what lay in its folder and in its index at one moment."""
    path = f"{root}/{source_type}"
    indexed, problems = _read_index(source_type, lines)
    yield from problems
    with disk_errors(path):
        fd = os.open(path, FOLDER)
        try:
            for name in names:
                if name != INDEX_FILE:
                    yield from _verify_entry(fd, source_type, name, indexed.pop(name, None))
        finally:
            os.close(fd)
    for directory in indexed:
        yield _problem("missing", f"{source_type}/{directory}", "is in the index but not on disk", _RESTORE)


def describe_strays(source_type: str, names: Sequence[str]) -> Iterator[Problem]:
    """Yield a problem for each thing in a source's staging folder that no publisher made, or that recovery has set aside."""
    for name in names:
        path = f"{STAGING_FOLDER}/{source_type}/{name}"
        if name.endswith(DAMAGED_SUFFIX):
            remedy = f"Run 'medallion bronze reindex {source_type}' if an item is not in the index, then delete the folder."
            yield Problem("extra", path, f"{path} is what a dead publisher left, with a broken list of its items.", remedy)
        else:
            yield Problem("extra", path, f"{path} was not put there by Medallion.", _REMOVE)


def index_directory(line: bytes) -> str | None:
    """Return the directory that a line of the index is about; None for a broken line, which 'bronze verify' tells of."""
    try:
        return facts_of(decode_line(line)).directory
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def verify_entries(root: str, source_type: str, names: Sequence[str], lines: Sequence[bytes]) -> Iterator[tuple[str, list[Problem]]]:
    """Yield each of `names`, directories of one source type, with what is wrong with it; `lines` are those of the index about them."""
    indexed, _ = _read_index(source_type, lines)
    path = f"{root}/{source_type}"
    with disk_errors(path):
        fd = os.open(path, FOLDER)
        try:
            for name in names:
                try:
                    yield name, list(_verify_entry(fd, source_type, name, indexed.pop(name, None)))
                except FileNotFoundError:
                    yield name, [_problem("missing", f"{source_type}/{name}", "went while it was verified", _RESTORE)]
        finally:
            os.close(fd)


def _problem(kind: ProblemKind, path: str, what: str, remedy: str) -> Problem:
    return Problem(kind, path, f"{path} {what}.", remedy.format(path.partition("/")[0]))


def _read_index(source_type: str, lines: Sequence[bytes]) -> tuple[dict[str, bytes], list[Problem]]:
    indexed: dict[str, bytes] = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        path = f"{source_type}/{INDEX_FILE}"
        try:
            entry = decode_line(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            problems.append(_problem("index", path, f"has a broken line {number} ({error})", _REINDEX))
            continue
        directory = facts_of(entry).directory
        # An item that was removed has two lines until the next reindex: its own, and its tombstone's.
        if directory in indexed and not isinstance(entry, Tombstone):
            problems.append(_problem("index", path, f"names '{directory}' again in line {number}", _REINDEX))
        indexed[directory] = line
    return indexed, problems


def _verify_entry(fd: int, source_type: str, name: str, indexed: bytes | None) -> Iterator[Problem]:
    path = f"{source_type}/{name}"
    mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    if not stat.S_ISDIR(mode):
        yield _problem("extra", path, "is not an item", _REMOVE)
        return
    try:
        line = read_item_line(fd, source_type, name)
        entry = parse_entry(line, source_type, name)
    except DamagedItemError as error:
        yield Problem("unreadable", path, str(error), _RESTORE)
        return
    if indexed is None:
        yield _problem("unindexed", path, "is not in the index", _REINDEX)
    elif indexed != line:
        yield _problem("index", path, f"has another text in {INDEX_FILE} than in its own file", _REINDEX)
    if not _is_consistent(entry, source_type):
        yield _problem("changed", f"{path}/{ITEM_FILE}", "does not agree with itself", _RESTORE)
    if is_ahead(facts_of(entry).fetched_at, clock.now()):
        dated = facts_of(entry).fetched_at
        yield _problem("future", path, f"is dated {dated:%Y-%m-%dT%H:%M:%SZ}, in the future, by a clock that was wrong", _OUTDATED)
    if isinstance(entry, Tombstone):
        yield from _verify_removed(fd, path, name)
    else:
        yield from _verify_files(fd, path, name, entry, mode)


def _verify_removed(fd: int, path: str, directory: str) -> Iterator[Problem]:
    item_fd = os.open(directory, FOLDER | os.O_NOFOLLOW, dir_fd=fd)
    try:
        left = [name for name in list_names(item_fd) if name != REMOVED_FILE]
    finally:
        os.close(item_fd)
    if left:
        yield _problem("half removed", path, f"was removed, but {', '.join(left)} is still there", _REMOVE_REST)


def _is_consistent(entry: Entry, source_type: str) -> bool:
    item = facts_of(entry)
    if isinstance(entry, Tombstone) and entry.is_forgotten:
        name = item.external_id.replace("sha256:", "~")
        return (item.source_type, item.directory) == (source_type, revision_directory(name, item.revision))
    try:
        directory = revision_directory(encode_external_id(item.external_id), item.revision)
    except TerminalError:
        return False
    return (item.source_type, item.directory, item.content_sha256) == (source_type, directory, content_sha256(item.artifacts))


def _verify_files(fd: int, path: str, directory: str, item: BronzeItem, mode: int) -> Iterator[Problem]:
    if mode & _WRITE_BITS:
        yield _problem("permission", path, "may be written", f"Run: chmod a-w '{path}' in the bronze folder.")
    item_fd = os.open(directory, FOLDER | os.O_NOFOLLOW, dir_fd=fd)
    try:
        present = set(list_names(item_fd))
        artifacts = {artifact.name: artifact for artifact in item.artifacts}
        for name in sorted(present | artifacts.keys()):
            artifact = artifacts.get(name)
            if artifact is None and name != ITEM_FILE:
                yield _problem("extra", f"{path}/{name}", "was not published", _REMOVE)
            elif name not in present:
                yield _problem("missing", f"{path}/{name}", "is missing", _RESTORE)
            else:
                yield from _verify_file(item_fd, f"{path}/{name}", name, artifact)
    finally:
        os.close(item_fd)


def _verify_file(item_fd: int, path: str, name: str, artifact: Artifact | None) -> Iterator[Problem]:
    status = os.stat(name, dir_fd=item_fd, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        yield _problem("changed", path, "is no longer a regular file", _RESTORE)
        return
    if status.st_mode & _WRITE_BITS:
        yield _problem("permission", path, "may be written", f"Run: chmod a-w '{path}' in the bronze folder.")
    if artifact is None:
        return
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=item_fd)
    with os.fdopen(fd, "rb", buffering=0) as file:
        digest = file_digest(file, "sha256").hexdigest()
    if (status.st_size, digest) != (artifact.bytes, artifact.sha256):
        yield _problem("changed", path, f"has sha256 {digest[:12]}…, published was {artifact.sha256[:12]}…", _RESTORE)
