"""Taking complete files out of the landing folder into bronze, as copies, group by group.

A file leaves the landing folder only after its group is durable, so a crash at any point costs at most a second
copy that bronze recognises. Bronze never shares an inode with landing: a writer that still holds its file open
cannot reach what was published.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from typing import Protocol, TypeVar

import msgspec

from medallion_defs.bronze.disk import FOLDER, disk_errors
from medallion_defs.bronze.encoding import InvalidExternalIdError, artifact_name
from medallion_defs.bronze.fetch_time import FetchTime
from medallion_defs.bronze.folder import facts_of
from medallion_defs.bronze.landing import DONE_SUFFIX, LandingFile, LandingScan, LeftFile, fingerprint_of, scan_landing
from medallion_defs.bronze.memory import read_memory, write_memory
from medallion_defs.bronze.store import BronzeStore, DamagedItemError, ForgottenItemError, NewArtifact, NewItem
from medallion_defs.core.content import Source
from medallion_defs.core.errors import MedallionError, TerminalError, TransientError, describe_unexpected
from medallion_defs.core.sections import LandingSettings
from medallion_defs.core.timing import Timer
from medallion_defs.ops.item import BronzeItem
from medallion_defs.ops.tombstone import Tombstone, hashed_id

GROUP_ITEMS = 1_000  # the syncs of a group cost the same for ten items as for a thousand
GROUP_BYTES = 256 * 1024**2
TAKEN_FOLDER = ".taken"
LEFT_FOLDER = ".left"
_CHUNK_BYTES = 1024**2
_TICK = timedelta(seconds=0.1)  # file times move in steps of some ms; a younger time proves no rest


class FileRefusedError(TerminalError):
    """A landing file cannot be taken as it is."""


class FileUnsettledError(TransientError):
    """A landing file changed or went away while it was copied."""


@dataclass(frozen=True, slots=True)
class FetchReport:
    """What one fetch of a landing folder did.

    Attributes:
        published: new items and new revisions, in order of publication.
        unchanged: the current revisions of files whose bytes bronze already had.
        refused: files that stay until somebody acts.
        removed: files whose bytes bronze had until a policy removed them; they were not taken again.
        left: fingerprint of the refused files, as long as nothing else lies beside them; None: none were refused.
        waiting: files that changed or vanished while they were copied; the next fetch looks again.
        bytes: of the published items.
        seconds: of the whole call.
    """

    published: tuple[BronzeItem, ...]
    unchanged: tuple[BronzeItem, ...]
    refused: tuple[LeftFile, ...]
    waiting: tuple[LeftFile, ...]
    bytes: int
    seconds: float
    removed: tuple[LeftFile, ...] = ()
    left: str | None = None


def fetch_landing(
    store: BronzeStore,
    source: Source,
    landing: LandingSettings,
    landing_path: Path,
    *,
    time: FetchTime,
    run_id: str | None = None,
) -> FetchReport:
    """Publish every complete file of `landing_path/{source}`; move it to `.taken` or leave it, as `landing.after` says.

    `time` is now; each further file of the call counts one microsecond more, so that of two files of one call
    the one that changed last wins.

    Raises:
        TransientError, ConfigurationError: bronze or landing cannot be written. What was published stays published.
    """
    timer = Timer()
    scan = scan_landing(landing_path, source.name, landing, time.now)
    fetch = _Fetch(store, source, landing_path, time, run_id, refused=list(scan.refused))
    if landing.after == "leave":
        fetch.leave(scan.ready)
    else:
        fetch.move(scan.ready, with_marker=landing.done_marker)
    return FetchReport(
        published=tuple(fetch.published),
        unchanged=tuple(fetch.unchanged),
        refused=tuple(fetch.refused),
        waiting=tuple(fetch.waiting),
        bytes=sum(item.bytes for item in fetch.published),
        seconds=timer.seconds,
        removed=tuple(fetch.removed),
        left=fingerprint_of(LandingScan(tuple(file for file in scan.ready if file in fetch.stuck), scan.refused)),
    )


class _Remembered(msgspec.Struct, frozen=True, array_like=True):
    """A file that was left in landing, as it was when it was copied, and what bronze made of it."""

    bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    content_sha256: str

    def is_of(self, file: LandingFile) -> bool:
        return (self.bytes, self.mtime_ns, self.ctime_ns, self.inode) == (file.bytes, file.mtime_ns, file.ctime_ns, file.inode)


@dataclass
class _Fetch:
    """One call of `fetch_landing`: where it works, and what it has done so far."""

    store: BronzeStore
    source: Source
    landing_path: Path
    time: FetchTime
    run_id: str | None
    refused: list[LeftFile]
    published: list[BronzeItem] = field(default_factory=list)
    unchanged: list[BronzeItem] = field(default_factory=list)
    waiting: list[LeftFile] = field(default_factory=list)
    removed: list[LeftFile] = field(default_factory=list)
    stuck: list[LandingFile] = field(default_factory=list)
    count: int = 0

    def move(self, files: Sequence[LandingFile], *, with_marker: bool) -> None:
        """Publish the files and move each to a folder of this call below `.taken`, where no name can be in the way."""
        taken = self.landing_path / TAKEN_FOLDER / self.source.name / f"{self.time.now:%Y%m%dT%H%M%S}-{token_hex(4)}"
        for group in groups_of(files):
            for file, _ in self.publish(group):
                with disk_errors(str(self.landing_path)):
                    self._take(file, taken, with_marker=with_marker)

    def leave(self, files: Sequence[LandingFile]) -> None:
        """Publish the files that are not as remembered, and remember them all."""
        path = self.landing_path / LEFT_FOLDER / f"{self.source.name}.json"
        known = read_memory(path, _Remembered)
        remembered, unknown = {}, []
        for file in files:
            before = known.get(file.external_id)
            # Bronze is asked too: it may have been restored or emptied since, and then the file is news again.
            current = self.store.current(self.source.name, file.external_id) if before and before.is_of(file) else None
            if before and current and facts_of(current).content_sha256 == before.content_sha256:
                remembered[file.external_id] = before
                self._note(file, facts_of(current), current if isinstance(current, Tombstone) else None, is_new=False)
            else:
                unknown.append(file)
        for group in groups_of(unknown):
            for file, item in self.publish(group):
                if max(file.mtime_ns, file.ctime_ns) < (self.time.now - _TICK).timestamp() * 1e9:
                    remembered[file.external_id] = _Remembered(file.bytes, file.mtime_ns, file.ctime_ns, file.inode, item.content_sha256)
        if remembered != known:
            write_memory(path, remembered)

    def publish(self, files: Sequence[LandingFile]) -> list[tuple[LandingFile, BronzeItem]]:
        """Copy one group into bronze; return the files that are in bronze now with their items."""
        staged = []
        with self.store.group(self.source.name) as group:
            for file in files:
                try:
                    group.stage(self._new_item(file))
                    staged.append(file)
                except (FileRefusedError, InvalidExternalIdError, DamagedItemError) as error:
                    self._refuse(file, LeftFile(file.external_id, str(error)))
                except ForgottenItemError as error:
                    # By its hash: the name is what was forgotten, and a report ends up in logs and in the ledger.
                    self._refuse(file, LeftFile(hashed_id(self.source.name, file.external_id), str(error)))
                except FileUnsettledError as error:
                    self.waiting.append(LeftFile(file.external_id, str(error)))
                except MedallionError:
                    raise  # of no file: the disk
                except Exception as error:  # noqa: BLE001 - whatever one file makes the code raise, the others are taken
                    self._refuse(file, LeftFile(file.external_id, describe_unexpected(error)))
            publications = group.publish()
        answers = list(zip(staged, publications, strict=True))
        for file, publication in answers:
            self._note(file, publication.item, publication.tombstone, is_new=publication.is_new)
        return [(file, publication.item) for file, publication in answers]

    def _refuse(self, file: LandingFile, left: LeftFile) -> None:
        self.refused.append(left)
        self.stuck.append(file)

    def _note(self, file: LandingFile, item: BronzeItem, tombstone: Tombstone | None, *, is_new: bool) -> None:
        if tombstone:
            self.removed.append(LeftFile(file.external_id, f"{item.path} had the same bytes and was {tombstone.sentence}"))
        else:
            (self.published if is_new else self.unchanged).append(item)

    def _new_item(self, file: LandingFile) -> NewItem:
        fetched_at, self.count = self.time.at + timedelta(microseconds=self.count), self.count + 1
        filename = file.external_id.rpartition("/")[2]
        return NewItem(
            external_id=file.external_id,
            filename=filename,
            origin=f"{self.landing_path.name}/{self.source.name}/{file.external_id}",
            fetched_at=fetched_at,
            artifacts=(NewArtifact(artifact_name(self.source.artifact_type, filename), self._read(file)),),
            run_id=self.run_id,
            note=self.time.note,
        )

    def _read(self, file: LandingFile) -> Iterator[bytes]:
        """Yield the bytes of a file that stays as it was seen from before the first byte to after the last."""
        try:
            with self._open_parent(file) as (folder_fd, name):
                # O_NONBLOCK: a FIFO that took the file's place must not hang us.
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
            try:
                _check_same(os.fstat(fd), file)
                left = file.bytes + 1  # one more than there should be: a file that grows as fast as we read must not hold us
                while chunk := os.read(fd, min(left, _CHUNK_BYTES)):
                    left -= len(chunk)
                    yield chunk
                _check_same(os.fstat(fd), file)
            finally:
                os.close(fd)
        except FileNotFoundError as error:
            raise FileUnsettledError("it vanished before it was copied") from error
        except PermissionError as error:
            raise FileRefusedError("this process's user may not read it; give it the right") from error
        except OSError as error:
            raise FileRefusedError(f"it cannot be read: {error.strerror}") from error

    @contextmanager
    def _open_parent(self, file: LandingFile) -> Iterator[tuple[int, str]]:
        """Open the folder that holds a file, no step of the way through a symlink; yield it with the file's name."""
        *folders, name = file.external_id.split("/")
        fd = os.open(self.landing_path / self.source.name, FOLDER)
        try:
            for folder in folders:
                parent_fd, fd = fd, os.open(folder, FOLDER | os.O_NOFOLLOW, dir_fd=fd)
                os.close(parent_fd)
            yield fd, name
        finally:
            os.close(fd)

    def _take(self, file: LandingFile, taken: Path, *, with_marker: bool) -> None:
        target = taken / file.external_id
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._open_parent(file) as (folder_fd, name):
                os.rename(name, target, src_dir_fd=folder_fd)
                if not _is_same(target.lstat(), file):
                    self._put_back(file, target, folder_fd, name)
                elif with_marker:
                    # A marker that stayed would vouch for the next file of that name.
                    os.rename(name + DONE_SUFFIX, f"{target}{DONE_SUFFIX}", src_dir_fd=folder_fd)
        except FileNotFoundError:
            return  # somebody took the file or its marker away; bronze has the bytes

    def _put_back(self, file: LandingFile, target: Path, folder_fd: int, name: str) -> None:
        """Return a file that took the published one's place before we moved it: it is a delivery of its own."""
        try:
            os.link(target, name, dst_dir_fd=folder_fd, follow_symlinks=False)
        except FileExistsError:
            self.refused.append(LeftFile(file.external_id, f"a delivery that was replaced at once is in {target}; drop it again"))
            return
        target.unlink()
        self.waiting.append(LeftFile(file.external_id, "it was replaced after it was copied"))


