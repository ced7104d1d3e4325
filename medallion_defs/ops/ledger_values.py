"""What the ledger is asked with and what it answers, as values: filters, microbatches, counts. Reading and writing are `ledger.py`'s."""

from datetime import datetime
from uuid import UUID

import msgspec

from medallion_defs.ops.file_ingestion import DatasetIngestion, Status

# At the end of a batch id, where an increment's has eight random hex digits.
BACKFILL = "-backfill"


class Batch(msgspec.Struct, frozen=True):
    """A microbatch that was just claimed: what a run request needs."""

    batch_id: str
    items: int
    bytes: int


class Extent(msgspec.Struct, frozen=True):
    """How much a backfill has before it. `rows`: as last counted; `uncounted_items` were never read to their end."""

    items: int
    bytes: int
    rows: int
    uncounted_items: int


class OpenBatch(msgspec.Struct, frozen=True):
    """A microbatch with items that nobody has resolved.

    Attributes:
        run_id: the run that started on it, None before.
        since: when it was last touched.
        attempts: the most tries that one of its items has had.
    """

    batch_id: str
    items: int
    bytes: int
    run_id: str | None
    since: datetime
    attempts: int

    @property
    def is_backfill(self) -> bool:
        """Whether it was claimed to be processed again."""
        return self.batch_id.endswith(BACKFILL)


class LedgerFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows a person asks for; what is None does not narrow. `external_id` is a glob (`*`, `?`); `run_id` is of any layer."""

    source_type: str | None = None
    statuses: tuple[Status, ...] | None = None
    external_id: str | None = None
    file_ids: tuple[UUID, ...] | None = None
    bronze_path: str | None = None
    batch_id: str | None = None
    run_id: str | None = None


class Page(msgspec.Struct, frozen=True):
    """Rows, oldest first; `next` continues after them, None at the end."""

    rows: list[DatasetIngestion]
    next: tuple[datetime, UUID] | None


class StatusCount(msgspec.Struct, frozen=True):
    source_type: str
    status: Status
    items: int
    bytes: int


class Retained(msgspec.Struct, frozen=True):
    """An item whose bytes are there, as retention looks at it. `loaded_at`: the end of its last attempt."""

    file_id: UUID
    external_id: str
    revision: int
    path: str
    bytes: int
    fetched_at: datetime
    status: Status
    loaded_at: datetime | None = None

    @property
    def directory(self) -> str:
        """The item's directory below its source's folder."""
        return self.path.partition("/")[2]
