"""The landing folder, looked at: which dropped files are complete, and which can never be taken and why.

Reads names and stats, never contents, so that a sensor can afford it at every tick. Taking files is
`fetch.py`'s.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from medallion_defs.bronze.fetching.copying import FileState
from medallion_defs.bronze.fetching.fetch_time import has_rested
from medallion_defs.bronze.fetching.report import LeftFile
from medallion_defs.core.sections import LandingSettings
from medallion_defs.storage.local.disk import explain_os_error
from medallion_defs.storage.naming import InvalidExternalIdError, encode_external_id

DONE_SUFFIX = ".done"
_IN_PROGRESS = (".part", ".tmp")


@dataclass(frozen=True, slots=True)
class LandingFile:
    """A complete file. `external_id` is its path below the source's landing folder; `state` says whether it is still the one seen."""

    external_id: str
    state: FileState

    @property
    def bytes(self) -> int:
        return self.state.bytes


@dataclass(frozen=True, slots=True)
class LandingScan:
    """What lay in a source's landing folder.

    Attributes:
        ready: complete files, oldest first (by mtime, then name): a later file wins over an earlier one.
        refused: files that no wait will make takeable; somebody must act.
    """

    ready: tuple[LandingFile, ...]
    refused: tuple[LeftFile, ...]


def scan_landing(landing_path: Path, source: str, landing: LandingSettings, now: datetime) -> LandingScan:
    """Look at every file of `landing_path/{source}`, sub-folders included.

    Names that start with a dot, and `*.part` and `*.tmp`, belong to somebody who is still writing and are not
    looked at. A folder that does not exist holds no files.

    Raises:
        TransientError: the folder cannot be read.
    """
    folder = landing_path / source
    ready: list[LandingFile] = []
    refused: list[LeftFile] = []
    try:
        for found in _scan_tree(str(folder), landing, now.timestamp()):
            if isinstance(found, LandingFile):
                ready.append(found)
            else:
                refused.append(found)
    except FileNotFoundError:
        return LandingScan((), ())
    except OSError as error:
        raise explain_os_error(error, str(folder)) from error
    ready.sort(key=lambda file: (file.state.mtime_ns, file.external_id))
    return LandingScan(tuple(ready), tuple(sorted(refused, key=lambda left: left.name)))


def landing_fingerprint(landing_path: Path, source: str, landing: LandingSettings, now: datetime) -> str | None:
    """Return a hash that changes when a fetch would have something new to take or to refuse; None when there is nothing.

    It goes over names, sizes, times and inodes: the same file dropped a second time gives another hash.
    """
    return fingerprint_of(scan_landing(landing_path, source, landing, now))


def fingerprint_of(scan: LandingScan) -> str | None:
    """Return the hash of what a scan found, as `landing_fingerprint` does."""
    return sha256(repr(scan).encode()).hexdigest() if scan.ready or scan.refused else None


def _scan_tree(folder: str, landing: LandingSettings, now: float) -> Iterator[LandingFile | LeftFile]:
    prefixes = [""]
    while prefixes:
        prefix = prefixes.pop()
        try:
            statuses = _read_folder(f"{folder}/{prefix}")
        except OSError as error:
            if not prefix:
                raise
            if not isinstance(error, FileNotFoundError):  # else: taken away since we saw its name
                yield LeftFile(prefix, f"the folder cannot be read: {error.strerror}")
            continue
        for name, status in statuses.items():
            external_id = prefix + name
            if stat.S_ISDIR(status.st_mode) and not _wrong_name(external_id):
                prefixes.append(f"{external_id}/")
            elif not (landing.done_marker and name.endswith(DONE_SUFFIX)):
                yield from _judge(external_id, status, statuses.get(name + DONE_SUFFIX), landing, now)


def _judge(
    external_id: str, status: os.stat_result, marker: os.stat_result | None, landing: LandingSettings, now: float
) -> Iterator[LandingFile | LeftFile]:
    """Yield what a file is, or nothing while somebody may still be writing it."""
    reason = _refusal(external_id, status, marker if landing.done_marker else None)
    if reason:
        yield LeftFile(_printable(external_id), reason)
    elif marker if landing.done_marker else has_rested(_changed_at(status, now), now, landing.settle_seconds):
        yield LandingFile(external_id, FileState.of(status))


def _read_folder(path: str) -> dict[str, os.stat_result]:
    statuses = {}
    with os.scandir(path) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and not entry.name.endswith(_IN_PROGRESS):
                try:
                    statuses[entry.name] = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # taken away since we saw its name
    return statuses


def _refusal(external_id: str, status: os.stat_result, marker: os.stat_result | None) -> str | None:
    """Return why a file can never be taken as it is, or None."""
    wrong = _wrong_name(external_id)
    if wrong:
        return wrong
    if stat.S_ISLNK(status.st_mode):
        return "it is a symbolic link; put the file itself here"
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file; remove it"
    if marker and marker.st_mtime_ns < status.st_mtime_ns:
        return f"it changed after its {DONE_SUFFIX} marker was written; write the marker again"
    return None


def _wrong_name(external_id: str) -> str | None:
    if "\n" in external_id or "\r" in external_id:
        return "its name contains a line break; rename it"
    try:
        encode_external_id(external_id)
    except InvalidExternalIdError as error:
        return str(error)
    return None


def _changed_at(status: os.stat_result, now: float) -> float:
    """Return when a file changed last. A copy may carry an mtime of the future; then its ctime tells."""
    return status.st_mtime if status.st_mtime <= now else status.st_ctime


def _printable(name: str) -> str:
    """Return a name that any database and terminal takes: bytes that are not UTF-8 become `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
