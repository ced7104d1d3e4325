"""The bronze store on a local file system: stage, one sync per group, rename into place, index lines.

The order of the steps is what survives a crash or a power cut: items are durable before they are visible, visible
before they are in the index, and what a group means to append is written down before its first rename, so that the
next publisher finishes or removes what a dead one left (`recovery.py`). All under the lock of the source type.
"""

import fcntl
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from math import ceil
from pathlib import Path
from secrets import token_hex

from medallion_defs.core.errors import TerminalError
from medallion_defs.storage.item import ITEM_FILE, STAGING_FOLDER, Artifact, BronzeItem, content_sha256, encode_item
from medallion_defs.storage.local import index
from medallion_defs.storage.local.disk import (
    CREATE,
    FOLDER,
    READ_ONLY,
    READ_ONLY_FOLDER,
    disk_errors,
    find_syncfs,
    list_names,
    make_folder,
    sync_file,
    sync_file_system,
    write_all,
)
from medallion_defs.storage.local.folder import SourceFolder, current_entry, exists, item_directories, parse_entry, read_item_line
from medallion_defs.storage.local.recovery import INTENT_FILE, find_strays, recover, remove_leftover, replace_index
from medallion_defs.storage.local.removal import forget_subject, remove_items
from medallion_defs.storage.local.verify import describe_strays, index_directory, verify_entries, verify_items
from medallion_defs.storage.naming import encode_external_id, media_type, revision_directory
from medallion_defs.storage.publishing import ForgottenItemError, NewArtifact, NewItem, Problem, Publication, Removal
from medallion_defs.storage.tombstone import Entry, Tombstone, facts_of, forgotten_directory

_SOURCE_TYPE = re.compile(r"[a-z][a-z0-9_]{0,99}")
_ARTIFACT = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")


