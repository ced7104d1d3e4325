"""`RemovalLedger`: the ledger's rows of items that are taken away: removed by a policy, forgotten, withdrawn.

The same three steps as `Ledger`, whose queries and writing it uses; decisions are in `file_ingestion.py`. A removal is noted
before the first byte goes and after the last, so that what a kill cut short is found again.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from medallion_defs.core.errors import TerminalError, TransientError
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.ledger import COLUMNS, SILVER_COLUMNS, Ledger
from medallion_defs.ops.ledger_values import Retained
from medallion_defs.storage.tombstone import FORGET, hashed_id

# A removal writes nothing of what a load or gold may be writing; forgetting and withdrawing do.
REMOVAL_COLUMNS = ("bronze_can_promote", "bronze_removed_at", "bronze_removed_by", "updated_at")
WITHDRAWAL_COLUMNS = ("bronze_can_promote", "bronze_withdrawn_at", "bronze_withdrawn_reason", *SILVER_COLUMNS)
FORGET_COLUMNS = tuple(name for name in COLUMNS if name.startswith("bronze_") or name in {"external_id", "gold_errors", *SILVER_COLUMNS})


class RemovalLedger(Ledger):
    """The ledger over one connection, for taking items away."""

    def begin_removal(self, seen: Iterable[Retained], by: str, at: datetime) -> list[DatasetIngestion]:
        """Note that the bytes of these items are about to go, and that nobody is to load them; return the rows that were noted.

        Compare-and-set: only rows that are as they were `seen`. One that was loaded again since may have rows in silver again.
        """
        by_id = {item.file_id: item for item in seen}
        current = self._select("lock_rows", {"file_ids": list(by_id)})
        begun = [row.removal_begun(by, at) for row in current if _is_unmoved(row, by_id[row.file_id])]
        self._write(begun, REMOVAL_COLUMNS)
        return begun

    def finish_removal(self, file_ids: Iterable[UUID], at: datetime) -> None:
        """Note that the bytes are gone."""
        rows = self._select("lock_rows", {"file_ids": list(file_ids)})
        self._write([row.removal_finished(at) for row in rows if row.bronze_removed_at is None], REMOVAL_COLUMNS)

    def begun_removals(self) -> list[DatasetIngestion]:
        """Return the rows of removals that a kill cut short, by source."""
        return self._select("begun_removals", {})

    def open_runs(self) -> set[str]:
        """Return the runs that have items and have not said what became of them."""
        return {row.silver_run_id for row in self._select("open_runs", {}) if row.silver_run_id}

    def rows_of_subject(self, source_type: str, external_id: str) -> list[DatasetIngestion]:
        """Return all revisions of one external id, oldest first; those that were forgotten already, too."""
        ids = [external_id, hashed_id(source_type, external_id)]
        return self._select("rows_of_subject", {"source_type": source_type, "external_ids": ids})

    def begin_forgetting(self, source_type: str, external_id: str, at: datetime) -> list[DatasetIngestion]:
        """Note that an external id is about to be forgotten; return its rows.

        Raises:
            TransientError: one of its items is in a microbatch; nothing was changed.
        """
        rows = self._select("lock_subject", {"source_type": source_type, "external_id": external_id})
        _refuse_claimed(rows)
        begun = [row.removal_begun(FORGET, at) for row in rows]
        self._write(begun, REMOVAL_COLUMNS)
        return begun

    def finish_forgetting(self, source_type: str, external_id: str, at: datetime) -> None:
        """Replace what a person wrote by hashes, in all rows of the external id. Refusals have no item: their rows go."""
        params: dict[str, object] = {"source_type": source_type, "external_id": external_id}
        self._select("delete_refusals", params)
        self._write([row.forgotten(at) for row in self._select("lock_subject", params)], FORGET_COLUMNS)

    def withdraw(self, file_id: UUID, reason: str, at: datetime) -> DatasetIngestion:
        """Take an item back; return its row. A second time changes nothing but the reason.

        Raises:
            TerminalError: there is no such item, or its bytes are gone.
            TransientError: it is in a microbatch.
        """
        row = self._lock_item(file_id)
        _refuse_claimed([row])
        withdrawn = row.withdrawn(reason, at)
        self._write([withdrawn], WITHDRAWAL_COLUMNS)
        return withdrawn

    def reinstate(self, file_id: UUID, at: datetime) -> DatasetIngestion:
        """Undo a withdrawal: the item is pending again.

        Raises:
            TerminalError: there is no such item, or it is not withdrawn.
        """
        row = self._lock_item(file_id)
        if row.status != "withdrawn":
            raise TerminalError(f"{row.bronze_path} is {row.status}, not withdrawn. There is nothing to undo.")
        reinstated = row.reinstated(at)
        self._write([reinstated], WITHDRAWAL_COLUMNS)
        return reinstated

    def _lock_item(self, file_id: UUID) -> DatasetIngestion:
        rows = self._select("lock_rows", {"file_ids": [file_id]})
        if not rows or rows[0].status in ("removed", "refused"):
            raise TerminalError(f"Item {file_id} is {rows[0].status if rows else 'not in the ledger'}: there is nothing to take back.")
        return rows[0]


def _is_unmoved(row: DatasetIngestion, seen: Retained) -> bool:
    return row.bronze_can_promote and (row.status, row.silver_ingest_end_time) == (seen.status, seen.loaded_at)


def _refuse_claimed(rows: Iterable[DatasetIngestion]) -> None:
    for row in rows:
        if row.status == "claimed":
            raise TransientError(f"{row.bronze_path} is being loaded (microbatch {row.batch_id}). Try again when that has ended.")
