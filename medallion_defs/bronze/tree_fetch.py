"""Taking pages out of somebody else's trees into bronze: label and image are one item, copied group by group.

The trees are left as they are, so what was taken is remembered by size and times, and only what changed is read again. The memory
saves work and decides nothing: without it every page is read, and bronze recognises the bytes.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import msgspec

from medallion_defs.bronze.contract import TreeScope
from medallion_defs.bronze.disk import FOLDER, disk_errors
from medallion_defs.bronze.encoding import InvalidExternalIdError
from medallion_defs.bronze.fetch_time import FetchTime, has_rested
from medallion_defs.bronze.folder import facts_of
from medallion_defs.bronze.landing import LeftFile
from medallion_defs.bronze.landing_fetch import FileRefusedError, FileUnsettledError, groups_of
from medallion_defs.bronze.memory import read_memory, write_memory
from medallion_defs.bronze.store import BronzeStore, DamagedItemError, ForgottenItemError, Group, NewArtifact, NewItem
from medallion_defs.bronze.tree import FileState, TreePage, scan_tree
from medallion_defs.core.content import Source
from medallion_defs.core.errors import MedallionError, describe_unexpected
from medallion_defs.core.timing import Timer
from medallion_defs.ops.item import BronzeItem
from medallion_defs.ops.tombstone import Tombstone, hashed_id

MEMORY_FOLDER = ".tree"
LABEL_NAME = "label.json"
MAX_LABEL_BYTES = 4 * 1024**2  # a label describes one page; the row holds it parsed
_CHUNK_BYTES = 1024**2
_LISTED = 200

Register = Callable[[Sequence[BronzeItem], Sequence[LeftFile]], None]


@dataclass
class TreeReport:
    """What one fetch of a tree did: counts, and the first 200 of each kind.

    Attributes:
        published: new items and new revisions.
        unchanged: pages whose bytes bronze had already, whether or not they were read again.
        refused: what stays until somebody acts.
        waiting: pages that changed just now; the next fetch looks again.
        removed: pages whose bytes bronze had until a policy removed them; they were not taken again.
        read: pages that were read.
    """

    published: int = 0
    unchanged: int = 0
    refused: int = 0
    waiting: int = 0
    removed: int = 0
    read: int = 0
    bytes: int = 0
    seconds: float = 0.0
    items: list[BronzeItem] = field(default_factory=list)
    left: list[LeftFile] = field(default_factory=list)


@dataclass(frozen=True)
class TreeMemory:
    """Where a source's memory is. `waiting_path` exists while pages wait: nothing else would tell the sensor to look again."""

    folder: Path
    source: str

    @property
    def path(self) -> Path:
        return self.folder / f"{self.source}.json"

    @property
    def waiting_path(self) -> Path:
        return self.folder / f"{self.source}.waiting"


class _Remembered(msgspec.Struct, frozen=True, array_like=True):
    """A page as it was when it was copied, and what bronze made of it."""

    label: FileState
    image_name: str
    image: FileState
    content_sha256: str

    def is_of(self, page: TreePage) -> bool:
        return (self.label, self.image_name, self.image) == (page.label, page.image_name, page.image)


def fetch_tree(
    store: BronzeStore,
    source: Source,
    scope: TreeScope,
    memory: TreeMemory,
    register: Register,
    *,
    time: FetchTime,
    settle_seconds: float,
    run_id: str | None = None,
    rehash: bool = False,
) -> TreeReport:
    """Publish every wanted page that is new or has changed; tell `register` of each group once it is durable.

    Args:
        time: now. Each further page of the call counts one microsecond more.
        settle_seconds: a page is complete when label and image have rested this long.
        rehash: read every page, also those whose size and times are as remembered.

    Raises:
        TransientError, ConfigurationError: bronze or a tree cannot be read or written. What was published stays published.
    """
    timer = Timer()
    known = {} if rehash else read_memory(memory.path, _Remembered)
    fetch = _Fetch(store, source, scope, register, time, run_id, settle_seconds, known)
    try:
        fetch.run()
    finally:
        # Also after a failure: what the groups before it published need not be read again.
        _write_memory(memory, known | fetch.remembered if fetch.is_stopped else fetch.remembered, is_waiting=fetch.report.waiting > 0)
    fetch.report.seconds = timer.seconds
    return fetch.report


