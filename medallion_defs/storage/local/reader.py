"""Reading items on a local file system: one folder a source, one directory an item."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from medallion_defs.core.errors import TransientError
from medallion_defs.storage.hashed import ChangedBytesError, DamagedBronzeItemError, HashedFile
from medallion_defs.storage.item import ITEM_FILE, Artifact, BronzeItem, content_sha256, decode_item
from medallion_defs.storage.local import entries
from medallion_defs.storage.local.files import check_file, held, open_hashed
from medallion_defs.storage.reading import Cursor, EntryPage
from medallion_defs.storage.tombstone import REMOVED_FILE, Entry, decode_line


class LocalReader:
    """An `ItemReader` below one folder (`data/bronze`)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def entries(
        self, source_type: str, cursor: Cursor | None, mode: Literal["auto", "scan", "index"], known: Callable[[], set[str]]
    ) -> Iterator[EntryPage]:
        with _read_errors(self.root / source_type):
            yield from entries.read_since(self.root / source_type, cursor, mode, known)

    def directories(self, source_type: str) -> list[str]:
        with _read_errors(self.root / source_type):
            return entries.item_names(self.root / source_type)

    def read_entries(self, source_type: str, directories: Sequence[str]) -> Iterator[EntryPage]:
        yield from entries.read_named(self.root / source_type, directories)

    def entry(self, path: str) -> Entry:
        folder = self.root / path
        place = folder / REMOVED_FILE if (folder / REMOVED_FILE).exists() else folder / ITEM_FILE
        try:
            return decode_line(place.read_bytes())
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DamagedBronzeItemError(f"{place}, which the ledger names, cannot be read: {error}. {_remedy(path)}") from error

    def item(self, path: str, expected_content: str | None = None) -> BronzeItem:
        place = self.root / path / ITEM_FILE
        try:
            item = decode_item(place.read_bytes())
        except (OSError, ValueError, msgspec.DecodeError) as error:
            raise DamagedBronzeItemError(f"{place} cannot be read ({error}). {_remedy(path)}") from error
        found = content_sha256(item.artifacts)
        if expected_content is not None and found != expected_content:
            raise ChangedBytesError(
                f"{place} names files with the content hash {found}; the ledger has {expected_content} for the item. {_remedy(path)}"
            )
        return item

    def artifact(self, path: str, name: str) -> Artifact:
        for artifact in self.item(path).artifacts:
            if artifact.name == name:
                return artifact
        raise DamagedBronzeItemError(f"{self.root / path / ITEM_FILE} names no file {name}. {_remedy(path)}")

    @contextmanager
    def open(self, path: str, artifact: Artifact) -> Iterator[HashedFile]:
        with open_hashed(self.root / path / artifact.name, artifact.sha256, _remedy(path)) as file:
            yield file

    @contextmanager
    def local_path(self, path: str, artifacts: Sequence[Artifact]) -> Iterator[Path]:
        folder = self.root / path
        with ExitStack() as stack:
            for artifact in artifacts:
                stack.enter_context(held(folder / artifact.name, artifact.sha256, _remedy(path)))
            yield folder

    def check(self, path: str, artifact: Artifact) -> None:
        check_file(self.root / path / artifact.name, artifact.sha256, _remedy(path))

    def find_damage(self, path: str, item: BronzeItem, expected_content: str) -> tuple[str, ...]:
        found = []
        if content_sha256(item.artifacts) != expected_content:
            found.append(f"{self.root / path / ITEM_FILE} is not the one that the ledger knows. {_remedy(path)}")
        for artifact in item.artifacts:
            try:
                self.check(path, artifact)
            except (ChangedBytesError, OSError) as error:
                found.append(str(error))
        return tuple(found)

    def path_of(self, place: Path) -> str | None:
        # Both with links followed: the data folder may be one, and a person may have come to it by another way.
        root, whole = self.root.resolve(), (Path.cwd() / place).resolve()
        return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else None


@contextmanager
def _read_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TransientError(f"{folder} cannot be read: {error}. Nothing was taken for missing; it is tried again.") from error


def _remedy(path: str) -> str:
    return (
        f"Run 'medallion bronze verify {path.partition('/')[0]}' to see what else is damaged, restore the directory from a copy, then run "
        "'medallion requeue'."
    )
