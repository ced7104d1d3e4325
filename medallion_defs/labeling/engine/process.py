"""Process: take one batch, call the task's processor, write what became of each item. Knows no Dagster.

Two kinds of transactions, each guarded by the lease: the attempts, committed before the processor is called, so that an item
that kills its worker counts; and the outcomes, in chunks as they come, so that another worker that takes the batch over does none
of them again. With the last of them the batch is given on to consolidate.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.labeling.contract import ProcessingResult, Processor, TaskContext, WorkItem
from medallion_defs.labeling.engine import leases
from medallion_defs.labeling.engine.leases import Lease
from medallion_defs.labeling.engine.outcomes import (
    DuplicateResultError,
    Event,
    ForeignResultError,
    MissingDependencyError,
    MissingResultError,
    Outcomes,
    WorkerDiedError,
    cut_slices,
)  # fmt: skip
from medallion_defs.labeling.prompts import PromptProfile
from medallion_defs.labeling.registry import Task

_SQL = load_queries("medallion_defs.labeling.engine", "process.sql")
_CHUNK_EVENTS = 2_000
_CHUNK_SECONDS = 1.0
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


class BatchRun:
    """The work on one claimed batch, over a connection in autocommit mode: what writes more than once opens its transaction itself."""

    def __init__(self, connection: psycopg.Connection, settings: Settings, task: Task, lease: Lease) -> None:
        self._connection = connection
        self._settings = settings
        self._task = task
        self._lease = lease
        self._limits = settings.task(task.task_key)
        self._outcomes = Outcomes(task.task_key, lease.batch_id, lease.worker, task.code_version, task.spec.output_model, self._limits)
        self._counts: Counter[str] = Counter()

    def run(self) -> Counter[str]:
        """Bring every item of the batch to an outcome; return how many of each kind were written.

        Raises:
            LostLeaseError: another worker took the batch over.
        """
        spent, slices = cut_slices(self._read_items(), self._limits.max_attempts)
        self._write([self._outcomes.failed(item, _died(item)) for item in spent])
        context = TaskContext(self._read_profile().parameters, self._derived_folder)
        rest: list[Event] = []
        for part in slices:
            self._write(rest)
            rest = self._process(part, context)
        with self._connection.transaction():
            leases.finish(self._connection, self._lease)
            self._append(rest)
        return self._counts

    def _process(self, part: Sequence[BatchItem], context: TaskContext) -> list[Event]:
        """Try the items; return those of their outcomes that are not written yet."""
        items, refused = self._gather(part)
        self._write(refused)
        self._begin(items)
        return self._write_chunks(answer(self._task.processor, items, context, self._outcomes))

    def _read_items(self) -> list[BatchItem]:
        with self._connection.cursor(binary=True) as cursor:
            rows = cursor.execute(_SQL["read_items"], {"batch_id": self._lease.batch_id}).fetchall()
        return [BatchItem._make(row) for row in rows]

    def _read_profile(self) -> PromptProfile:
        row = self._connection.execute(_SQL["read_profile"], {"prompt_id": self._lease.prompt_id}).fetchone()
        if row is None:
            raise ConfigurationError(
                f"Batch {self._lease.batch_id} was planned with prompt {self._lease.prompt_id}, which silver.tasks_prompts lacks."
            )
        return PromptProfile.model_validate(row[0])

    def _gather(self, part: Sequence[BatchItem]) -> tuple[list[WorkItem], list[Event]]:
        """Read what the items need; return those that can be tried, and the outcomes of those that cannot."""
        inputs = self._read_inputs(part)
        outputs = self._read_dependencies(part)
        items, refused = [], []
        for row in part:
            values = inputs.get(row.subject_key, {})
            item = self._work_item(row, values, outputs)
            if values.get("file_hash") != row.file_hash:
                refused.append(self._outcomes.withdrawn(row))
            elif missing := [str(task_id) for task_id in row.depends_on or () if task_id not in outputs]:
                refused.append(self._outcomes.failed(item, MissingDependencyError(f"No result (any more) of task {', '.join(missing)}.")))
            else:
                items.append(item)
        return items, refused

    def _read_inputs(self, part: Sequence[BatchItem]) -> dict[str, dict[str, Any]]:
        keys = sorted({item.subject_key for item in part})
        with self._connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(self._task.spec.subjects.inputs, {"subject_keys": keys})
            names = {column.name for column in cursor.description or ()}
            if not {"subject_key", "file_hash"} <= names:
                raise ConfigurationError(
                    f"Task {self._task.task_key}: the inputs query of its subjects '{self._task.spec.subjects.name}' must return "
                    "the columns subject_key and file_hash."
                )
            return {row["subject_key"]: row for row in cursor.fetchall()}

    def _read_dependencies(self, part: Sequence[BatchItem]) -> dict[UUID, Mapping[str, Any]]:
        needed = sorted({task_id for item in part for task_id in item.depends_on or ()})
        return dict(self._connection.execute(_SQL["read_dependencies"], {"task_ids": needed}).fetchall()) if needed else {}

    def _work_item(self, row: BatchItem, inputs: Mapping[str, Any], outputs: Mapping[UUID, Mapping[str, Any]]) -> WorkItem:
        return WorkItem(
            task_id=row.task_id,
            task_key=self._task.task_key,
            media_type=row.media_type,
            file_id=row.file_id,
            file_hash=row.file_hash,
            subject_table=row.subject_table,
            subject_key=row.subject_key,
            attempt=row.attempts + 1,
            path=input_path(self._settings, inputs),
            inputs=inputs,
            dependencies={task_id: outputs[task_id] for task_id in row.depends_on or () if task_id in outputs},
        )

    def _derived_folder(self, task_id: UUID) -> Path:
        folder = self._settings.derived_path / self._task.task_key / str(task_id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _begin(self, items: Sequence[WorkItem]) -> None:
        if not items:
            return
        lease = self._lease
        attempts = ((item.task_id, lease.task_key, lease.batch_id, item.attempt, "attempt", lease.worker) for item in items)
        with self._connection.transaction():
            leases.renew(self._connection, lease, self._limits.lease_seconds)
            _copy(self._connection, _SQL["begin_attempts"], attempts, _ATTEMPT_TYPES)

    def _write_chunks(self, events: Iterable[Event]) -> list[Event]:
        """Write events when there are many, or a second has passed: what is slow to make is written as it comes. Return the rest."""
        chunk: list[Event] = []
        started = perf_counter()
        for event in events:
            chunk.append(event)
            if len(chunk) >= _CHUNK_EVENTS or perf_counter() - started >= _CHUNK_SECONDS:
                self._write(chunk)
                chunk, started = [], perf_counter()
        return chunk

    def _write(self, events: Sequence[Event]) -> None:
        if not events:
            return
        with self._connection.transaction():
            leases.renew(self._connection, self._lease, self._limits.lease_seconds)
            self._append(events)

    def _append(self, events: Sequence[Event]) -> None:
        if events:
            copy_events(self._connection, events)
            self._counts.update(event.event for event in events)


def input_path(settings: Settings, inputs: Mapping[str, Any]) -> Path | None:
    """Return where the bytes of a subject are, by the columns of its inputs; None when they are in the inputs themselves."""
    if inputs.get("derived_path"):
        return settings.derived_path / str(inputs["derived_path"])
    if inputs.get("bronze_path") and inputs.get("artifact"):
        return settings.bronze_path / str(inputs["bronze_path"]) / str(inputs["artifact"])
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


def answer(processor: Processor, items: Sequence[WorkItem], context: TaskContext, outcomes: Outcomes) -> Iterator[Event]:
    """Call the processor; yield an event for each item, whatever the processor does.

    When it raises, the items it has not answered are tried once more, each alone, so that only the culprit fails.
    """
    waiting = {item.task_id: item for item in items}
    answered: dict[UUID, WorkItem | None] = {}
    failure: Exception | None = None
    try:
        for result in processor(items, context) if items else ():
            yield from _judge(result, waiting, answered, outcomes)
    except Exception as error:  # noqa: BLE001 - a task's own code may raise anything; all of it becomes an event, and none is hidden
        failure = error
    if failure and len(waiting) > 1:
        for item in waiting.values():
            yield from answer(processor, [item], context, outcomes)
    elif failure and not waiting:
        yield outcomes.discarded(items[-1].task_id, failure)
    else:
        missing = MissingResultError("The processor ended without a result for the item.")
        yield from (outcomes.failed(item, failure or missing) for item in waiting.values())


def _judge(
    result: ProcessingResult, waiting: dict[UUID, WorkItem], answered: dict[UUID, WorkItem | None], outcomes: Outcomes
) -> Iterator[Event]:
    if item := waiting.get(result.task_id):
        yield outcomes.of_result(item, result)
        answered[item.task_id] = waiting.pop(item.task_id)
    elif item := answered.get(result.task_id):
        answered[item.task_id] = None  # a third answer adds nothing
        yield outcomes.failed(item, DuplicateResultError("The processor answered the item more than once. No answer is kept."))
    elif result.task_id not in answered:
        foreign = ForeignResultError(f"The processor answered task {result.task_id}, which is not in the batch. The answer is not kept.")
        yield outcomes.discarded(result.task_id, foreign)


def _died(item: BatchItem) -> WorkerDiedError:
    return WorkerDiedError(
        f"The worker ended in the middle of the item in {item.attempts} attempts, the last of them with this item alone."
    )
