"""`BatchState`: the one repository of the transport's tables. What may follow what is in the SQL: each change names the status it expects.

A batch is written down before anything is sent (`reserve`), so that a crash at any later step leaves a row that says what to
look for at the provider. Methods run in the caller's transaction and never commit. Knows no network.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import Any, Literal, LiteralString
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import args_row, class_row, kwargs_row
from psycopg.types.json import Jsonb

from medallion_defs.core.errors import TransientError
from medallion_defs.core.sections import GenaiSettings
from medallion_defs.core.sql import load_queries
from medallion_defs.genai.cost import Mode

Status = Literal["reserved", "submitting", "active", "ended", "held", "collected", "completed", "failed", "cancelled"]


# A NUL in JSON text, not a backslash followed by "u0000".
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


class BudgetReachedError(TransientError):
    """Asking would go beyond a cap in dollars. Nothing was reserved; the records wait."""


class LostBatchError(TransientError):
    """The batch is not in the status that this step starts from: somebody else has taken it further."""


class RequestRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of a batch: what identifies it here and in the answer."""

    record_key: str
    task_id: UUID
    attempt: int
    item_token: str


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A batch to be asked, complete before anything is sent."""

    batch_id: str
    mode: Mode
    task_key: str
    prompt_id: str
    tasks_batch_id: int | None
    model: str
    fingerprint: str
    request_count: int
    estimated_tokens: int
    reserved_usd: Decimal
    deadline_at: datetime


class GenaiBatch(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `ops.active_batches`; the columns' meanings are in `tables.py`."""

    batch_id: str
    created_at: datetime
    status: Status
    mode: Mode
    task_key: str
    prompt_id: str
    tasks_batch_id: int | None
    model: str
    fingerprint: str
    request_count: int
    estimated_tokens: int
    reserved_usd: Decimal
    settled_usd: Decimal | None
    deadline_at: datetime
    submit_attempts: int
    submitted_at: datetime | None
    retry_at: datetime | None
    provider_name: str | None
    provider_state: str | None
    input_file: str | None
    output_file: str | None
    ended_at: datetime | None
    error: str | None

    @property
    def display_name(self) -> str:
        """The job's name at the provider: by it a lost job is found again."""
        return f"medallion-{self.fingerprint[:40]}"

    @property
    def refused_remedy(self) -> str:
        """What a person may do when the provider refuses the batch as a whole."""
        return (
            f"No record failed. Check the model ({self.model}) and the generation settings of the prompt profile; "
            f"'medallion genai cancel {self.batch_id}' gives the batch up, and its records are asked with the profile as it is then."
        )


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the failure log: all that is needed to understand a failure, and to parse the answer again."""

    record_key: str
    batch_id: str
    attempt_number: int
    error_type: str
    error_message: str
    error_traceback: str | None = None
    raw_response_text: str | None = None
    extracted_text: str | None = None
    raw_response_json: Mapping[str, Any] | None = None
    model_name: str
    prompt_name: str | None = None
    prompt_template: str | None = None
    generation_config: Mapping[str, Any] | None = None


class DayCost(msgspec.Struct, frozen=True):
    """What one task cost on one day. `reserved_usd`: of batches whose answers are not read yet."""

    day: date
    task_key: str
    model: str
    mode: Mode
    batches: int
    requests: int
    settled_usd: Decimal
    reserved_usd: Decimal


class Half(msgspec.Struct, frozen=True):
    """One of the two batches that a batch is cut into."""

    batch_id: str
    fingerprint: str
    record_keys: Sequence[str]


class Room(msgspec.Struct, frozen=True):
    """What a cap leaves for today. `committed_usd`: what is spent today, or still reserved."""

    setting: str
    cap_usd: Decimal
    committed_usd: Decimal

    @property
    def usd(self) -> Decimal:
        return self.cap_usd - self.committed_usd

    def less(self, usd: Decimal) -> "Room":
        """Return what is left once `usd` are reserved as well."""
        return Room(self.setting, self.cap_usd, self.committed_usd + usd)

    def refusal(self, usd: Decimal) -> BudgetReachedError:
        """Return why a request that may cost `usd` is not asked."""
        if usd > self.cap_usd:
            return BudgetReachedError(
                f"{self.setting} is {self.cap_usd} USD, and one request may cost {usd:.6f} USD: it can never be asked. Raise the cap in "
                "medallion.yaml, or lower maxOutputTokens in the prompt profile."
            )
        return BudgetReachedError(
            f"{self.setting} is {self.cap_usd} USD: {self.committed_usd:.6f} USD are spent today or still reserved, and the next "
            f"request may cost {usd:.6f} USD. It waits for tomorrow, or for a higher cap in medallion.yaml."
        )


class BatchState:
    """The transport's tables over one connection. What it raises besides the documented is psycopg's."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    # -- before anything is sent -----------------------------------------------------------------------------------

    def read_room(self, task_key: str, settings: GenaiSettings, at: datetime) -> "Room":
        """Return what the narrower cap of the task leaves for today. Holds off other reservations until the transaction ends."""
        self.lock_budget()
        all_usd, task_usd = self.read_committed(task_key, at)
        rooms = [Room("genai.max_usd_per_day", settings.max_usd_per_day, all_usd)]
        if task_key in settings.max_usd_per_task:
            rooms.append(Room(f"genai.max_usd_per_task.{task_key}", settings.max_usd_per_task[task_key], task_usd))
        return min(rooms, key=lambda room: room.usd)

    def read_committed(self, task_key: str, at: datetime) -> tuple[Decimal, Decimal]:
        """Return the dollars that are spent on the day or still reserved, of all tasks and of one."""
        day = at.replace(hour=0, minute=0, second=0, microsecond=0)
        row = self._connection.execute(_query("committed_usd"), {"task_key": task_key, "day": day}).fetchone()
        return row or (Decimal(0), Decimal(0))

    def lock_budget(self) -> None:
        """Hold off every other reservation until the transaction ends. Taken before the records, so that no two wait for each other."""
        self._connection.execute(_query("lock_budget"))

    def claim_records(self, batch_id: str, record_keys: Sequence[str]) -> set[str]:
        """Take records for a batch; return those that were free. The others are in flight elsewhere."""
        rows = self._connection.execute(_query("claim_records"), {"batch_id": batch_id, "record_keys": list(record_keys)})
        return {key for (key,) in rows}

    def reserve(self, intent: Intent, records: Iterable[RequestRecord], at: datetime) -> None:
        """Write down a batch whose request file is on the disk."""
        self._connection.execute(_query("insert_batch"), msgspec.structs.asdict(intent) | {"at": at})
        with self._connection.cursor() as cursor, cursor.copy(_query("copy_record_keys")) as copy:
            for record in records:
                copy.write_row((intent.batch_id, record.record_key, record.task_id, record.attempt, record.item_token))

    def raise_reserve(self, batch_id: str, reserved_usd: Decimal, at: datetime) -> None:
        """Reserve more for a batch that is about to be sent."""
        self._move("raise_reserve", batch_id, reserved_usd=reserved_usd, at=at)

    def transaction(self) -> AbstractContextManager[object]:
        """Open a transaction on the connection."""
        return self._connection.transaction()

    # -- on the way ------------------------------------------------------------------------------------------------

    def read(self, batch_id: str) -> GenaiBatch | None:
        with self._connection.cursor(row_factory=class_row(GenaiBatch)) as cursor:
            return cursor.execute(_query("read_batch"), {"batch_id": batch_id}).fetchone()

    def list_batches(self, *statuses: Status, limit: int = 1_000) -> list[GenaiBatch]:
        """Return batches in these statuses, oldest first."""
        with self._connection.cursor(row_factory=class_row(GenaiBatch)) as cursor:
            return cursor.execute(_query("list_batches"), {"statuses": list(statuses) or None, "limit": limit}).fetchall()

    def list_latest(self, task_key: str | None, limit: int) -> list[GenaiBatch]:
        """Return the latest batches, newest first."""
        with self._connection.cursor(row_factory=class_row(GenaiBatch)) as cursor:
            return cursor.execute(_query("list_latest"), {"task_key": task_key, "limit": limit}).fetchall()

    def read_statuses(self, batch_ids: Sequence[str]) -> dict[str, Status]:
        """Return the status of each of these batches that there is."""
        return dict(self._connection.execute(_query("read_statuses"), {"batch_ids": list(batch_ids)}).fetchall())

    def read_records(self, batch_id: str) -> dict[str, RequestRecord]:
        """Return the records of a batch by key."""
        with self._connection.cursor(binary=True, row_factory=args_row(RequestRecord)) as cursor:
            return {row.record_key: row for row in cursor.execute(_query("read_records"), {"batch_id": batch_id})}

    @contextmanager
    def alone(self, batch_id: str) -> Iterator[bool]:
        """Whether this session is the only one at the batch: held until the block, or the connection, ends."""
        row = self._connection.execute(_query("try_lock_batch"), {"batch_id": batch_id}).fetchone()
        is_ours = bool(row and row[0])
        try:
            yield is_ours
        finally:
            if is_ours and not self._connection.closed:
                self._connection.execute(_query("unlock_batch"), {"batch_id": batch_id})

    def mark_submitting(self, batch_id: str, input_file: str | None, at: datetime) -> None:
        """A create call over `input_file`, or online calls, follow. Commit before they are made."""
        self._move("mark_submitting", batch_id, input_file=input_file, at=at)

    def mark_refused(self, batch_id: str, at: datetime) -> None:
        """The provider refused: there is no job, and the batch can be sent again."""
        self._move("mark_refused", batch_id, at=at)

    def postpone(self, batch_id: str, error: str, retry_at: datetime, at: datetime) -> None:
        """Something before the create call failed; what is known of a job stays as it was."""
        self._move("postpone", batch_id, error=error, retry_at=retry_at, at=at)

    def note_unknown(self, batch_id: str, error: str, retry_at: datetime, at: datetime) -> None:
        """Nobody knows whether the create call made a job: it is looked for before another is made."""
        self._move("note_unknown", batch_id, error=error, retry_at=retry_at, at=at)

    def mark_active(self, batch_id: str, provider_name: str, deadline_at: datetime, at: datetime) -> None:
        self._move("mark_active", batch_id, provider_name=provider_name, deadline_at=deadline_at, at=at)

    def note_state(self, batch_id: str, provider_state: str, at: datetime) -> None:
        self._connection.execute(_query("note_state"), {"batch_id": batch_id, "provider_state": provider_state, "at": at})

    def mark_ended(self, batch_id: str, provider_state: str, output_file: str | None, error: str | None, at: datetime) -> None:
        self._move("mark_ended", batch_id, provider_state=provider_state, output_file=output_file, error=error, at=at)

    def note_unfound(self, batch_id: str, provider_state: str, error: str, at: datetime) -> None:
        """The job is over, and its answers were not found; from the first such look on it is looked for only so long."""
        self._move("note_unfound", batch_id, provider_state=provider_state, error=error, at=at)

    def hold(self, batch_id: str, provider_state: str | None, error: str, at: datetime) -> None:
        """The answers exist, for all that is known, and cannot be had: a person decides. Records and dollars stay as they are."""
        self._move("hold", batch_id, provider_state=provider_state, error=error, at=at)

    def resume(self, batch_id: str, status: Literal["active", "ended"], at: datetime) -> None:
        """Look again at a batch that was held: at its job, or only at the answers that are on the disk."""
        self._move("resume", batch_id, status=status, at=at)

    def cut(self, batch: GenaiBatch, halves: Iterable[Half], error: str, at: datetime) -> None:
        """Let two reserved batches take the place, the records and the dollars of one that the provider has not."""
        with self._connection.transaction():
            for half in halves:
                shared = {"whole": batch.batch_id, "record_keys": list(half.record_keys), "at": at}
                params = {"batch_id": half.batch_id, "fingerprint": half.fingerprint, **shared}
                self._connection.execute(_query("insert_half"), params)
                self._connection.execute(_query("move_records"), params)
            self.give_up(batch.batch_id, batch.status, None, error, at)

    def hurry(self, batch_id: str, at: datetime) -> None:
        """Let the deadline be now: the job is to be cancelled."""
        self._move("hurry", batch_id, at=at)

    def mark_collected(self, batch_id: str, at: datetime) -> None:
        self._move("mark_collected", batch_id, at=at)

    def give_up(self, batch_id: str, status: Status, settled_usd: Decimal | None, error: str | None, at: datetime) -> None:
        """Give up a batch that is in `status`; its records are free again, and its dollars but for `settled_usd`."""
        self._move("mark_cancelled", batch_id, status=status, settled_usd=settled_usd, error=error, at=at)
        self.release_records(batch_id)

    # -- with the answers ------------------------------------------------------------------------------------------

    def settle(self, batch_id: str, settled_usd: Decimal, *, has_results: bool, at: datetime) -> None:
        """Note what the answers cost, free the records, and close the batch. Doing it again writes the same."""
        self.release_records(batch_id)
        self._move("mark_done", batch_id, has_results=has_results, settled_usd=settled_usd, at=at)

    def release_records(self, batch_id: str, record_keys: Sequence[str] | None = None) -> None:
        """Let others ask about these records of a batch; by default about all."""
        keys = None if record_keys is None else list(record_keys)
        self._connection.execute(_query("release_records"), {"batch_id": batch_id, "record_keys": keys})

    def count_failures(self, failed: Mapping[str, UUID], at: datetime) -> dict[str, int]:
        """Count one more failure of each record; return the counts."""
        params = {"record_keys": list(failed), "task_ids": list(failed.values()), "at": at}
        return dict(self._connection.execute(_query("count_failures"), params).fetchall())

    def clear_failures(self, record_keys: Sequence[str]) -> int:
        """Forget the failures of records: they have succeeded, or a person wants them tried again; return how many had any."""
        return self._connection.execute(_query("clear_failures"), {"record_keys": list(record_keys)}).rowcount

    def clear_answered(self, batch_id: str, failed: Iterable[str]) -> None:
        """Forget the failures of a batch's records, but of those that failed."""
        self._connection.execute(_query("clear_answered"), {"batch_id": batch_id, "failed": list(failed)})

    def log_failures(self, failures: Iterable[Failure], at: datetime) -> None:
        """Add lines to the failure log; those that are there already stay as they are."""
        rows = [{name: _storable(value) for name, value in msgspec.structs.asdict(failure).items()} | {"at": at} for failure in failures]
        with self._connection.cursor() as cursor:
            cursor.executemany(_query("insert_failure"), rows)

    def read_failures(self, records: Mapping[str, UUID]) -> dict[str, int]:
        """Return the failures of those records that have any for the task they are asked for now."""
        params = {"record_keys": list(records), "task_ids": list(records.values())}
        return dict(self._connection.execute(_query("read_failures"), params).fetchall())

    def read_failure_logs(
        self, *, batch_id: str | None = None, record_key: str | None = None, error_type: str | None = None, limit: int = 100
    ) -> list[Failure]:
        """Return lines of the failure log, latest first."""
        params = {"batch_id": batch_id, "record_key": record_key, "error_type": error_type, "limit": limit}
        with self._connection.cursor(row_factory=kwargs_row(Failure)) as cursor:
            return cursor.execute(_query("read_failure_logs"), params).fetchall()

    def read_parsed_batches(self, task_key: str) -> list[str]:
        """Return the batches of a task whose answers were read, oldest first."""
        return [batch_id for (batch_id,) in self._connection.execute(_query("read_parsed_batches"), {"task_key": task_key})]

    def cost_by_day(self, limit: int) -> list[DayCost]:
        """Return what was spent by day, task, model and mode, latest first."""
        with self._connection.cursor(row_factory=class_row(DayCost)) as cursor:
            return cursor.execute(_query("cost_by_day"), {"limit": limit}).fetchall()

    def _move(self, query: str, batch_id: str, **params: object) -> None:
        if self._connection.execute(_query(query), {"batch_id": batch_id, **params}).rowcount == 0:
            raise LostBatchError(f"Batch {batch_id} is not where '{query}' starts from: another process has taken it further.")


def _storable(value: Any) -> Any:
    """Return a value as Postgres takes it: JSON objects as jsonb, and no NUL anywhere."""
    if isinstance(value, Mapping):
        return Jsonb(value, dumps=lambda json_value: _NUL.sub(r"\1", json.dumps(json_value)))
    return value.replace("\0", "") if isinstance(value, str) else value


@cache
def _queries() -> Mapping[str, LiteralString]:
    return load_queries(__package__, "state.sql")


def _query(name: str) -> LiteralString:
    return _queries()[name]
