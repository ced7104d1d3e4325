"""Trees of labelled pages, looked at: which pages are there and wanted, and what of them can never be taken and why.

Reads the names of folders that are in scope, and stats labels and the images of their names; never contents. What lies beside
`{state}/{school}/{year}/{page_num}.json` is not looked into. Taking pages is `tree_fetch.py`'s.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import msgspec

from medallion_defs.bronze.contract import TreeScope
from medallion_defs.bronze.disk import explain_os_error
from medallion_defs.bronze.fetch_time import has_rested
from medallion_defs.bronze.landing import LeftFile

IMAGE_EXTENSIONS = ("png", "jpg", "jpeg", "webp")
_LABEL = re.compile(r"(\d{1,6})\.json")
_YEAR = re.compile(r"\d{4}")
_SEPARATOR = ":"
_IN_PROGRESS = (".part", ".tmp")


class FileState(msgspec.Struct, frozen=True, array_like=True):
    """What of a file says whether it is still the one that was looked at. The ctime moves with every edit, whatever the mtime is set to."""

    bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @property
    def changed_at(self) -> float:
        """Seconds since the epoch."""
        return self.ctime_ns / 1e9


@dataclass(frozen=True, slots=True)
class TreePage:
    """A label and its image. `folder` is `{state}/{school}/{year}`, in both trees; `label` and `image` are names in it."""

    folder: str
    page_num: str
    label: FileState
    image_name: str
    image: FileState

    @property
    def external_id(self) -> str:
        """The record key: `Alabama:Lincoln:1987:4`."""
        return _record_key(self.folder, self.page_num)

    @property
    def label_name(self) -> str:
        return f"{self.page_num}.json"

    @property
    def bytes(self) -> int:
        return self.label.bytes + self.image.bytes


def scan_tree(scope: TreeScope) -> Iterator[TreePage | LeftFile]:
    """Yield every wanted page, folder by folder in order of names, and what somebody must act on.

    Names that start with a dot, `*.part` and `*.tmp` belong to somebody who is still writing. An image without a label is no page.

    Raises:
        TransientError: a root cannot be read: nothing is known then, which is not the same as nothing being there.
    """
    try:
        for folder in _year_folders(str(scope.labels_path), scope):
            yield from (folder,) if isinstance(folder, LeftFile) else _scan_pages(scope, folder)
    except OSError as error:
        raise explain_os_error(error, str(scope.labels_path)) from error


def tree_fingerprint(scope: TreeScope, now: datetime, settle_seconds: float) -> str:
    """Return a hash that changes when a name appears or goes in a folder of the scope that has come to rest since.

    It costs a stat per folder, however many pages are in them. An edit in place moves no folder: the full scan finds it.

    Raises:
        TransientError: a root cannot be read.
    """
    digest = sha256(repr(scope).encode())
    try:
        for folder in _year_folders(str(scope.labels_path), scope):
            if isinstance(folder, LeftFile):
                digest.update(f"{folder}\n".encode())
                continue
            times = [_folder_time(f"{root}/{folder}") for root in (scope.labels_path, scope.images_path)]
            rested = [changed if has_rested(changed / 1e9, now.timestamp(), settle_seconds) else 0 for changed in times]
            digest.update(f"{folder}\0{rested}\n".encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise explain_os_error(error, str(scope.labels_path)) from error
    return digest.hexdigest()


def _folder_time(path: str) -> int:
    try:
        return os.lstat(path).st_mtime_ns
    except FileNotFoundError:
        return -1


def _year_folders(root: str, scope: TreeScope) -> Iterator[str | LeftFile]:
    """Yield `{state}/{school}/{year}` of the folders in scope; nothing else is opened."""
    for state in _folders(root, ""):
        if isinstance(state, LeftFile):
            yield state
        elif scope.wants_state(state):
            for school in _folders(root, state):
                yield from (school,) if isinstance(school, LeftFile) else _years_of(root, school, scope)


def _years_of(root: str, school: str, scope: TreeScope) -> Iterator[str | LeftFile]:
    for year in _folders(root, school):
        if isinstance(year, LeftFile):
            yield year
        elif not _YEAR.fullmatch(name := year.rpartition("/")[2]):
            yield LeftFile(year, "a year is a folder of four digits; rename it")
        elif scope.wants_year(int(name)):
            yield year


def _folders(root: str, prefix: str) -> Iterator[str | LeftFile]:
    """Yield the folders in `root/prefix`, in order of names, as paths below the root."""
    for entry in _entries(f"{root}/{prefix}"):
        path = f"{prefix}/{entry.name}" if prefix else entry.name
        reason = _wrong_folder(entry)
        yield LeftFile(_printable(path), reason) if reason else path


def _wrong_folder(entry: os.DirEntry[str]) -> str | None:
    if entry.is_symlink():
        return "it is a symbolic link; put the folder itself here"
    if not entry.is_dir(follow_symlinks=False):
        return "it is a file where folders are: labels are in {state}/{school}/{year}/; move or remove it"
    if _SEPARATOR in entry.name or not entry.name.isprintable():
        return f"its name holds a '{_SEPARATOR}' or a character that cannot be printed, and record keys are made of it; rename it"
    return None


def _scan_pages(scope: TreeScope, folder: str) -> Iterator[TreePage | LeftFile]:
    images: dict[str, list[os.DirEntry[str]]] | None = None
    for entry in _entries(f"{scope.labels_path}/{folder}"):
        match = _LABEL.fullmatch(entry.name)
        reason = _wrong_file(entry)
        if match is None:
            yield LeftFile(_printable(f"{folder}/{entry.name}"), "a label is {page_num}.json, with up to six digits; rename or remove it")
            continue
        if reason:
            yield LeftFile(_record_key(folder, match[1]), reason)
            continue
        if images is None:
            images = _find_images(scope.images_path, folder)
        found = _pair(folder, match[1], entry, images.get(match[1], []))
        if found:
            yield found


def _pair(folder: str, page_num: str, label: os.DirEntry[str], images: list[os.DirEntry[str]]) -> TreePage | LeftFile | None:
    name = _record_key(folder, page_num)
    if len(images) != 1:
        names = ", ".join(sorted(image.name for image in images))
        wrong = (
            f"there are several images for it ({names}); leave one" if images else "there is no image for it; put one of that name there"
        )
        return LeftFile(name, wrong)
    reason = _wrong_file(images[0])
    if reason:
        return LeftFile(name, f"its image {images[0].name}: {reason}")
    try:
        return TreePage(folder, page_num, _state(label), images[0].name, _state(images[0]))
    except FileNotFoundError:
        return None  # taken away since we saw its name


def _find_images(images_path: Path, folder: str) -> dict[str, list[os.DirEntry[str]]]:
    """Return the images of a folder by page; a folder of images that does not exist holds none."""
    found: dict[str, list[os.DirEntry[str]]] = {}
    try:
        _require_plain(images_path, folder)
        for entry in _entries(f"{images_path}/{folder}"):
            stem, _, extension = entry.name.rpartition(".")
            if extension.lower() in IMAGE_EXTENSIONS:
                found.setdefault(stem, []).append(entry)
    except FileNotFoundError:
        images_path.stat()  # the root itself must be there
    return found


def _require_plain(root: Path, folder: str) -> None:
    """Treat a folder of images behind a symbolic link as absent: what lies there may be anything."""
    path = str(root)
    for part in folder.split("/"):
        path = f"{path}/{part}"
        if stat.S_ISLNK(os.lstat(path).st_mode):
            raise FileNotFoundError(path)


def _wrong_file(entry: os.DirEntry[str]) -> str | None:
    if entry.is_symlink():
        return "it is a symbolic link; put the file itself here"
    return None if entry.is_file(follow_symlinks=False) else "it is not a regular file; remove it"


def _entries(path: str) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        kept = [entry for entry in entries if not entry.name.startswith(".") and not entry.name.endswith(_IN_PROGRESS)]
    return sorted(kept, key=lambda entry: entry.name)


def _state(entry: os.DirEntry[str]) -> FileState:
    status = entry.stat(follow_symlinks=False)
    return FileState(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _record_key(folder: str, page_num: str) -> str:
    return _SEPARATOR.join((*folder.split("/"), page_num))


def _printable(name: str) -> str:
    """Return a name that any database and terminal takes: bytes that are not UTF-8 become `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
