"""One claimed batch: its items with what they need, and its events. What process and asking share.

Every write is in one transaction with a renewal of the lease, so that a worker whose batch another has taken over writes nothing.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import dict_row

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.sections import TaskSettings
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.labeling.contract import WorkItem
from medallion_defs.labeling.engine import leases
from medallion_defs.labeling.engine.leases import Lease
from medallion_defs.labeling.engine.outcomes import Event, MissingDependencyError, Outcomes, Tried
from medallion_defs.labeling.prompts import PromptProfile
from medallion_defs.labeling.registry import Task
from medallion_defs.storage.hashed import DamagedBronzeItemError
from medallion_defs.storage.readers import open_reader

_SQL = load_queries("medallion_defs.labeling.engine", "batch.sql")
_NAMED_BY_CONTENT = re.compile(r"([0-9a-f]{64})\.[a-z0-9]+")
_ATTEMPT_TYPES = ("uuid", "text", "int8", "int4", "text", "text")


class BatchItem(NamedTuple):
    """One row of `tasks_todo` in a claimed batch that has no outcome. `attempts`: begun so far, whoever began them."""

    task_id: UUID
    media_type: str
    subject_table: str
    subject_key: str
    file_id: UUID
    file_hash: str
    depends_on: list[UUID] | None
    attempts: int
    has_died: bool

    @property
    def attempt(self) -> int:
        """The attempt that its last outcome belongs to."""
        return self.attempts


class ClaimedBatch:
    """A batch and the lease on it, over a connection in autocommit mode: what writes more than once opens its transaction itself.

    Attributes:
        limits: how often an item may be tried, and how long the lease holds.
        outcomes: makes the batch's events.
        counts: events that were written, by kind; attempts are not among them.
    """

    def __init__(
        self, connection: psycopg.Connection, settings: Settings, task: Task, lease: Lease, limits: TaskSettings | None = None
    ) -> None:
        self.connection = connection
        self.settings = settings
        self.task = task
        self.lease = lease
        self.limits = limits or settings.task(task.task_key)
        self.outcomes = Outcomes(task.task_key, lease.batch_id, lease.worker, task.code_version, task.spec.output_model, self.limits)
        self.counts: Counter[str] = Counter()

    def read_items(self) -> list[BatchItem]:
        """Return what of the batch has no outcome yet, whoever began with it."""
        with self.connection.cursor(binary=True) as cursor:
            rows = cursor.execute(_SQL["read_items"], {"batch_id": self.lease.batch_id}).fetchall()
        return [BatchItem._make(row) for row in rows]

    def read_profile(self) -> PromptProfile:
        """Return the prompt that the batch was planned with.

        Raises:
            ConfigurationError: it is not in the database any more.
        """
        row = self.connection.execute(_SQL["read_profile"], {"prompt_id": self.lease.prompt_id}).fetchone()
        if row is None:
            raise ConfigurationError(
                f"Batch {self.lease.batch_id} was planned with prompt {self.lease.prompt_id}, which silver.tasks_prompts lacks."
            )
        return PromptProfile.model_validate(row[0])

    def gather(self, part: Sequence[BatchItem]) -> tuple[list[WorkItem], list[Event]]:
        """Read what the items need; return those that can be tried, and the outcomes of those that cannot."""
        inputs = self._read_inputs(part)
        outputs = self._read_dependencies(part)
        items, refused = [], []
        for row in part:
            values = inputs.get(row.subject_key, {})
            item = self._work_item(row, values, outputs)
            if values.get("file_hash") != row.file_hash:
                refused.append(self.outcomes.withdrawn(row))
            elif missing := [str(task_id) for task_id in row.depends_on or () if task_id not in outputs]:
                refused.append(self.outcomes.failed(item, MissingDependencyError(f"No result (any more) of task {', '.join(missing)}.")))
            else:
                try:
                    items.append(msgspec.structs.replace(item, sha256=input_sha256(self.settings, values)))
                except DamagedBronzeItemError as error:
                    refused.append(self.outcomes.failed(item, error))
        return items, refused

    def _read_inputs(self, part: Sequence[BatchItem]) -> dict[str, dict[str, Any]]:
        keys = sorted({item.subject_key for item in part})
        with self.connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(self.task.spec.subjects.inputs, {"subject_keys": keys})
            names = {column.name for column in cursor.description or ()}
            if not {"subject_key", "file_hash"} <= names:
                raise ConfigurationError(
                    f"Task {self.task.task_key}: the inputs query of its subjects '{self.task.spec.subjects.name}' must return "
                    "the columns subject_key and file_hash."
                )
            return {row["subject_key"]: row for row in cursor.fetchall()}

    def _read_dependencies(self, part: Sequence[BatchItem]) -> dict[UUID, Mapping[str, Any]]:
        needed = sorted({task_id for item in part for task_id in item.depends_on or ()})
        return dict(self.connection.execute(_SQL["read_dependencies"], {"task_ids": needed}).fetchall()) if needed else {}

    def _work_item(self, row: BatchItem, inputs: Mapping[str, Any], outputs: Mapping[UUID, Mapping[str, Any]]) -> WorkItem:
        return WorkItem(
            task_id=row.task_id,
            task_key=self.task.task_key,
            media_type=row.media_type,
            file_id=row.file_id,
            file_hash=row.file_hash,
            subject_table=row.subject_table,
            subject_key=row.subject_key,
            attempt=row.attempts + 1,
            path=input_path(self.settings, inputs),
            inputs=inputs,
            dependencies={task_id: outputs[task_id] for task_id in row.depends_on or () if task_id in outputs},
        )

    def begin(self, items: Sequence[Tried]) -> None:
        """Write down that the items are tried now: an item that takes its worker down with it counts."""
        if not items:
            return
        lease = self.lease
        attempts = ((item.task_id, lease.task_key, lease.batch_id, item.attempt, "attempt", lease.worker) for item in items)
        with self.connection.transaction():
            leases.renew(self.connection, lease, self.limits.lease_seconds)
            _copy(self.connection, _SQL["begin_attempts"], attempts, _ATTEMPT_TYPES)

    def write(self, events: Sequence[Event]) -> None:
        """Write events in a transaction of their own, or within the caller's.

        Raises:
            LostLeaseError: another worker took the batch over.
        """
        if not events:
            return
        with self.connection.transaction():
            leases.renew(self.connection, self.lease, self.limits.lease_seconds)
            self.append(events)

    def forget_attempts(self) -> list[BatchItem]:
        """Forget what this worker began and did not end; return what has no outcome.

        Raises:
            LostLeaseError: another worker took the batch over.
        """
        with self.connection.transaction():
            # The renewal waits for what the dead child was about to commit.
            leases.renew(self.connection, self.lease, self.limits.lease_seconds)
            leases.forget_attempts(self.connection, self.lease)
            return self.read_items()

    def fail(self, item: BatchItem, error: BaseException) -> None:
        """Write that the item was tried and failed.

        Raises:
            LostLeaseError: another worker took the batch over.
        """
        tried = item._replace(attempts=item.attempts + 1)
        with self.connection.transaction():
            self.begin([tried])
            self.append([self.outcomes.failed(tried, error)])

    def count_outcomes(self) -> Counter[str]:
        """Return how many events of each kind this worker wrote, whoever wrote them for it."""
        rows = self.connection.execute(_SQL["count_outcomes"], {"batch_id": self.lease.batch_id, "worker": self.lease.worker}).fetchall()
        return Counter(dict(rows))

    def append(self, events: Sequence[Event]) -> None:
        """Write events in the caller's transaction, which holds the lease."""
        if events:
            copy_events(self.connection, events)
            self.counts.update(event.event for event in events)