class Sized(Protocol):
    """What is cut into groups."""

    @property
    def bytes(self) -> int: ...


S = TypeVar("S", bound=Sized)


def groups_of(files: Iterable[S]) -> Iterator[list[S]]:
    """Cut files, or pages, into groups that become durable together: at most 1,000 and 256 MiB; a larger one goes alone."""
    group: list[S] = []
    size = 0
    for file in files:
        if group and (len(group) == GROUP_ITEMS or size + file.bytes > GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(file)
        size += file.bytes
    if group:
        yield group


def _check_same(status: os.stat_result, file: LandingFile) -> None:
    if not _is_same(status, file) or status.st_ctime_ns != file.ctime_ns:
        raise FileUnsettledError("it changed while it was copied")


def _is_same(status: os.stat_result, file: LandingFile) -> bool:
    return (status.st_ino, status.st_size, status.st_mtime_ns) == (file.inode, file.bytes, file.mtime_ns)


class _Refused(msgspec.Struct, frozen=True):
    fingerprint: str


def remember_refused(landing_path: Path, source: str, fingerprint: str | None) -> None:
    """Remember what a fetch refused and left, once the ledger has it, so that it is no reason for another run.

    Raises:
        MedallionError: the disk does not take it.
    """
    path = landing_path / LEFT_FOLDER / f"{source}.refused.json"
    content = {"landing": _Refused(fingerprint)} if fingerprint else {}
    if read_memory(path, _Refused) != content:
        write_memory(path, content)


def is_refused_already(landing_path: Path, source: str, fingerprint: str) -> bool:
    """Whether all that lies in landing is what the last fetch refused.

    Raises:
        MedallionError: the disk does not give what was remembered.
    """
    found = read_memory(landing_path / LEFT_FOLDER / f"{source}.refused.json", _Refused).get("landing")
    return found is not None and found.fingerprint == fingerprint


def forget_remembered(path: Path, external_id: str) -> None:
    """Take one file out of the memory of those that were left in landing."""
    remembered = read_memory(path, _Remembered)
    if remembered.pop(external_id, None):
        write_memory(path, remembered)
