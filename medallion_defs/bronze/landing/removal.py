"""The copies of a dropped file that lie outside of the store: in landing, among the taken ones, and the memory of those that were left."""

from collections.abc import Iterator
from pathlib import Path

from medallion_defs.bronze.landing.fetch import LEFT_FOLDER, TAKEN_FOLDER, forget_seen
from medallion_defs.bronze.landing.scan import DONE_SUFFIX
from medallion_defs.storage.local.disk import disk_errors
from medallion_defs.storage.naming import encode_external_id


def find_copies(landing_path: Path, source: str, external_id: str) -> list[Path]:
    """Return the files of that name that lie in landing or were taken from it, with their markers.

    Raises:
        InvalidExternalIdError: the id could lead out of the folder.
        TransientError: a folder cannot be read.
    """
    encode_external_id(external_id)
    with disk_errors(str(landing_path)):
        return [path for folder in _folders(landing_path, source) for path in _files(folder, external_id)]


def delete_copies(landing_path: Path, source: str, external_id: str) -> int:
    """Delete those files and what is remembered of them; return how many.

    Raises:
        InvalidExternalIdError, TransientError: as for `find_copies`; or a file cannot be deleted.
    """
    found = find_copies(landing_path, source, external_id)
    with disk_errors(str(landing_path)):
        for path in found:
            path.unlink()
        for folder in _folders(landing_path, source):
            _remove_empty_parents(folder, external_id)
    forget_seen(landing_path / LEFT_FOLDER / f"{source}.json", external_id)
    return len(found)


def _folders(landing_path: Path, source: str) -> Iterator[Path]:
    yield landing_path / source
    taken = landing_path / TAKEN_FOLDER / source
    if taken.is_dir():
        yield from (folder for folder in sorted(taken.iterdir()) if folder.is_dir())


def _remove_empty_parents(folder: Path, external_id: str) -> None:
    """Remove the sub-folders that make up the id, too, where nothing else is in them."""
    for parent in (folder / external_id).parents:
        if parent == folder or parent.is_symlink() or (parent.is_dir() and any(parent.iterdir())):
            return
        if parent.is_dir():
            parent.rmdir()


def _files(folder: Path, external_id: str) -> Iterator[Path]:
    for path in (folder / external_id, folder / f"{external_id}{DONE_SUFFIX}"):
        # Not through a link: what lies elsewhere was never taken from here.
        if path.is_file() and not path.is_symlink() and path.parent.resolve().is_relative_to(folder.resolve()):
            yield path
