"""The interface of a bronze store: what fetchers and the command line may ask, whatever the storage behind it.

`local.py` is the store on a local file system. Nothing here touches a disk.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, Protocol

from medallion_defs.core.errors import TerminalError
from medallion_defs.storage.item import BronzeItem
from medallion_defs.storage.tombstone import Tombstone

ProblemKind = Literal["missing", "changed", "extra", "permission", "unreadable", "unindexed", "index", "half removed", "future"]


class ForgottenItemError(TerminalError):
    """The external id was forgotten, and is not to come back. The message does not name it."""


class DamagedItemError(TerminalError):
    """A published item cannot be read as it was written."""


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """One file to publish. `content` is its bytes, or chunks of them that are read once."""

    name: str
    content: bytes | Iterable[bytes]


@dataclass(frozen=True, slots=True)
class NewItem:
    """One item to publish; the fields are those of `BronzeItem`."""

    external_id: str
    filename: str
    origin: str
    fetched_at: datetime
    artifacts: Sequence[NewArtifact]
    run_id: str | None = None
    from_date: date | None = None
    to_date: date | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Publication:
    """What became of one staged item.

    `is_new` is false when the current revision already had these bytes; `tombstone` is its own where a policy has removed it since.
    """

    item: BronzeItem
    is_new: bool
    tombstone: Tombstone | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """One way in which the store is not as it was published. `path` is relative to the bronze root."""

    kind: ProblemKind
    path: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Removal:
    """What became of items to be removed. `damaged`: why nothing was done about an item, for a person."""

    tombstones: tuple[Tombstone, ...]
    damaged: tuple[str, ...]


class Group(Protocol):
    """Items that become durable together."""

    def stage(self, new: NewItem) -> None:
        """Copy one item to where nobody sees it yet. When this raises, the item is not part of the group.

        Raises:
            InvalidExternalIdError: the id cannot name an item.
            DamagedItemError: the current revision of this item cannot be read.
            ForgottenItemError: the external id was forgotten.
            TransientError: the storage is full or failed.
        """
        ...

    def publish(self) -> list[Publication]:
        """Make the staged items visible and durable; return one answer per staged item, in order. Once per group.

        Raises:
            TransientError: the storage is full or failed. Stage the items again in a new group: those that
                were finished after all answer `is_new=False` then.
        """
        ...


class BronzeStore(Protocol):
    """Immutable items by source type."""

    def group(self, source_type: str) -> AbstractContextManager[Group]:
        """Open a group. One at a time per source type: a second publisher waits. Cleans up after crashed ones first."""
        ...

    def current(self, source_type: str, external_id: str) -> BronzeItem | Tombstone | None:
        """Return the newest revision of an item, or what is left of it; None when there is none."""
        ...

    def source_types(self) -> list[str]:
        """Return the source types that have a folder, sorted."""
        ...

    def reindex(self, source_type: str) -> int:
        """Rebuild the index from the items, in order of (fetched_at, directory); return the number of items."""
        ...

    def remove(self, source_type: str, directories: Sequence[str], at: datetime, by: str) -> Removal:
        """Remove the bytes of items and leave a tombstone in the place of each; finishes what an earlier call began.

        Raises:
            TransientError: the storage failed. Call it again.
        """
        ...

    def forget(self, source_type: str, external_id: str, at: datetime) -> list[Tombstone]:
        """Remove all revisions of an external id and leave tombstones that hold hashes; return those, of earlier calls too.

        Raises:
            InvalidExternalIdError: the id cannot name an item.
            TransientError: the storage failed. Call it again.
        """
        ...

    def verify_slice(self, source_type: str, after: str, share: float) -> Iterator[tuple[str, list[Problem]]]:
        """Verify the next items after the directory `after`, in order of names; yield each with what is wrong with it.

        As many as `share` of all items are, and at least one where there is one.
        """
        ...

    def verify(self, source_type: str) -> Iterator[Problem]:
        """Hash every artifact again, compare items with the index, and yield what is wrong."""
        ...