@dataclass
class _Fetch:
    """One call of `fetch_tree`: where it works, and what it has done so far."""

    store: BronzeStore
    source: Source
    scope: TreeScope
    register: Register
    time: FetchTime
    run_id: str | None
    settle_seconds: float
    known: dict[str, _Remembered]
    remembered: dict[str, _Remembered] = field(default_factory=dict)
    report: TreeReport = field(default_factory=TreeReport)
    is_stopped: bool = True

    def run(self) -> None:
        refused: list[LeftFile] = []
        for group in groups_of(self._news(refused)):
            self._publish(group, refused)
            refused.clear()
        self.register([], self._noted(refused))
        self.is_stopped = False

    def _news(self, refused: list[LeftFile]) -> Iterator[TreePage]:
        """Yield the pages to read; count the others."""
        for found in scan_tree(self.scope):
            if isinstance(found, LeftFile):
                refused.append(found)
            elif not self._has_rested(found):
                self._wait(found, "it changed just now")
            elif not self._is_known(found):
                yield found

    def _has_rested(self, page: TreePage) -> bool:
        now = self.time.now.timestamp()
        return all(has_rested(file.changed_at, now, self.settle_seconds) for file in (page.label, page.image))

    def _is_known(self, page: TreePage) -> bool:
        before = self.known.get(page.external_id)
        if before is None or not before.is_of(page):
            return False
        # Bronze is asked too: it may have been restored or emptied since, and then the page is news again.
        current = self.store.current(self.source.name, page.external_id)
        if current is None or facts_of(current).content_sha256 != before.content_sha256:
            return False
        self.remembered[page.external_id] = before
        self._count(facts_of(current), current if isinstance(current, Tombstone) else None, is_new=False)
        return True

    def _publish(self, pages: Sequence[TreePage], refused: list[LeftFile]) -> None:
        staged = []
        with self.store.group(self.source.name) as group:
            for page in pages:
                if self._stage(group, page, refused):
                    staged.append(page)
            publications = group.publish()
        for page, publication in zip(staged, publications, strict=True):
            self.remembered[page.external_id] = _Remembered(page.label, page.image_name, page.image, publication.item.content_sha256)
            self._count(publication.item, publication.tombstone, is_new=publication.is_new)
        self.register([publication.item for publication in publications if publication.is_new], self._noted(refused))

    def _stage(self, group: Group, page: TreePage, refused: list[LeftFile]) -> bool:
        self.report.read += 1
        try:
            group.stage(self._new_item(page))
        except (FileRefusedError, InvalidExternalIdError, DamagedItemError) as error:
            refused.append(LeftFile(page.external_id, str(error)))
        except ForgottenItemError as error:
            # By its hash: the name is what was forgotten, and a report ends up in logs and in the ledger.
            refused.append(LeftFile(hashed_id(self.source.name, page.external_id), str(error)))
        except FileUnsettledError as error:
            self._wait(page, str(error))
        except MedallionError:
            raise  # of no page: the disk
        except Exception as error:  # noqa: BLE001 - whatever one page makes the code raise, the others are taken
            refused.append(LeftFile(page.external_id, describe_unexpected(error)))
        else:
            return True
        return False

    def _new_item(self, page: TreePage) -> NewItem:
        label = b"".join(_read(self.scope.labels_path, page.folder, page.label_name, page.label, "the label"))
        _check_label(label)
        _, _, extension = page.image_name.rpartition(".")
        image = _read(self.scope.images_path, page.folder, page.image_name, page.image, "the image")
        return NewItem(
            external_id=page.external_id,
            filename=f"{page.folder}/{page.label_name}",
            origin=f"{self.scope.labels_path.name}/{page.folder}/{page.label_name}",
            fetched_at=self.time.at + timedelta(microseconds=self.report.read - 1),
            artifacts=(NewArtifact(LABEL_NAME, label), NewArtifact(f"image.{extension.lower()}", image)),
            run_id=self.run_id,
            note=self.time.note,
        )

    def _count(self, item: BronzeItem, tombstone: Tombstone | None, *, is_new: bool) -> None:
        report = self.report
        if tombstone:
            report.removed += 1
            self._list(LeftFile(item.external_id, f"{item.path} had the same bytes and was {tombstone.sentence}"))
        elif is_new:
            report.published, report.bytes = report.published + 1, report.bytes + item.bytes
            if len(report.items) < _LISTED:
                report.items.append(item)
        else:
            report.unchanged += 1

    def _noted(self, refused: Iterable[LeftFile]) -> list[LeftFile]:
        noted = list(refused)
        self.report.refused += len(noted)
        for left in noted:
            self._list(left)
        return noted

    def _wait(self, page: TreePage, why: str) -> None:
        self.report.waiting += 1
        self._list(LeftFile(page.external_id, why))

    def _list(self, left: LeftFile) -> None:
        if len(self.report.left) < _LISTED:
            self.report.left.append(left)


