"""Process: take one batch, call the task's processor, write what became of each item. Knows no Dagster.

The processor runs in a child process, over a connection of the child's own: an item may end that (`core/supervision.py`).
Two kinds of transactions, each guarded by the lease: the attempts, committed before the processor is called, so that an item
that kills its worker counts; and the outcomes, in chunks as they come, so that another worker that takes the batch over does none
of them again. With the last of them the batch is given on to consolidate.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import NamedTuple
from uuid import UUID

from medallion_defs.core import db
from medallion_defs.core.errors import MedallionError
from medallion_defs.core.isolation import Note, Worker
from medallion_defs.core.settings import Settings
from medallion_defs.core.supervision import Budget, Supervised, WorkerDiedError
from medallion_defs.labeling.contract import ProcessingResult, Processor, TaskContext, WorkItem
from medallion_defs.labeling.engine import leases
from medallion_defs.labeling.engine.batch import BatchItem, ClaimedBatch
from medallion_defs.labeling.engine.outcomes import (
    DuplicateResultError,
    Event,
    ForeignResultError,
    MissingResultError,
    Outcomes,
    cut_slices,
)  # fmt: skip
from medallion_defs.labeling.registry import Task
from medallion_defs.storage.hashed import ChangedBytesError
from medallion_defs.storage.local.files import check_file

_CHUNK_EVENTS = 2_000
_CHUNK_SECONDS = 1.0


class Portion(NamedTuple):
    """What a child is asked to do: a claimed batch, or those of its items that have these ids."""

    lease: leases.Lease
    task_ids: Sequence[UUID] | None


Processing = Worker[Portion, Counter[str]]


def budget_of(settings: Settings, task: Task) -> Budget:
    """Return how long one item of the task may take."""
    return Budget(settings.task(task.task_key).max_item_seconds, f"tasks.{task.task_key}.max_item_seconds")


def start_processing(settings: Settings, task: Task) -> Processing:
    """Return the worker in which the task's own code runs, batch after batch."""

    @contextmanager
    def start(note: Note) -> Iterator[Callable[[Portion], Counter[str]]]:
        with db.connect(settings, "medallion_gold", autocommit=True) as connection:
            yield lambda portion: BatchRun(ClaimedBatch(connection, settings, task, portion.lease), note).run(portion.task_ids)

    return Worker(start, budget_of(settings, task).seconds)


def process_batch(batch: ClaimedBatch, worker: Processing) -> Counter[str]:
    """Bring every item of the batch to an outcome; return how many of each kind were written.

    Raises:
        LostLeaseError: another worker took the batch over.
        DyingWorkersError: child after child died.
    """
    left: dict[UUID, BatchItem] = {}

    def read_left() -> Mapping[UUID, str]:
        left.clear()
        left.update({item.task_id: item for item in batch.forget_attempts()})
        return {task_id: f"{batch.task.task_key} of {item.subject_key}" for task_id, item in left.items()}

    def fail(task_id: UUID, error: MedallionError) -> None:
        batch.fail(left[task_id], error)

    supervised = Supervised(
        str(batch.lease.batch_id),
        budget_of(batch.settings, batch.task),
        lambda task_ids: worker.do(Portion(batch.lease, task_ids)),
        read_left,
        fail,
    )
    counts = sum(supervised.work(), Counter[str]())
    if not supervised.deaths:
        return counts
    leases.finish(batch.connection, batch.lease)
    return batch.count_outcomes()


