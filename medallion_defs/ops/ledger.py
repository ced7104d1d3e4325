"""`Ledger`: the one repository of `ops.file_ingestions`, and the only module that writes it.

Every write is the same three steps: lock the rows, ask `DatasetIngestion` for their next state, write them. Methods run
in the caller's transaction and never commit; the one exception, which must, is `start_batch`. Decisions are in
`file_ingestion.py`, the SQL in `ledger.sql`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime
from functools import cache
from typing import Any, LiteralString, TypeVar
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row, dict_row

from medallion_defs.core.code_version import CodeVersions, as_versions
from medallion_defs.core.errors import TerminalError, TransientError
from medallion_defs.core.sections import SourceSettings
from medallion_defs.core.sql import load_queries
from medallion_defs.ops.cursors import is_noted, note_cursor
from medallion_defs.ops.endings import Ending
from medallion_defs.ops.file_ingestion import DatasetIngestion, GoldResult, Status
from medallion_defs.ops.ledger_values import BACKFILL, Batch, Extent, LedgerFilter, OpenBatch, Page, Retained, StatusCount
from medallion_defs.ops.microbatches import new_batch_id, plan_batches
from medallion_defs.ops.scope import Scope, like_pattern, scope_params

COLUMNS = DatasetIngestion.__struct_fields__
# A silver run writes back what it read minutes ago: it must not carry along the gold columns of that time.
GOLD_COLUMNS = (*(name for name in COLUMNS if name.startswith("gold_")), "updated_at")
SILVER_COLUMNS = (
    *("domain", "source", "dataset", "discriminator", "ticker", "bronze_rows"),
    *(name for name in COLUMNS if name.startswith("silver_")),
    *("batch_id", "attempts", "retry_at", "code_version", "updated_at"),
)
REQUEUABLE: tuple[Status, ...] = ("dead", "retrying", "loaded")
CHUNK_ROWS = 1_000
REARM_ROWS = 5_000
# Above all versions, which are hex digits.
_LAST_VERSION = "zzzz"

Params = dict[str, object]
T = TypeVar("T")


class BatchInUseError(TransientError):
    """A living worker has the microbatch; nothing was changed."""


class Ledger:
    """The ledger over one connection. What it raises besides the documented is psycopg's."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    # -- bronze and discovery: what there is -----------------------------------------------------------------------

    def register_published(self, items: Iterable[DatasetIngestion]) -> int:
        """Add the rows of published items; return how many were new. Known ones stay as they are, whoever registered them.

        A refusal of the same file, if older, is settled: its row goes.
        """
        return sum(self._insert("register_published", chunk) for chunk in _chunks(items))

    def register_refused(self, refusals: Iterable[DatasetIngestion]) -> None:
        """Add or refresh the rows of landing files that bronze could not take: one row a file, with the latest reason."""
        # One statement cannot update a row twice: of several refusals of one file the last counts.
        latest = {refusal.file_id: refusal for refusal in refusals}
        for chunk in _chunks(latest.values()):
            self._insert("register_refused", chunk)

    def register_removed(self, rows: Iterable[DatasetIngestion]) -> int:
        """Add the rows of items that only a tombstone is left of, or mark those that are here; return how many that changed."""
        return sum(self._insert("register_removed", chunk) for chunk in _chunks(rows))

    def known_directories(self, source_type: str) -> set[str]:
        """Return the item directories of the source that the ledger has, as names below the source's folder."""
        skip = len(source_type) + 1
        with self._connection.cursor() as cursor:
            cursor.execute(_query("known_paths"), {"source_type": source_type})
            return {path[skip:] for (path,) in cursor}

    def unknown_paths(self, paths: Sequence[str]) -> set[str]:
        """Return those of `paths` (`source/directory`) that the ledger does not have."""
        with self._connection.cursor() as cursor:
            cursor.execute(_query("unknown_paths"), {"paths": list(paths)})
            return {path for (path,) in cursor}

    def next_from_date(self, source_type: str) -> date | None:
        """Return the day from which an incremental source goes on: the highest `bronze_to_date`; None at the first fetch."""
        row = self._connection.execute(_query("next_from_date"), {"source_type": source_type}).fetchone()
        return row[0] if row else None

    # -- microbatches ----------------------------------------------------------------------------------------------

    def open_batches(self, source_type: str) -> list[OpenBatch]:
        """Return the microbatches of the source with claimed items, oldest first."""
        with self._connection.cursor(row_factory=class_row(OpenBatch)) as cursor:
            return cursor.execute(_query("open_batches"), {"source_type": source_type}).fetchall()

    def claim(self, source_type: str, settings: SourceSettings, code: CodeVersions | str, at: datetime) -> list[Batch]:
        """Group what is pending or due for a retry into microbatches, as many as `max_in_flight` leaves room for.

        The microbatches of a backfill take no room: what arrives meanwhile must not wait for the end of history. First, items
        that failed under another code version are armed again (at most 5,000 a call). Returns [] while another tick claims for
        the same source. `code`: as text, one version for every item.
        """
        params: Params = {"source_type": source_type, "at": at}
        if not self._lock("try_lock_claim", params):
            return []
        self._rearm(source_type, as_versions(code), at)
        room = settings.max_in_flight - sum(not batch.is_backfill for batch in self.open_batches(source_type))
        if room <= 0:
            return []
        params["limit"] = room * settings.max_items
        candidates = self._select("lock_due", params) + self._select("lock_pending", params)
        plan = plan_batches(candidates, settings, room)
        return self._claim_rows([(new_batch_id(source_type, at), rows) for rows in plan], DatasetIngestion.claimed, at)

    def claim_done(self, source_type: str, scope: Scope, before: datetime, settings: SourceSettings, at: datetime) -> Batch | None:
        """Claim one microbatch of items in `scope` whose last attempt ended before `before`, to be processed again; None at the end.

        With `before` fixed at the start, calling this until None walks through all of history once, and goes on where it
        stopped after a crash: what is claimed, loaded or failed meanwhile is not in the selection any more.
        """
        params = scope_params(source_type, scope, before) | {"limit": settings.max_items}
        plan = plan_batches(self._select("lock_done", params), settings, room=1)
        named = [(new_batch_id(source_type, at) + BACKFILL, rows) for rows in plan]
        batches = self._claim_rows(named, DatasetIngestion.claimed_again, at)
        return batches[0] if batches else None

    def claim_item(self, file_id: UUID, at: datetime) -> Batch:
        """Claim one item alone, whatever has become of it so far, to be processed now; its attempts start over.

        A microbatch that has the item and that nobody works on loses it.

        Raises:
            BatchInUseError: a living worker has the item.
            TerminalError: there is no such item, or none for silver (refused, withdrawn, removed).
        """
        rows = [row for row in self._select("lock_rows", {"file_ids": [file_id]}) if row.bronze_can_promote]
        if not rows:
            raise TerminalError(f"The ledger has no item {file_id} that silver may load. 'medallion ops files' shows what it has.")
        [row] = rows
        if row.status == "claimed" and not self._lock("probe_batch", {"batch_id": row.batch_id}):
            raise BatchInUseError(f"{row.bronze_path} is being loaded by run {row.silver_run_id}. Wait for it, or end it.")
        [batch] = self._claim_rows([(new_batch_id(row.source_type, at) + BACKFILL, rows)], DatasetIngestion.claimed_again, at)
        return batch

    def count_done(self, source_type: str, scope: Scope, before: datetime) -> Extent:
        """Return what `claim_done` with the same arguments still has before it."""
        with self._connection.cursor(row_factory=class_row(Extent)) as cursor:
            [extent] = cursor.execute(_query("count_done"), scope_params(source_type, scope, before)).fetchall()
        return extent

    def start_batch(
        self, batch_id: str, run_id: str, code: CodeVersions | str, settings: SourceSettings, at: datetime
    ) -> list[DatasetIngestion]:
        """Count an attempt for each claimed item of the batch, **commit**, and return those to load.

        Committed before the load, so that an item that kills its worker counts. Items that a run of the batch has begun on and
        left are not begun on again together: they go back, as `release_batch` has it. The batch is this session's alone until
        `leave_batch` or the end of the connection. Returns [] when everything in the batch is resolved.

        Raises:
            BatchInUseError: another session works on the batch.
            TerminalError: called inside a transaction.
        """
        if self._connection.info.transaction_status != TransactionStatus.IDLE:
            raise TerminalError(f"start_batch('{batch_id}') commits; call it outside of any transaction.")
        with self._connection.transaction():
            if not self._lock("try_lock_batch", {"batch_id": batch_id}):
                raise BatchInUseError(f"Microbatch {batch_id} is being worked on by another run. Nothing to do for this one.")
            rows = self._select("lock_batch_rows", {"batch_id": batch_id})
            versions = as_versions(code)
            left = [row for row in rows if row.is_started and (len(rows) > 1 or row.attempts >= settings.max_attempts)]
            died = Ending("died", len(left), left[0].silver_run_id if left else None)
            started = [] if left else [row.started(run_id, versions.of(row.filename), at) for row in rows]
            self._write(started + [row.released(at, settings, died) for row in left], SILVER_COLUMNS)
        return started

    def leave_batch(self, batch_id: str) -> None:
        """Give back what `start_batch` holds; leaves no transaction open behind it. Ending the connection does the same."""
        with self._connection.transaction():
            self._connection.execute(_query("unlock_batch"), {"batch_id": batch_id})

    def save(self, outcomes: Iterable[DatasetIngestion]) -> set[UUID]:
        """Write the outcomes of an attempt (finished or failed), in the transaction of the load; return the file ids written.

        Compare-and-set: a row is written only while it is claimed by the same batch in the same attempt. An id that is missing
        in the answer belongs to somebody else by now, and the load of its rows must be rolled back.
        """
        by_id = {outcome.file_id: outcome for outcome in outcomes}
        current = self._select("lock_rows", {"file_ids": list(by_id)})
        ours = [by_id[row.file_id] for row in current if row.is_held_by(by_id[row.file_id])]
        self._write(ours, SILVER_COLUMNS)
        return {row.file_id for row in ours}

    def is_in_use(self, batch_id: str) -> bool:
        """Whether a living worker has the microbatch. Leaves no transaction open behind it when there was none."""
        with self._connection.transaction():
            return not self._lock("probe_batch", {"batch_id": batch_id})

    def release_batch(self, batch_id: str, settings: SourceSettings, at: datetime, ending: Ending) -> list[DatasetIngestion]:
        """Take back what a run that has ended left claimed: tried again, or dead; return the rows. `ending.items` is counted here.

        Raises:
            BatchInUseError: the run may have ended, its worker has not.
        """
        if not self._lock("probe_batch", {"batch_id": batch_id}):
            raise BatchInUseError(f"Microbatch {batch_id} still has a living worker; it is released when that ends.")
        rows = self._select("lock_batch_rows", {"batch_id": batch_id})
        counted = msgspec.structs.replace(ending, items=len(rows))
        released = [row.released(at, settings, counted) for row in rows]
        self._write(released, SILVER_COLUMNS)
        return released

    def take_over(self, batch_id: str, at: datetime) -> None:
        """Undo the start of a microbatch whose run died, without a charge: another run is about to start it.

        Raises:
            BatchInUseError: it has a living worker.
        """
        if not self._lock("probe_batch", {"batch_id": batch_id}):
            raise BatchInUseError(f"Microbatch {batch_id} has a living worker.")
        self._write([row.unstarted(at) for row in self._select("lock_batch_rows", {"batch_id": batch_id})], SILVER_COLUMNS)

    def claimed_rows(self, batch_id: str) -> list[DatasetIngestion]:
        """Return what of the microbatch has no outcome, in the order of the key."""
        return self._select("batch_rows", {"batch_id": batch_id})

    def requeue(self, which: LedgerFilter, at: datetime) -> int:
        """Set rows back to pending with all their attempts; return how many.

        Without `which.statuses`: the dead and the retrying ones. Pending, claimed and refused rows are never touched, and neither is
        what is withdrawn, removed or about to be.
        """
        wanted = tuple(status for status in which.statuses or ("dead", "retrying") if status in REQUEUABLE)
        if not wanted:
            return 0
        count = 0
        for page in self._pages(msgspec.structs.replace(which, statuses=wanted)):
            rows = self._select("lock_rows", {"file_ids": [row.file_id for row in page]})
            requeued = [row.requeued(at) for row in rows if row.status in wanted and row.bronze_can_promote]
            self._write(requeued, SILVER_COLUMNS)
            count += len(requeued)
        return count

    def read_again(self, file_ids: Iterable[UUID], at: datetime) -> int:
        """Set loaded items back to pending: they may make keys whose rows another item does not make any more; return how many.

        In the transaction that deletes those rows. What is not loaded is read in any case, or never.
        """
        rows = self._select("lock_rows", {"file_ids": list(file_ids)})
        again = [row.requeued(at) for row in rows if row.status == "loaded" and row.bronze_can_promote]
        self._write(again, SILVER_COLUMNS)
        return len(again)

    # -- gold ------------------------------------------------------------------------------------------------------

    def save_gold(self, results: Iterable[GoldResult]) -> None:
        """Note what gold made of files, in gold's transaction; created and updated are added to what is there."""
        by_id = {result.file_id: result for result in results}
        for ids in _chunks(by_id):
            rows = self._select("lock_rows", {"file_ids": ids})
            self._write([row.gold_finished(by_id[row.file_id]) for row in rows], GOLD_COLUMNS)

    # -- reading ---------------------------------------------------------------------------------------------------

    def count_by_status(self) -> list[StatusCount]:
        """Return items and bytes of each source in each status. Reads the whole ledger."""
        with self._connection.cursor(row_factory=class_row(StatusCount)) as cursor:
            return cursor.execute(_query("count_by_status")).fetchall()

    def list_rows(self, which: LedgerFilter, limit: int = 100, after: tuple[datetime, UUID] | None = None) -> Page:
        """Return one page of the rows that match, in order of registration."""
        after_at, after_id = after or (None, None)
        params: Params = {
            "source_type": which.source_type,
            "statuses": _as_list(which.statuses),
            "external_id_like": None if which.external_id is None else like_pattern(which.external_id),
            "file_ids": _as_list(which.file_ids),
            "bronze_path": which.bronze_path,
            "batch_id": which.batch_id,
            "run_id": which.run_id,
            "after_at": after_at,
            "after_id": after_id,
            "limit": limit + 1,
        }
        rows = self._select("list_rows", params)
        shown = rows[:limit]
        return Page(shown, (shown[-1].created_at, shown[-1].file_id) if len(rows) > limit else None)

    def find_row(self, file_id_or_path: UUID | str) -> DatasetIngestion | None:
        """Return the row of one item, by its id or by its directory below the bronze root."""
        if isinstance(file_id_or_path, UUID):
            rows = self.list_rows(LedgerFilter(file_ids=(file_id_or_path,)), limit=1).rows
        else:
            rows = self.list_rows(LedgerFilter(bronze_path=file_id_or_path), limit=1).rows
        return rows[0] if rows else None

    def retained(self, source_type: str) -> Iterator[Retained]:
        """Yield every item of the source whose bytes are there. Reads on while the caller does, in the caller's transaction."""
        with self._connection.cursor("retained", row_factory=class_row(Retained)) as cursor:
            yield from cursor.execute(_query("retained"), {"source_type": source_type})

    # -- the three steps -------------------------------------------------------------------------------------------

    def _rearm(self, source_type: str, code: CodeVersions, at: datetime) -> None:
        # A version that the present code does not have tells by itself. That another recipe is for the file now, while the old one is
        # still there, is looked for once, when the code has changed.
        known, name = code.known, f"rearm {source_type}"
        params: Params = {"source_type": source_type, "limit": REARM_ROWS, "lows": ["", *known], "highs": [*known, _LAST_VERSION]}
        rows = self._select("lock_failed_by_others", params)
        if not is_noted(self._connection, name, code.digest):
            moved = self._failed_by_another_recipe(source_type, code)
            rows += self._select("lock_failed", {"file_ids": moved[:REARM_ROWS]})
            if len(moved) <= REARM_ROWS:
                note_cursor(self._connection, name, code.digest)
        self._write(list({row.file_id: row.requeued(at) for row in rows}.values()), SILVER_COLUMNS)

    def _failed_by_another_recipe(self, source_type: str, code: CodeVersions) -> list[UUID]:
        rows = self._connection.execute(_query("failed_versions"), {"source_type": source_type, "known": code.known})
        return [file_id for file_id, filename, version in rows if version != code.of(filename)]

    def _claim_rows(
        self,
        plan: Iterable[tuple[str, list[DatasetIngestion]]],
        claim: Callable[[DatasetIngestion, str, datetime], DatasetIngestion],
        at: datetime,
    ) -> list[Batch]:
        batches = []
        for batch_id, rows in plan:
            self._write([claim(row, batch_id, at) for row in rows], SILVER_COLUMNS)
            batches.append(Batch(batch_id, len(rows), sum(row.bronze_bytes or 0 for row in rows)))
        return batches

    def _pages(self, which: LedgerFilter) -> Iterator[list[DatasetIngestion]]:
        page = self.list_rows(which, CHUNK_ROWS)
        yield page.rows
        while page.next:
            page = self.list_rows(which, CHUNK_ROWS, page.next)
            yield page.rows

    def _lock(self, name: str, params: Params) -> bool:
        self._require_transaction()
        with self._connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(_query(name), params).fetchone()
        return bool(row and row["is_locked"])

    def _select(self, name: str, params: Params) -> list[DatasetIngestion]:
        with self._connection.cursor(row_factory=class_row(DatasetIngestion)) as cursor:
            return cursor.execute(_query(name), params).fetchall()

    def _insert(self, name: str, rows: list[DatasetIngestion]) -> int:
        self._require_transaction()
        for source_type in sorted({row.source_type for row in rows}):
            self._connection.execute(_query("lock_registration"), {"source_type": source_type})
        return self._connection.execute(_query(name), {"rows": _as_json(rows)}).rowcount

    def _write(self, rows: list[DatasetIngestion], columns: Sequence[str]) -> None:
        self._require_transaction()
        if rows:
            self._connection.execute(_query("write_rows", tuple(columns)), {"rows": _as_json(rows)})

    def _require_transaction(self) -> None:
        connection = self._connection
        if connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
            raise TerminalError("The ledger's locks need a transaction: open one with `connection.transaction()`, or turn autocommit off.")


@cache
def _query(name: str, columns: tuple[LiteralString, ...] = COLUMNS) -> sql.Composed:
    """Return the query `name` with {columns} filled in; queries without the placeholder are not changed."""
    return sql.SQL(load_queries(__package__, "ledger.sql")[name]).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        new_columns=sql.SQL(", ").join(sql.Identifier("new", column) for column in columns),
    )


def _as_list(values: Iterable[object] | None) -> list[object] | None:
    return None if values is None else list(values)


def _as_json(rows: Sequence[DatasetIngestion]) -> str:
    # Sorted: insertions and locks of overlapping sets then happen in one order everywhere.
    return msgspec.json.encode(sorted(rows, key=lambda row: row.file_id)).decode()


def _chunks(values: Iterable[T]) -> Iterator[list[T]]:
    rest = list(values)
    for start in range(0, len(rest), CHUNK_ROWS):
        yield rest[start : start + CHUNK_ROWS]