def _check_label(label: bytes) -> None:
    try:
        parsed = msgspec.json.decode(label)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FileRefusedError(f"its label is no JSON: {error}; repair it") from error
    if not isinstance(parsed, dict):
        raise FileRefusedError("its label is JSON but no object; repair it")


def _read(root: Path, folder: str, name: str, state: FileState, what: str) -> Iterator[bytes]:
    """Yield the bytes of a file that stays as it was seen from before the first byte to after the last; no step through a symlink."""
    if state.bytes == 0:
        raise FileRefusedError(f"{what} is empty; put it there whole")
    if name.endswith(".json") and state.bytes > MAX_LABEL_BYTES:
        raise FileRefusedError(f"{what} has more than {MAX_LABEL_BYTES:,} bytes; a label describes one page")
    try:
        fd = _open_below(root, folder, name)
        try:
            _check_same(os.fstat(fd), state, what)
            left = state.bytes + 1  # one more than there should be: a file that grows as fast as we read must not hold us
            while chunk := os.read(fd, min(left, _CHUNK_BYTES)):
                left -= len(chunk)
                yield chunk
            _check_same(os.fstat(fd), state, what)
        finally:
            os.close(fd)
    except FileNotFoundError as error:
        raise FileUnsettledError(f"{what} vanished before it was copied") from error
    except PermissionError as error:
        raise FileRefusedError(f"this process's user may not read {what}; give it the right") from error
    except OSError as error:
        raise FileRefusedError(f"{what} cannot be read: {error.strerror}") from error


def _open_below(root: Path, folder: str, name: str) -> int:
    fd = os.open(root, FOLDER)
    try:
        for step in folder.split("/"):
            parent_fd, fd = fd, os.open(step, FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            os.close(parent_fd)
        # O_NONBLOCK: a FIFO that took the file's place must not hang us.
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    finally:
        os.close(fd)


def _check_same(status: os.stat_result, state: FileState, what: str) -> None:
    if FileState(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino) != state:
        raise FileUnsettledError(f"{what} changed while it was copied")


def _write_memory(memory: TreeMemory, remembered: dict[str, _Remembered], *, is_waiting: bool) -> None:
    write_memory(memory.path, remembered)
    with disk_errors(str(memory.path)):
        if is_waiting:
            memory.waiting_path.touch()
        else:
            memory.waiting_path.unlink(missing_ok=True)
