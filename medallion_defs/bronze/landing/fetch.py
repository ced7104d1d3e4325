"""Taking complete files out of the landing folder into bronze, as copies, group by group.

A file leaves the landing folder only after its group is durable, so a crash at any point costs at most a second
copy that bronze recognises. Bronze never shares an inode with landing: a writer that still holds its file open
cannot reach what was published.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from secrets import token_hex

import msgspec

from medallion_defs.bronze.fetching.copying import FileState, open_parent, read_unchanged
from medallion_defs.bronze.fetching.fetch_state import read_fetch_state, write_fetch_state
from medallion_defs.bronze.fetching.fetch_time import FetchTime
from medallion_defs.bronze.fetching.report import FetchReport, LeftFile
from medallion_defs.bronze.fetching.taking import Register, Taking, groups_of
from medallion_defs.bronze.landing.scan import DONE_SUFFIX, LandingFile, LandingScan, fingerprint_of, scan_landing
from medallion_defs.core.content import Source
from medallion_defs.core.sections import LandingSettings
from medallion_defs.core.timing import Timer
from medallion_defs.storage.local.disk import disk_errors
from medallion_defs.storage.naming import artifact_name
from medallion_defs.storage.publishing import BronzeStore, NewArtifact, NewItem

TAKEN_FOLDER = ".taken"
LEFT_FOLDER = ".left"
_TICK = timedelta(seconds=0.1)  # file times move in steps of some ms; a younger time proves no rest


class _Seen(msgspec.Struct, frozen=True, array_like=True):
    """A file that was left in landing, as it was when it was copied, and what bronze made of it."""

    state: FileState
    content_sha256: str


def fetch_landing(
    store: BronzeStore,
    source: Source,
    landing: LandingSettings,
    landing_path: Path,
    register: Register,
    *,
    time: FetchTime,
    run_id: str | None = None,
    rehash: bool = False,
) -> FetchReport:
    """Publish every complete file of `landing_path/{source}`; move it to `.taken` or leave it, as `landing.after` says.

    Args:
        register: is told of each group once it is durable.
        time: now. Each further file of the call counts one microsecond more, so that of two files of one call the one that changed
            last wins.
        rehash: read every file, also one that was left and is as it was.

    Raises:
        TransientError, ConfigurationError: bronze, landing or the ledger cannot be written. What was published stays published.
    """
    timer = Timer()
    scan = scan_landing(landing_path, source.name, landing, time.now)
    fetch = _Fetch(store, source, landing_path, register, time, run_id)
    for left in scan.refused:
        fetch.taking.leave(left)
    if landing.after == "leave":
        fetch.leave(scan.ready, rehash=rehash)
    else:
        fetch.move(scan.ready, with_marker=landing.done_marker)
    fetch.taking.tell()
    # Only now: the ledger has what was refused, so the sensor need not ask for a run because of it.
    stuck = set(fetch.taking.stuck)
    refused = LandingScan(tuple(file for file in scan.ready if file in stuck), scan.refused)
    remember_refused(landing_path, source.name, fingerprint_of(refused))
    fetch.taking.report.seconds = timer.seconds
    return fetch.taking.report


@dataclass
class _Fetch:
    """One call of `fetch_landing`."""

    store: BronzeStore
    source: Source
    landing_path: Path
    register: Register
    time: FetchTime
    run_id: str | None

    def __post_init__(self) -> None:
        self.folder = self.landing_path / self.source.name
        self.taking: Taking[LandingFile] = Taking(self.store, self.source.name, self._new_item, self.register, self.time)

    def move(self, files: Sequence[LandingFile], *, with_marker: bool) -> None:
        """Publish the files and move each to a folder of this call below `.taken`, where no name can be in the way."""
        taken = self.landing_path / TAKEN_FOLDER / self.source.name / f"{self.time.now:%Y%m%dT%H%M%S}-{token_hex(4)}"
        for group in groups_of(files):
            for file, _ in self.taking.publish(group):
                with disk_errors(str(self.landing_path)):
                    self._take(file, taken, with_marker=with_marker)
            self.taking.tell()

    def leave(self, files: Sequence[LandingFile], *, rehash: bool) -> None:
        """Publish the files that are not as they were seen before."""
        path = self.landing_path / LEFT_FOLDER / f"{self.source.name}.json"
        known = read_fetch_state(path, _Seen)
        seen, news = {}, []
        for file in files:
            before = None if rehash else known.get(file.external_id)
            if before and before.state == file.state and self.taking.is_unchanged(file, before.content_sha256):
                seen[file.external_id] = before
            else:
                news.append(file)
        for group in groups_of(news):
            for file, item in self.taking.publish(group):
                if max(file.state.mtime_ns, file.state.ctime_ns) < (self.time.now - _TICK).timestamp() * 1e9:
                    seen[file.external_id] = _Seen(file.state, item.content_sha256)
            self.taking.tell()
        if seen != known:
            write_fetch_state(path, seen)

    def _new_item(self, file: LandingFile, fetched_at: datetime) -> NewItem:
        filename = file.external_id.rpartition("/")[2]
        content = read_unchanged(self.folder, file.external_id, file.state, "it")
        return NewItem(
            external_id=file.external_id,
            filename=filename,
            origin=f"{self.landing_path.name}/{self.source.name}/{file.external_id}",
            fetched_at=fetched_at,
            artifacts=(NewArtifact(artifact_name(self.source.artifact_type, filename), content),),
            run_id=self.run_id,
            note=self.time.note,
        )

    def _take(self, file: LandingFile, taken: Path, *, with_marker: bool) -> None:
        target = taken / file.external_id
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open_parent(self.folder, file.external_id) as (folder_fd, name):
                os.rename(name, target, src_dir_fd=folder_fd)
                if not _is_same(target.lstat(), file.state):
                    self._put_back(file, target, folder_fd, name)
                    return
                self.taking.report.moved += 1
                if with_marker:
                    # A marker that stayed would vouch for the next file of that name.
                    os.rename(name + DONE_SUFFIX, f"{target}{DONE_SUFFIX}", src_dir_fd=folder_fd)
        except FileNotFoundError:
            return  # the file or its marker was taken away; bronze has the bytes

    def _put_back(self, file: LandingFile, target: Path, folder_fd: int, name: str) -> None:
        """Return a file that took the published one's place before we moved it: it is a delivery of its own."""
        try:
            os.link(target, name, dst_dir_fd=folder_fd, follow_symlinks=False)
        except FileExistsError:
            self.taking.leave(LeftFile(file.external_id, f"a delivery that was replaced at once is in {target}; drop it again"))
            return
        target.unlink()
        self.taking.leave(LeftFile(file.external_id, "it was replaced after it was copied", "waiting"))