def input_path(settings: Settings, inputs: Mapping[str, Any]) -> Path | None:
    """Return where the bytes of a subject are, by the columns of its inputs; None when they are in the inputs themselves."""
    if inputs.get("derived_path"):
        return settings.derived_path / str(inputs["derived_path"])
    if inputs.get("bronze_path") and inputs.get("artifact"):
        return settings.bronze_path / str(inputs["bronze_path"]) / str(inputs["artifact"])
    return None


def input_sha256(settings: Settings, inputs: Mapping[str, Any]) -> str | None:
    """Return the sha256 that the bytes at `input_path` were published with; None where nothing says it.

    Raises:
        DamagedBronzeItemError: the item's own description cannot be read, or does not name the file.
    """
    if inputs.get("derived_path"):
        name = _NAMED_BY_CONTENT.fullmatch(PurePath(str(inputs["derived_path"])).name)
        return name[1] if name else None
    if inputs.get("bronze_path") and inputs.get("artifact"):
        return open_reader(settings).artifact(str(inputs["bronze_path"]), str(inputs["artifact"])).sha256
    return None


def copy_events(connection: psycopg.Connection, events: Iterable[Event]) -> None:
    """Append events to `silver.tasks_status`, in the caller's transaction."""
    _copy(connection, _SQL["copy_events"], events)


def _copy(connection: psycopg.Connection, query: LiteralString, rows: Iterable[Sequence[object]], types: Sequence[str] = ()) -> None:
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        if types:
            copy.set_types(types)
        for row in rows:
            copy.write_row(row)
