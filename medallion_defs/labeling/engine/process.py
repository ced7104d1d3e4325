"""Process: take one batch, call the task's processor, write what became of each item. Knows no Dagster.

Two kinds of transactions, each guarded by the lease: the attempts, committed before the processor is called, so that an item
that kills its worker counts; and the outcomes, in chunks as they come, so that another worker that takes the batch over does none
of them again. With the last of them the batch is given on to consolidate.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from uuid import UUID

from medallion_defs.labeling.contract import ProcessingResult, Processor, TaskContext, WorkItem
from medallion_defs.labeling.engine import leases
from medallion_defs.labeling.engine.batch import BatchItem, ClaimedBatch
from medallion_defs.labeling.engine.interrupts import is_interrupt
from medallion_defs.labeling.engine.outcomes import (
    DuplicateResultError,
    Event,
    ForeignResultError,
    MissingResultError,
    Outcomes,
    WorkerDiedError,
    cut_slices,
)  # fmt: skip
from medallion_defs.ops.published import ChangedBytesError, check_file

_CHUNK_EVENTS = 2_000
_CHUNK_SECONDS = 1.0


class BatchRun:
    """The work of the task's own code on one claimed batch."""

    def __init__(self, batch: ClaimedBatch) -> None:
        self._batch = batch

    def run(self) -> Counter[str]:
        """Bring every item of the batch to an outcome; return how many of each kind were written.

        Raises:
            LostLeaseError: another worker took the batch over.
        """
        batch = self._batch
        spent, slices = cut_slices(batch.read_items(), batch.limits.max_attempts)
        batch.write([batch.outcomes.failed(item, _died(item)) for item in spent])
        context = TaskContext(batch.read_profile().parameters, self._derived_folder)
        rest: list[Event] = []
        for part in slices:
            batch.write(rest)
            rest = self._process(part, context)
        with batch.connection.transaction():
            leases.finish(batch.connection, batch.lease)
            batch.append(rest)
        return batch.counts

    def _process(self, part: Sequence[BatchItem], context: TaskContext) -> list[Event]:
        """Try the items; return those of their outcomes that are not written yet."""
        items, refused = self._batch.gather(part)
        items, changed = self._without_changed(items)
        self._batch.write([*refused, *changed])
        self._batch.begin(items)
        return self._write_chunks(answer(self._batch.task.processor, items, context, self._batch.outcomes))

    def _without_changed(self, items: Sequence[WorkItem]) -> tuple[list[WorkItem], list[Event]]:
        """Hash the files that the processor is to open; return the items whose bytes are right, and the outcomes of the others."""
        right, changed = [], []
        for item in items:
            try:
                # Of a file that cannot be read at all the processor says so, in its own words.
                with suppress(OSError):
                    check_input(item)
                right.append(item)
            except ChangedBytesError as error:
                changed.append(self._batch.outcomes.failed(item, error))
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
                self._batch.write(chunk)
                chunk, started = [], perf_counter()
        return chunk


def check_input(item: WorkItem) -> None:
    """Hash the item's file, where it has one.

    Raises:
        ChangedBytesError: its bytes are not those that were published.
        OSError: it cannot be read.
    """
    if item.path is not None and item.sha256 is not None:
        check_file(item.path, item.sha256)


def answer(processor: Processor, items: Sequence[WorkItem], context: TaskContext, outcomes: Outcomes) -> Iterator[Event]:
    """Call the processor; yield an event for each item, whatever the processor does.

    When it raises, the items it has not answered are tried once more, each alone, so that only the culprit fails.
    """
    waiting = {item.task_id: item for item in items}
    answered: dict[UUID, WorkItem | None] = {}
    failure: BaseException | None = None
    try:
        for result in processor(items, context) if items else ():
            yield from _judge(result, waiting, answered, outcomes)
    except BaseException as error:  # a task's own code may raise anything; all of it becomes an event, and none is hidden
        if isinstance(error, GeneratorExit) or is_interrupt(error):
            raise
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
