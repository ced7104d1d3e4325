"""Trees of labelled images, looked at: which are there and wanted, and which can never be taken and why.

Reads the names of folders that are in scope, and stats labels and the images of their names; never contents. What lies deeper than the
levels of the scope is not looked into. Taking them is `fetch.py`'s.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from medallion_defs.bronze.contract import TreeScope
from medallion_defs.bronze.fetching.copying import FileState
from medallion_defs.bronze.fetching.fetch_time import has_rested
from medallion_defs.bronze.fetching.report import LeftFile
from medallion_defs.storage.local.disk import explain_os_error

IMAGE_EXTENSIONS = ("png", "jpg", "jpeg", "webp")
_LABEL = re.compile(r"(\d{1,6})\.json")
_SEPARATOR = ":"
_IN_PROGRESS = (".part", ".tmp")


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """A label and its image. `folder` is the path of their folder, in both trees; both are named by `number`."""

    folder: str
    number: str
    label: FileState
    image_name: str
    image: FileState

    @property
    def external_id(self) -> str:
        """The names of the folders and the number: `north:harbour:12`."""
        return _external_id(self.folder, self.number)

    @property
    def label_name(self) -> str:
        return f"{self.number}.json"

    @property
    def bytes(self) -> int:
        return self.label.bytes + self.image.bytes


def scan_tree(scope: TreeScope) -> Iterator[LabelledImage | LeftFile]:
    """Yield every wanted label with its image, folder by folder in order of names, and what a person must act on.

    Names that start with a dot, `*.part` and `*.tmp` are still being written. An image without a label is not an item.

    Raises:
        TransientError: a root cannot be read: nothing is known then, which is not the same as nothing being there.
    """
    try:
        for folder in _wanted_folders(scope):
            yield from (folder,) if isinstance(folder, LeftFile) else _scan_folder(scope, folder)
    except OSError as error:
        raise explain_os_error(error, str(scope.labels_path)) from error


def tree_fingerprint(scope: TreeScope, now: datetime, settle_seconds: float) -> str:
    """Return a hash that changes when a name appears or goes in a folder of the scope that has come to rest since.

    It costs a stat per folder, however many files are in them. An edit in place moves no folder: the full scan finds it.

    Raises:
        TransientError: a root cannot be read.
    """
    digest = sha256(f"{scope.labels_path}\0{scope.images_path}\n".encode())
    try:
        for folder in _wanted_folders(scope):
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


def _wanted_folders(scope: TreeScope, prefix: str = "") -> Iterator[str | LeftFile]:
    """Yield the folders of the last level that are in scope; nothing else is opened."""
    for folder in _folders(scope, prefix):
        names = () if isinstance(folder, LeftFile) else tuple(folder.split("/"))
        verdict = scope.judge(names) if names else True
        if isinstance(folder, LeftFile):
            yield folder
        elif isinstance(verdict, str):
            yield LeftFile(folder, verdict)
        elif verdict and len(names) < len(scope.levels):
            yield from _wanted_folders(scope, folder)
        elif verdict:
            yield folder


def _folders(scope: TreeScope, prefix: str) -> Iterator[str | LeftFile]:
    """Yield the folders in `prefix` of the labels, in order of names, as paths below the root."""
    for entry in _entries(f"{scope.labels_path}/{prefix}"):
        path = f"{prefix}/{entry.name}" if prefix else entry.name
        reason = _wrong_folder(entry, scope)
        yield LeftFile(_printable(path), reason) if reason else path


def _wrong_folder(entry: os.DirEntry[str], scope: TreeScope) -> str | None:
    if entry.is_symlink():
        return "it is a symbolic link; put the folder itself here"
    if not entry.is_dir(follow_symlinks=False):
        shape = "/".join(f"{{{level}}}" for level in scope.levels)
        return f"it is a file where folders are: labels are in {shape}/; move or remove it"
    if _SEPARATOR in entry.name or not entry.name.isprintable():
        return f"its name holds a '{_SEPARATOR}' or a character that cannot be printed, and external ids are made of it; rename it"
    return None


def _scan_folder(scope: TreeScope, folder: str) -> Iterator[LabelledImage | LeftFile]:
    images: dict[str, list[os.DirEntry[str]]] | None = None
    for entry in _entries(f"{scope.labels_path}/{folder}"):
        match = _LABEL.fullmatch(entry.name)
        reason = _wrong_file(entry)
        if match is None:
            yield LeftFile(_printable(f"{folder}/{entry.name}"), "a label is {number}.json, with up to six digits; rename or remove it")
            continue
        if reason:
            yield LeftFile(_external_id(folder, match[1]), reason)
            continue
        if images is None:
            images = _find_images(scope.images_path, folder)
        found = _pair(folder, match[1], entry, images.get(match[1], []))
        if found:
            yield found


def _pair(folder: str, number: str, label: os.DirEntry[str], images: list[os.DirEntry[str]]) -> LabelledImage | LeftFile | None:
    name = _external_id(folder, number)
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
        return LabelledImage(folder, number, _state_of(label), images[0].name, _state_of(images[0]))
    except FileNotFoundError:
        return None  # taken away since we saw its name


def _find_images(images_path: Path, folder: str) -> dict[str, list[os.DirEntry[str]]]:
    """Return the images of a folder by number; a folder of images that does not exist holds none."""
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


def _state_of(entry: os.DirEntry[str]) -> FileState:
    return FileState.of(entry.stat(follow_symlinks=False))


def _external_id(folder: str, number: str) -> str:
    return _SEPARATOR.join((*folder.split("/"), number))


def _printable(name: str) -> str:
    """Return a name that any database and terminal takes: bytes that are not UTF-8 become `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
