"""The reading half of the storage: which items a source has, and their bytes, hashed while they are read.

Every layer opens bronze through `ItemReader`, so that a value never comes from bytes that are not those of the recorded sha256. A path
is always `{source_type}/{directory}` below bronze, never a place on a disk. The implementations: `local/reader.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

import msgspec

from medallion_defs.storage.hashed import HashedFile
from medallion_defs.storage.item import Artifact, BronzeItem
from medallion_defs.storage.tombstone import Entry

Mode = Literal["scan", "index"]


class ScanCursor(msgspec.Struct, frozen=True, tag_field="mode", tag="scan", forbid_unknown_fields=True):
    """`stamps`: the folder's when all in it was known, None while that is not sure; `after`: where an unfinished pass goes on."""

    stamps: tuple[int, int, int] | None = None
    after: str = ""


class IndexCursor(msgspec.Struct, frozen=True, tag_field="mode", tag="index", forbid_unknown_fields=True):
    """How far the index is consumed; `inode` and the hash of the bytes before `offset` say whether it is still that index."""

    inode: int = 0
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    tail_sha256: str = ""


Cursor = ScanCursor | IndexCursor


class Problem(msgspec.Struct, frozen=True):
    """Something in bronze that is not an item as it should be: where (below the bronze root), and what to do."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Some of a source's entries.

    Attributes:
        entries: items and tombstones, each checked to belong where it was found.
        problems: what should be an entry and is none.
        seen: directory names listed, or index lines read, up to and with this page; 0 when the cursor told that nothing moved.
        mode: how it was looked for.
        cursor: where the next call goes on, when this page is the last that is taken; under 1 KB as JSON.
        is_last: there is nothing more.
    """

    entries: Sequence[Entry]
    problems: Sequence[Problem]
    seen: int
    mode: Mode
    cursor: Cursor
    is_last: bool


class ItemReader(Protocol):
    """Published items, read only."""

    def entries(
        self, source_type: str, cursor: Cursor | None, mode: Literal["auto", "scan", "index"], known: Callable[[], set[str]]
    ) -> Iterator[EntryPage]:
        """Yield what a source has since `cursor`, in pages; at least one page, and the last is marked.

        Args:
            known: the directories that the caller has already; asked only where a cursor cannot tell.

        Raises:
            TransientError: the source is there but cannot be read. Never raised for a single item.
        """
        ...

    def directories(self, source_type: str) -> list[str]:
        """Return the names of a source's item directories, in no order.

        Raises:
            TransientError: they cannot be listed.
        """
        ...

    def read_entries(self, source_type: str, directories: Sequence[str]) -> Iterator[EntryPage]:
        """Yield the entries of these directories, in pages."""
        ...

    def entry(self, path: str) -> Entry:
        """Return the item at `path`, or its tombstone.

        Raises:
            DamagedBronzeItemError: neither can be read.
        """
        ...

    def item(self, path: str, expected_content: str | None = None) -> BronzeItem:
        """Return what the item at `path` says of itself.

        Args:
            expected_content: the `content_sha256` that the ledger has; None: it is not compared.

        Raises:
            DamagedBronzeItemError: it cannot be read, or is another item's.
        """
        ...

    def artifact(self, path: str, name: str) -> Artifact:
        """Return what the item at `path` says of one of its files.

        Raises:
            DamagedBronzeItemError: it names no such file, or cannot be read.
        """
        ...

    def open(self, path: str, artifact: Artifact) -> AbstractContextManager[HashedFile]:
        """Open a file of the item at `path`. At the end of the block all of it has been read and compared with its sha256.

        Raises:
            ChangedBytesError: the bytes are not those that were published. Takes the place of any error that the block raised.
            OSError: as for `open`.
        """
        ...

    def local_path(self, path: str, artifacts: Sequence[Artifact]) -> AbstractContextManager[Path]:
        """Give libraries that need files the folder in which these files of the item at `path` lie, hashed before the block.

        Raises:
            ChangedBytesError: the bytes are not those that were published, or were written to while the block had them.
            OSError: they cannot be read.
        """
        ...

    def check(self, path: str, artifact: Artifact) -> None:
        """Read a file of the item at `path` for its hash alone.

        Raises:
            ChangedBytesError: the bytes are not those that were published.
            OSError: it cannot be read.
        """
        ...

    def find_damage(self, path: str, item: BronzeItem, expected_content: str) -> tuple[str, ...]:
        """Return a sentence for each file of the item that is not as it was published, after reading all of them."""
        ...

    def path_of(self, place: Path) -> str | None:
        """Return the path of the item that a person named by its place on this machine; None when it is not in this store."""
        ...