class LocalStore:
    """A `BronzeStore` below one folder (`data/bronze`).

    Without `group_sync` every file is synced by itself: many times slower, and the default only where there is no
    syncfs(2) that reports errors (macOS, Linux before 5.8).
    """

    def __init__(self, root: Path, *, group_sync: bool | None = None) -> None:
        self.root = str(root.absolute())
        self._group_sync = find_syncfs() is not None if group_sync is None else group_sync

    @contextmanager
    def group(self, source_type: str) -> Iterator["LocalGroup"]:
        with self._locked(source_type) as folder, ExitStack() as open_fds:
            with disk_errors(folder.path):
                recover(folder)
                name = token_hex(8)
                os.mkdir(name, dir_fd=folder.staging_fd)
                staging_fd = os.open(name, FOLDER, dir_fd=folder.staging_fd)
                open_fds.callback(os.close, staging_fd)
            yield LocalGroup(folder, staging_fd, group_sync=self._group_sync)
            with disk_errors(folder.path):
                remove_leftover(folder, name)

    def current(self, source_type: str, external_id: str) -> Entry | None:
        path, name = self._folder_path(source_type), encode_external_id(external_id)
        with disk_errors(path):
            try:
                fd = os.open(path, FOLDER)
            except FileNotFoundError:
                return None
            try:
                return current_entry(fd, path, name)
            finally:
                os.close(fd)

    def source_types(self) -> list[str]:
        with disk_errors(self.root):
            try:
                names = [entry.name for entry in Path(self.root).iterdir()]
            except FileNotFoundError:
                return []
        return sorted(name for name in names if _SOURCE_TYPE.fullmatch(name))

    def reindex(self, source_type: str) -> int:
        with self._locked(source_type) as folder, disk_errors(folder.path):
            entries = []
            for directory in item_directories(folder.fd):
                line = read_item_line(folder.fd, folder.path, directory)
                entries.append((facts_of(parse_entry(line, folder.path, directory)).fetched_at, directory, line))
            replace_index(folder, [line for _, _, line in sorted(entries)])
        return len(entries)

    def remove(self, source_type: str, directories: Sequence[str], at: datetime, by: str) -> Removal:
        with self._locked(source_type) as folder, disk_errors(folder.path):
            recover(folder)
            return remove_items(folder, directories, at, by)

    def forget(self, source_type: str, external_id: str, at: datetime) -> list[Tombstone]:
        with self._locked(source_type) as folder, disk_errors(folder.path):
            recover(folder)  # what a dead publisher left in staging may be of this id
            return forget_subject(folder, external_id, at)

    def verify(self, source_type: str) -> Iterator[Problem]:
        with self._locked(source_type) as folder, disk_errors(folder.path):
            names, lines, strays = list_names(folder.fd), list(index.read_lines(folder.fd)), find_strays(folder.staging_fd)
        yield from describe_strays(source_type, strays)
        yield from verify_items(self.root, source_type, names, lines)

    def verify_slice(self, source_type: str, after: str, share: float) -> Iterator[tuple[str, list[Problem]]]:
        """Yield, in order of names, the next items after the directory `after`, with what is wrong with each.

        As many as `share` of all items are, and at least one where there is one.
        """
        with self._locked(source_type) as folder, disk_errors(folder.path):
            names = sorted(item_directories(folder.fd))
            wanted = [name for name in names if name > after][: max(1, ceil(len(names) * share))]
            chosen = set(wanted)
            lines = [line for line in index.read_lines(folder.fd) if index_directory(line) in chosen]
        return verify_entries(self.root, source_type, wanted, lines)

    @contextmanager
    def _locked(self, source_type: str) -> Iterator[SourceFolder]:
        path, staging = self._folder_path(source_type), f"{self.root}/{STAGING_FOLDER}/{source_type}"
        with ExitStack() as open_fds:

            def open_fd(path: str, flags: int) -> int:
                fd = os.open(path, flags, 0o644)
                open_fds.callback(os.close, fd)
                return fd

            with disk_errors(path):
                make_folder(Path(staging))
                # A dead process holds no lock: whoever has it knows that nobody living owns what lies in staging.
                fcntl.flock(open_fd(f"{staging}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC), fcntl.LOCK_EX)
                make_folder(Path(path))
                folder = SourceFolder(source_type, path, open_fd(path, FOLDER), open_fd(staging, FOLDER))
            yield folder

    def _folder_path(self, source_type: str) -> str:
        if not _SOURCE_TYPE.fullmatch(source_type):
            raise TerminalError(f"Source type {source_type!r} is not a plain name. Use lower-case letters, digits and '_'.")
        return f"{self.root}/{source_type}"


class LocalGroup:
    """A `Group` in one staging folder. The hot path: no pathlib, every call relative to an open folder."""

    def __init__(self, folder: SourceFolder, staging_fd: int, *, group_sync: bool) -> None:
        self._folder = folder
        self._staging_fd = staging_fd  # opened before the first write, so that its syncfs sees every failure
        self._group_sync = group_sync
        self._places = 0
        self._staged: list[tuple[str, BronzeItem, bytes]] = []
        self._newest: dict[str, Entry] = {}
        self._publications: list[Publication] = []

    def stage(self, new: NewItem) -> None:
        name = encode_external_id(new.external_id)
        _check(new)
        with disk_errors(self._folder.path):
            self._refuse_forgotten(new.external_id)
            previous = self._newest.get(name) or current_entry(self._folder.fd, self._folder.path, name)
            known = facts_of(previous) if previous else None
            place, self._places = str(self._places), self._places + 1
            os.mkdir(place, dir_fd=self._staging_fd)
            artifacts = tuple([self._write_artifact(place, artifact) for artifact in new.artifacts])
            item = next_revision(self._folder.source_type, name, new, artifacts, known)
            if item is not known:
                self._seal(place, item)
        is_new = item is not known
        self._newest[name] = item if is_new or previous is None else previous
        tombstone = previous if isinstance(previous, Tombstone) and not is_new else None
        self._publications.append(Publication(item, is_new, tombstone))

    def publish(self) -> list[Publication]:
        if self._staged:
            lines = [line for _, _, line in self._staged]
            with disk_errors(self._folder.path):
                self._write(INTENT_FILE, (b"".join(lines),))
                self._sync()
                index_fd = index.open_index(self._folder.fd)
                try:
                    self._rename_all()
                    sync_file(self._folder.fd)
                    index.append_lines(index_fd, lines)
                finally:
                    os.close(index_fd)
        return self._publications

    def _refuse_forgotten(self, external_id: str) -> None:
        directory = forgotten_directory(self._folder.source_type, external_id)
        if exists(directory, self._folder.fd):
            raise ForgottenItemError(
                f"an external id with the sha256 {directory[1:]} was forgotten and is not taken again. Delete the file where it was found; "
                "data that may be kept need another name"
            )

    def _seal(self, place: str, item: BronzeItem) -> None:
        line = encode_item(item)
        self._write(f"{place}/{ITEM_FILE}", (line,))
        if not self._group_sync:
            self._sync_folder(place)
        self._staged.append((place, item, line))

    def _rename_all(self) -> None:
        read_only = os.fstat(self._staging_fd).st_mode & READ_ONLY_FOLDER
        for place, item, _ in self._staged:
            os.rename(place, item.directory, src_dir_fd=self._staging_fd, dst_dir_fd=self._folder.fd)
            # Only now: moving a directory that one may not write is refused to everybody but root.
            os.chmod(item.directory, read_only, dir_fd=self._folder.fd)

    def _sync(self) -> None:
        if self._group_sync:
            sync_file_system(self._staging_fd)
        else:
            sync_file(self._staging_fd)

    def _sync_folder(self, place: str) -> None:
        fd = os.open(place, FOLDER, dir_fd=self._staging_fd)
        try:
            sync_file(fd)
        finally:
            os.close(fd)

    def _write_artifact(self, place: str, new: NewArtifact) -> Artifact:
        chunks = (new.content,) if isinstance(new.content, bytes) else new.content
        size, digest = self._write(f"{place}/{new.name}", chunks)
        return Artifact(new.name, media_type(new.name), size, digest)

    def _write(self, path: str, chunks: Iterable[bytes]) -> tuple[int, str]:
        size, digest = 0, sha256()
        fd = os.open(path, CREATE, READ_ONLY, dir_fd=self._staging_fd)
        try:
            for chunk in chunks:
                write_all(fd, chunk)
                digest.update(chunk)
                size += len(chunk)
            if not self._group_sync:
                sync_file(fd)
        finally:
            os.close(fd)
        return size, digest.hexdigest()


def next_revision(source_type: str, name: str, new: NewItem, artifacts: tuple[Artifact, ...], previous: BronzeItem | None) -> BronzeItem:
    """Return the item that these artifacts make after `previous`, or `previous` itself when they are the same.

    A revision is always younger than the one before it, also when the clock went back: silver takes the younger one.
    """
    content = content_sha256(artifacts)
    if previous is not None and previous.content_sha256 == content:
        return previous
    revision = previous.revision + 1 if previous else 1
    return BronzeItem(
        source_type=source_type,
        external_id=new.external_id,
        revision=revision,
        directory=revision_directory(name, revision),
        filename=new.filename,
        origin=new.origin,
        fetched_at=max(new.fetched_at, previous.fetched_at + timedelta(microseconds=1)) if previous else new.fetched_at,
        content_sha256=content,
        artifacts=artifacts,
        run_id=new.run_id,
        from_date=new.from_date,
        to_date=new.to_date,
        note=new.note,
    )


def _check(new: NewItem) -> None:
    names: Sequence[str] = [artifact.name for artifact in new.artifacts]
    if not names or len(set(names)) < len(names) or not all(map(_ARTIFACT.fullmatch, names)):
        raise TerminalError(
            f"Item {new.external_id!r} has the artifacts {names}. It needs at least one, each with its own name of [a-z0-9._-]."
        )
    if new.fetched_at.tzinfo is None:
        raise TerminalError(f"Item {new.external_id!r} has a fetched_at without a time zone. Take it from core.clock.now().")
