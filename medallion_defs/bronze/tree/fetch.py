"""Taking labelled images out of another's trees into bronze: label and image are one item, copied group by group.

The trees are left as they are, so what was taken is remembered by size and times, and only what changed is read again. The fetch state
saves work and decides nothing: without it every file is read, and bronze recognises the bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

from medallion_defs.bronze.contract import TreeScope
from medallion_defs.bronze.fetching.copying import FileRefusedError, FileState, read_unchanged
from medallion_defs.bronze.fetching.fetch_state import read_fetch_state, write_fetch_state
from medallion_defs.bronze.fetching.fetch_time import FetchTime, has_rested
from medallion_defs.bronze.fetching.report import FetchReport, LeftFile
from medallion_defs.bronze.fetching.taking import Register, Taking, groups_of
from medallion_defs.bronze.tree.scan import LabelledImage, scan_tree
from medallion_defs.core.content import Source
from medallion_defs.core.timing import Timer
from medallion_defs.storage.local.disk import disk_errors
from medallion_defs.storage.publishing import BronzeStore, NewArtifact, NewItem

STATE_FOLDER = ".tree"
LABEL_NAME = "label.json"
MAX_LABEL_BYTES = 4 * 1024**2  # the row of the item holds it parsed


@dataclass(frozen=True)
class TreeState:
    """Where the fetch state of a source is. `waiting_path` exists while items wait: nothing else would tell the sensor to look again."""

    folder: Path
    source: str

    @property
    def path(self) -> Path:
        return self.folder / f"{self.source}.json"

    @property
    def waiting_path(self) -> Path:
        return self.folder / f"{self.source}.waiting"


class _Seen(msgspec.Struct, frozen=True, array_like=True):
    """A label and its image as they were when they were copied, and what bronze made of them."""

    label: FileState
    image_name: str
    image: FileState
    content_sha256: str

    def is_of(self, pair: LabelledImage) -> bool:
        return (self.label, self.image_name, self.image) == (pair.label, pair.image_name, pair.image)


def fetch_tree(
    store: BronzeStore,
    source: Source,
    scope: TreeScope,
    state: TreeState,
    register: Register,
    *,
    time: FetchTime,
    settle_seconds: float,
    run_id: str | None = None,
    rehash: bool = False,
) -> FetchReport:
    """Publish every wanted label and image that are new or have changed; tell `register` of each group once it is durable.

    Args:
        time: now. Each further item of the call counts one microsecond more.
        settle_seconds: an item is complete when label and image have rested this long.
        rehash: read every file, also those whose size and times are as they were.

    Raises:
        TransientError, ConfigurationError: bronze or a tree cannot be read or written. What was published stays published.
    """
    timer = Timer()
    known = {} if rehash else read_fetch_state(state.path, _Seen)
    fetch = _Fetch(store, source, scope, register, time, run_id, settle_seconds, known)
    report = fetch.taking.report
    try:
        fetch.run()
    finally:
        # Also after a failure: what the groups before it published need not be read again.
        _write_state(state, known | fetch.seen if fetch.is_stopped else fetch.seen, is_waiting=report.waiting > 0)
    report.seconds = timer.seconds
    return report


@dataclass
class _Fetch:
    """One call of `fetch_tree`: where it works, and what it has seen so far."""

    store: BronzeStore
    source: Source
    scope: TreeScope
    register: Register
    time: FetchTime
    run_id: str | None
    settle_seconds: float
    known: dict[str, _Seen]
    seen: dict[str, _Seen] = field(default_factory=dict)
    is_stopped: bool = True

    def __post_init__(self) -> None:
        self.taking: Taking[LabelledImage] = Taking(self.store, self.source.name, self._new_item, self.register, self.time)

    def run(self) -> None:
        for group in groups_of(self._news()):
            for pair, item in self.taking.publish(group):
                self.seen[pair.external_id] = _Seen(pair.label, pair.image_name, pair.image, item.content_sha256)
            self.taking.tell()
        self.taking.tell()
        self.is_stopped = False

    def _news(self) -> Iterator[LabelledImage]:
        """Yield what to read; note the others."""
        for found in scan_tree(self.scope):
            if isinstance(found, LeftFile):
                self.taking.leave(found)
            elif not self._has_rested(found):
                self.taking.leave(LeftFile(found.external_id, "it changed just now", "waiting"))
            elif not self._is_known(found):
                yield found

    def _has_rested(self, pair: LabelledImage) -> bool:
        now = self.time.now.timestamp()
        return all(has_rested(file.changed_at, now, self.settle_seconds) for file in (pair.label, pair.image))

    def _is_known(self, pair: LabelledImage) -> bool:
        before = self.known.get(pair.external_id)
        if before is None or not before.is_of(pair) or not self.taking.is_unchanged(pair, before.content_sha256):
            return False
        self.seen[pair.external_id] = before
        return True

    def _new_item(self, pair: LabelledImage, fetched_at: datetime) -> NewItem:
        scope, label_name = self.scope, f"{pair.folder}/{pair.label_name}"
        _check_size(pair.label, "the label", MAX_LABEL_BYTES)
        _check_size(pair.image, "the image")
        label = b"".join(read_unchanged(scope.labels_path, label_name, pair.label, "the label"))
        _check_label(label)
        _, _, extension = pair.image_name.rpartition(".")
        image = read_unchanged(scope.images_path, f"{pair.folder}/{pair.image_name}", pair.image, "the image")
        return NewItem(
            external_id=pair.external_id,
            filename=label_name,
            origin=f"{scope.labels_path.name}/{label_name}",
            fetched_at=fetched_at,
            artifacts=(NewArtifact(LABEL_NAME, label), NewArtifact(f"image.{extension.lower()}", image)),
            run_id=self.run_id,
            note=self.time.note,
        )


def _check_size(state: FileState, what: str, most: int | None = None) -> None:
    if state.bytes == 0:
        raise FileRefusedError(f"{what} is empty; put it there whole")
    if most is not None and state.bytes > most:
        raise FileRefusedError(f"{what} has more than {most:,} bytes; the row of the item holds it parsed")


def _check_label(label: bytes) -> None:
    try:
        parsed = msgspec.json.decode(label)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FileRefusedError(f"its label is not JSON: {error}; repair it") from error
    if not isinstance(parsed, dict):
        raise FileRefusedError("its label is JSON but not an object; repair it")


def _write_state(state: TreeState, seen: dict[str, _Seen], *, is_waiting: bool) -> None:
    write_fetch_state(state.path, seen)
    with disk_errors(str(state.path)):
        if is_waiting:
            state.waiting_path.touch()
        else:
            state.waiting_path.unlink(missing_ok=True)