class BatchRun:
    """The work of the task's own code on one claimed batch."""

    def __init__(self, batch: ClaimedBatch, note: Note) -> None:
        self._batch = batch
        self._note = note

    def run(self, task_ids: Sequence[UUID] | None = None) -> Counter[str]:
        """Bring every item of the batch to an outcome, and give the batch on; return how many of each kind were written.

        With `task_ids`, only these items, and the batch stays.

        Raises:
            LostLeaseError: another worker took the batch over.
        """
        batch = self._batch
        spent, slices = cut_slices(self._read_items(task_ids), batch.limits.max_attempts)
        batch.write([batch.outcomes.failed(item, _died(item)) for item in spent])
        context = TaskContext(batch.read_profile().parameters, self._derived_folder, lambda item: self._note.begin(item.task_id))
        rest: list[Event] = []
        for part in slices:
            batch.write(rest)
            rest = self._process(part, context)
        if task_ids is not None:
            batch.write(rest)
            return batch.counts
        with batch.connection.transaction():
            leases.finish(batch.connection, batch.lease)
            batch.append(rest)
        return batch.counts

    def _read_items(self, task_ids: Sequence[UUID] | None) -> list[BatchItem]:
        items = self._batch.read_items()
        if task_ids is None:
            return items
        asked = set(task_ids)
        return [item for item in items if item.task_id in asked]

    def _process(self, part: Sequence[BatchItem], context: TaskContext) -> list[Event]:
        """Try the items; return those of their outcomes that are not written yet."""
        items, refused = self._batch.gather(part)
        items, changed = self._without_changed(items)
        self._batch.write([*refused, *changed])
        self._batch.begin(items)
        return self._write_chunks(answer(self._batch.task.processor, items, context, self._batch.outcomes, self._note))

    def _without_changed(self, items: Sequence[WorkItem]) -> tuple[list[WorkItem], list[Event]]:
        """Hash the files that the processor is to open; return the items whose bytes are right, and the outcomes of the others."""
        right, changed = [], []
        for item in items:
            try:
                # Of a file that cannot be read at all the processor says so, in its own words.
                with suppress(OSError):
                    check_input(item, self._note)
                right.append(item)
            except ChangedBytesError as error:
                changed.append(self._batch.outcomes.failed(item, error))
        self._note.end()
        return right, changed

    def _derived_folder(self, task_id: UUID) -> Path:
        folder = self._batch.settings.derived_path / self._batch.task.task_key / str(task_id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _write_chunks(self, events: Iterable[Event]) -> list[Event]:
        """Write events when there are many, or a second has passed: what is slow to make is written as it comes. Return the rest."""
        chunk: list[Event] = []
        started = perf_counter()
        for event in events:
            chunk.append(event)
            if len(chunk) >= _CHUNK_EVENTS or perf_counter() - started >= _CHUNK_SECONDS:
                self._note.end()
                self._batch.write(chunk)
                chunk, started = [], perf_counter()
        return chunk


def check_input(item: WorkItem, note: Note) -> None:
    """Hash the item's file, where it has one.

    Raises:
        ChangedBytesError: its bytes are not those that were published.
        OSError: it cannot be read.
    """
    if item.path is not None and item.sha256 is not None:
        note.begin(item.task_id)
        check_file(item.path, item.sha256)


def answer(processor: Processor, items: Sequence[WorkItem], context: TaskContext, outcomes: Outcomes, note: Note) -> Iterator[Event]:
    """Call the processor; yield an event for each item, whatever the processor does.

    When it raises, the items it has not answered are tried once more, each alone, so that only the culprit fails.
    """
    waiting = {item.task_id: item for item in items}
    answered: dict[UUID, WorkItem | None] = {}
    failure: BaseException | None = None
    try:
        for result in _call(processor, items, context, note) if items else ():
            yield from _judge(result, waiting, answered, outcomes)
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - a task's own code may raise anything; all of it becomes an event, and none is hidden
        failure = error
    if failure and len(waiting) > 1:
        for item in waiting.values():
            yield from answer(processor, [item], context, outcomes, note)
    elif failure and not waiting:
        yield outcomes.discarded(items[-1].task_id, failure)
    else:
        missing = MissingResultError("The processor ended without a result for the item.")
        yield from (outcomes.failed(item, failure or missing) for item in waiting.values())


def _call(processor: Processor, items: Sequence[WorkItem], context: TaskContext, note: Note) -> Iterator[ProcessingResult]:
    """Call the processor. The note says that it is at work; the check of an answer runs the task's own code, too."""
    alone = items[0].task_id if len(items) == 1 else None
    note.begin(alone)
    try:
        for result in processor(items, context):
            yield result
            note.begin(alone)
    finally:
        note.end()


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
