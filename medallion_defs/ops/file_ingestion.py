"""`DatasetIngestion`: one row of the ledger as a value, and every way in which it may change.

What belongs here: translation from a bronze item, the state machine of an item's life (each transition returns a
new value). What does not: SQL (`ledger.py`), the clock (time is passed in), any file, what the end of a run costs
(`endings.py`) and the grouping into microbatches (`microbatches.py`). The `silver_*` columns describe the last attempt,
`batch_id` the microbatch that made it.
"""

from datetime import date, datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec

from medallion_defs.core import ids, retry
from medallion_defs.core.errors import TerminalError
from medallion_defs.core.sections import SourceSettings
from medallion_defs.ops.endings import Ending, describe_error
from medallion_defs.ops.storable import storable_text
from medallion_defs.storage.item import BronzeItem, require_storable
from medallion_defs.storage.tombstone import FORGET, Tombstone, forgotten_directory, hashed_id

Status = Literal["refused", "pending", "claimed", "loaded", "retrying", "dead", "withdrawn", "removed"]

REFUSED_REVISION = 0


class RowCounts(msgspec.Struct, frozen=True):
    """What a load did with the records of one item; `read` is the sum of the others."""

    read: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    duplicate: int = 0
    rejected: int = 0

    @property
    def reconciles(self) -> bool:
        return self.read == self.created + self.updated + self.unchanged + self.duplicate + self.rejected


class GoldResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one gold run made of one file. `error` is None when it went well; the counts are added to earlier ones."""

    file_id: UUID
    run_id: str
    object_type: str
    tablename: str
    started_at: datetime
    ended_at: datetime
    created: int = 0
    updated: int = 0
    error: BaseException | None = None


class DatasetIngestion(msgspec.Struct, frozen=True, kw_only=True):
    """One bronze item, its whole life: the columns of `ops.file_ingestions` in table order, without the derived `status`."""

    file_id: UUID
    run_id: str | None = None
    source_type: str
    domain: str | None = None
    source: str | None = None
    dataset: str | None = None
    discriminator: str | None = None
    ticker: str | None = None
    external_id: str
    revision: int
    bronze_path: str | None = None
    content_sha256: str | None = None
    bronze_rows: int | None = None
    bronze_bytes: int | None = None
    bronze_error: str | None = None
    bronze_filename: str | None = None
    bronze_from_date: date | None = None
    bronze_to_date: date | None = None
    bronze_ingest_start_time: datetime | None = None
    bronze_ingest_end_time: datetime | None = None
    bronze_can_promote: bool = True
    bronze_removed_at: datetime | None = None
    bronze_removed_by: str | None = None
    bronze_withdrawn_at: datetime | None = None
    bronze_withdrawn_reason: str | None = None
    silver_run_id: str | None = None
    silver_tablename: str | None = None
    silver_rows_read: int | None = None
    silver_rows_created: int | None = None
    silver_rows_updated: int | None = None
    silver_rows_unchanged: int | None = None
    silver_rows_duplicate: int | None = None
    silver_rows_rejected: int | None = None
    silver_quality_flags: dict[str, int] | None = None
    silver_errors: dict[str, str] | None = None
    silver_ingest_start_time: datetime | None = None
    silver_ingest_end_time: datetime | None = None
    silver_can_promote: bool | None = None
    gold_run_id: str | None = None
    gold_object_type: str | None = None
    gold_tablename: str | None = None
    gold_rows_created: int | None = None
    gold_rows_updated: int | None = None
    gold_errors: dict[str, str] | None = None
    gold_ingest_start_time: datetime | None = None
    gold_ingest_end_time: datetime | None = None
    batch_id: str | None = None
    attempts: int = 0
    retry_at: datetime | None = None
    code_version: str | None = None
    created_at: datetime
    updated_at: datetime

    # -- bronze ----------------------------------------------------------------------------------------------------

    @classmethod
    def published(cls, item: BronzeItem, at: datetime, started_at: datetime | None = None) -> "DatasetIngestion":
        """Return the row of an item that is in bronze. `started_at`: when its fetch began, where the caller knows.

        Raises:
            TerminalError: the item holds a value that no ledger can keep (NUL, no time zone, a number out of range).
        """
        require_storable(item)
        return cls(
            file_id=item.file_id,
            run_id=item.run_id,
            source_type=item.source_type,
            external_id=item.external_id,
            revision=item.revision,
            bronze_path=item.path,
            content_sha256=item.content_sha256,
            bronze_bytes=item.bytes,
            bronze_filename=item.filename,
            bronze_from_date=item.from_date,
            bronze_to_date=item.to_date,
            bronze_ingest_start_time=started_at,
            bronze_ingest_end_time=item.fetched_at,
            created_at=at,
            updated_at=at,
        )

    @classmethod
    def refused(
        cls, source_type: str, external_id: str, filename: str, error: BaseException, at: datetime, run_id: str | None = None
    ) -> "DatasetIngestion":
        """Return the row of a landing file that bronze could not take. Revision 0: what gets published later starts at 1."""
        clean_id = storable_text(external_id)
        return cls(
            file_id=ids.file_id(source_type, clean_id, REFUSED_REVISION),
            run_id=run_id,
            source_type=source_type,
            external_id=clean_id,
            revision=REFUSED_REVISION,
            bronze_error=describe_error(error)["message"],
            bronze_filename=storable_text(filename),
            bronze_ingest_end_time=at,
            bronze_can_promote=False,
            created_at=at,
            updated_at=at,
        )

    @classmethod
    def buried(cls, tombstone: Tombstone, at: datetime) -> "DatasetIngestion":
        """Return the row of an item that was removed: for a ledger that has lost it, or never had it.

        Raises:
            TerminalError: as for `published`.
        """
        row = cls.published(tombstone.item, at)
        return msgspec.structs.replace(
            row,
            file_id=tombstone.file_id,
            bronze_can_promote=False,
            bronze_removed_at=tombstone.removed_at,
            bronze_removed_by=tombstone.removed_by,
        )

    def removal_begun(self, by: str, at: datetime) -> "DatasetIngestion":
        """From now on nobody loads the item; its bytes may go."""
        return msgspec.structs.replace(self, bronze_can_promote=False, bronze_removed_by=by, updated_at=at)

    def removal_finished(self, at: datetime) -> "DatasetIngestion":
        """The bytes are gone."""
        return msgspec.structs.replace(self, bronze_can_promote=False, bronze_removed_at=at, updated_at=at)

    def forgotten(self, at: datetime) -> "DatasetIngestion":
        """Keep hashes, counts and times; what a person wrote (id, file name, messages) goes."""
        directory = forgotten_directory(self.source_type, self.external_id, self.revision)
        return msgspec.structs.replace(
            self.removal_finished(at),
            external_id=hashed_id(self.source_type, self.external_id),
            bronze_path=f"{self.source_type}/{directory}",
            bronze_removed_by=FORGET,
            bronze_error=None,
            bronze_filename=None,
            bronze_from_date=None,
            bronze_to_date=None,
            bronze_withdrawn_reason=None,
            discriminator=None,
            ticker=None,
            silver_errors=None,
            gold_errors=None,
            retry_at=None,
        )

    def withdrawn(self, reason: str, at: datetime) -> "DatasetIngestion":
        """A person takes the item back: nothing of it is to be in silver, and nobody loads it."""
        return msgspec.structs.replace(
            self, bronze_can_promote=False, bronze_withdrawn_at=at, bronze_withdrawn_reason=storable_text(reason), updated_at=at
        )

    def reinstated(self, at: datetime) -> "DatasetIngestion":
        """The withdrawal was a mistake: the item is pending again."""
        return msgspec.structs.replace(
            self.requeued(at), bronze_can_promote=True, bronze_withdrawn_at=None, bronze_withdrawn_reason=None
        )  # fmt: skip

    # -- silver ----------------------------------------------------------------------------------------------------

    @property
    def filename(self) -> str:
        """The name by which a recipe is chosen."""
        return self.bronze_filename or self.external_id

    @property
    def status(self) -> Status:
        """The same derivation as the column's (`ops/tables.py`); a test holds the two together."""
        if self.bronze_removed_at is not None:
            return "removed"
        if self.bronze_error is not None:
            return "refused"
        if self.bronze_withdrawn_at is not None:
            return "withdrawn"
        return self._silver_status

    @property
    def _silver_status(self) -> Status:
        if self.silver_errors is not None:
            return "dead" if self.retry_at is None else "retrying"
        if self.silver_ingest_end_time is not None:
            return "loaded"
        return "pending" if self.batch_id is None else "claimed"

    def claimed(self, batch_id: str, at: datetime) -> "DatasetIngestion":
        """Put the item into a microbatch; attempts go on counting."""
        return msgspec.structs.replace(self._without_attempt(at), batch_id=batch_id)

    def claimed_again(self, batch_id: str, at: datetime) -> "DatasetIngestion":
        """Put an item that was done (loaded or failed) into a microbatch for reprocessing; attempts start over."""
        return msgspec.structs.replace(self._without_attempt(at), batch_id=batch_id, attempts=0)

    def started(self, run_id: str, code_version: str, at: datetime) -> "DatasetIngestion":
        """Count the attempt that begins now. Persist this before the load: an item that kills its worker must count, too."""
        return msgspec.structs.replace(
            self, attempts=self.attempts + 1, silver_run_id=run_id, code_version=code_version, silver_ingest_start_time=at, updated_at=at
        )

    def described(
        self,
        *,
        domain: str | None = None,
        source: str | None = None,
        dataset: str | None = None,
        discriminator: str | None = None,
        ticker: str | None = None,
    ) -> "DatasetIngestion":
        """Say what the data are, as the source's recipe knows."""
        return msgspec.structs.replace(
            self, domain=domain, source=source, dataset=dataset, discriminator=discriminator, ticker=ticker
        )  # fmt: skip

    def finished(
        self, tablename: str, counts: RowCounts, quality_flags: dict[str, int], at: datetime, *, can_promote: bool = True
    ) -> "DatasetIngestion":
        """The item is in silver.

        Raises:
            TerminalError: the counts do not add up; some record would be unaccounted for.
        """
        if not counts.reconciles:
            raise TerminalError(f"{self.bronze_path}: the load lost count of its records ({counts}). Nothing of the item was kept.")
        return msgspec.structs.replace(
            self,
            bronze_rows=counts.read,
            silver_tablename=tablename,
            silver_rows_read=counts.read,
            silver_rows_created=counts.created,
            silver_rows_updated=counts.updated,
            silver_rows_unchanged=counts.unchanged,
            silver_rows_duplicate=counts.duplicate,
            silver_rows_rejected=counts.rejected,
            silver_quality_flags=quality_flags,
            silver_ingest_end_time=at,
            silver_can_promote=can_promote,
            silver_errors=None,
            retry_at=None,
            updated_at=at,
        )

    def failed(self, error: BaseException, at: datetime, settings: SourceSettings) -> "DatasetIngestion":
        """The attempt failed: try again later, or never when the error is terminal or the attempts are used up."""
        return self._resolved(describe_error(error), at, settings, is_final=isinstance(error, TerminalError))

    def counted(self, read: int, rejected: int, quality_flags: dict[str, int]) -> "DatasetIngestion":
        """Say how far the attempt that failed came. What it would have done with the others nobody knows: those counts stay unknown."""
        return msgspec.structs.replace(
            self, silver_rows_read=read, silver_rows_rejected=rejected, silver_quality_flags=quality_flags
        )  # fmt: skip

    def released(self, at: datetime, settings: SourceSettings, ending: Ending) -> "DatasetIngestion":
        """The run of the microbatch ended and said nothing of the item; `endings.py` has the rule of what that costs.

        So that a machine on which no run can start is not kept busy with starting them, an item whose run never began waits a
        quarter of the time that it has been waiting already.
        """
        if ending.kind == "stopped":
            return msgspec.structs.replace(self.unstarted(at), batch_id=None)
        tries = self.attempts - self.is_started
        if ending.charges(is_started=self.is_started):
            row = msgspec.structs.replace(self, attempts=tries + 1, batch_id=None)
            errors = ending.describe(at, is_started=self.is_started)
            return row._resolved(errors, at, settings, is_final=False)
        wait = timedelta(seconds=settings.retry_seconds)
        if ending.kind == "died" and not self.is_started:
            wait = max(wait, (at - self.created_at) / 4)
        again_at = at + min(wait, retry.LONGEST)
        errors = ending.describe(again_at, is_started=self.is_started)
        row = msgspec.structs.replace(self, attempts=tries, batch_id=None)._resolved(errors, at, settings, is_final=False)
        return msgspec.structs.replace(row, retry_at=again_at)

    def unstarted(self, at: datetime) -> "DatasetIngestion":
        """As it was when it was claimed: the attempt that began is not counted."""
        return msgspec.structs.replace(self._without_attempt(at), attempts=self.attempts - self.is_started)

    def requeued(self, at: datetime) -> "DatasetIngestion":
        """Back to pending with all attempts: somebody asked for it, or the code that failed on it has changed."""
        return msgspec.structs.replace(self._without_attempt(at), batch_id=None, attempts=0)

    @property
    def is_started(self) -> bool:
        """Whether an attempt began that has not ended."""
        return self.silver_ingest_start_time is not None and self.silver_ingest_end_time is None

    def is_held_by(self, other: "DatasetIngestion") -> bool:
        """Whether this row, as the database has it, is still in the attempt that `other` is the outcome of."""
        return self.status == "claimed" and (self.batch_id, self.attempts) == (other.batch_id, other.attempts)

    def _without_attempt(self, at: datetime) -> "DatasetIngestion":
        return msgspec.structs.replace(
            self,
            silver_run_id=None,
            silver_rows_read=None,
            silver_rows_created=None,
            silver_rows_updated=None,
            silver_rows_unchanged=None,
            silver_rows_duplicate=None,
            silver_rows_rejected=None,
            silver_quality_flags=None,
            silver_errors=None,
            silver_ingest_start_time=None,
            silver_ingest_end_time=None,
            silver_can_promote=None,
            retry_at=None,
            updated_at=at,
        )

    def _resolved(self, errors: dict[str, str], at: datetime, settings: SourceSettings, *, is_final: bool) -> "DatasetIngestion":
        is_dead = is_final or self.attempts >= settings.max_attempts
        return msgspec.structs.replace(
            self._without_attempt(at),
            silver_run_id=self.silver_run_id,
            silver_ingest_start_time=self.silver_ingest_start_time,
            silver_ingest_end_time=at,
            silver_errors=errors,
            silver_can_promote=False,
            retry_at=None if is_dead else at + retry.retry_delay(self.attempts, settings.retry_seconds),
        )

    # -- gold ------------------------------------------------------------------------------------------------------

    def gold_finished(self, result: GoldResult) -> "DatasetIngestion":
        """What gold made of the item's rows; created and updated are added up over the runs."""
        return msgspec.structs.replace(
            self,
            gold_run_id=result.run_id,
            gold_object_type=result.object_type,
            gold_tablename=result.tablename,
            gold_rows_created=(self.gold_rows_created or 0) + result.created,
            gold_rows_updated=(self.gold_rows_updated or 0) + result.updated,
            gold_errors=describe_error(result.error) if result.error else None,
            gold_ingest_start_time=result.started_at,
            gold_ingest_end_time=result.ended_at,
            updated_at=result.ended_at,
        )