def _is_same(status: os.stat_result, state: FileState) -> bool:
    # Without the ctime: the move itself has changed it.
    return (status.st_ino, status.st_size, status.st_mtime_ns) == (state.inode, state.bytes, state.mtime_ns)


class _Refused(msgspec.Struct, frozen=True):
    fingerprint: str


def remember_refused(landing_path: Path, source: str, fingerprint: str | None) -> None:
    """Remember what a fetch refused and left (None: nothing), once the ledger has it.

    Raises:
        MedallionError: the disk does not take it.
    """
    path = landing_path / LEFT_FOLDER / f"{source}.refused.json"
    content = {"landing": _Refused(fingerprint)} if fingerprint else {}
    if read_fetch_state(path, _Refused) != content:
        write_fetch_state(path, content)


def is_refused_already(landing_path: Path, source: str, fingerprint: str) -> bool:
    """Whether all that lies in landing is what the last fetch refused.

    Raises:
        MedallionError: the disk does not give what was remembered.
    """
    found = read_fetch_state(landing_path / LEFT_FOLDER / f"{source}.refused.json", _Refused).get("landing")
    return found is not None and found.fingerprint == fingerprint


def forget_seen(path: Path, external_id: str) -> None:
    """Take one file out of what is remembered of those that were left in landing."""
    seen = read_fetch_state(path, _Seen)
    if seen.pop(external_id, None):
        write_fetch_state(path, seen)
