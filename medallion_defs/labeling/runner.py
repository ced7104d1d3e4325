"""The labeling engine as others call it: each function opens its connection, does one thing, and returns a report. Knows no Dagster.

`run` is the three steps one after the other; the Dagster assets call them one by one.
"""

import gc
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

import psycopg

from medallion_defs.core import db
from medallion_defs.core.errors import MedallionError
from medallion_defs.core.settings import Settings
from medallion_defs.core.timing import Timer
from medallion_defs.genai.state import BudgetReachedError
from medallion_defs.labeling.engine import leases, reading
from medallion_defs.labeling.engine.batch import ClaimedBatch
from medallion_defs.labeling.engine.consolidate import Consolidated, consolidate_task
from medallion_defs.labeling.engine.plan import PlanReport, RedoExtent, Requeuable, count_redo, plan_task, redo, requeue_tasks
from medallion_defs.labeling.engine.process import Processing, process_batch, start_processing
from medallion_defs.labeling.engine.reading import TaskFilter, TaskLife, TaskRow
from medallion_defs.labeling.labels.markers import markers_of, write_markers
from medallion_defs.labeling.models.asking import BatchAsking, model_limits
from medallion_defs.labeling.models.estimate import describe_promotion
from medallion_defs.labeling.registry import Task
from medallion_defs.ops.scope import Scope

_ROLE: db.Role = "medallion_gold"


@dataclass(frozen=True)
class ProcessReport:
    """What one worker did with one batch.

    Attributes:
        batch_id: None when there was no batch to take.
        is_claimed: False when another worker has it, or it is done already; nothing was done then.
        events: outcomes written, by kind: succeeded, failed, withdrawn, discarded.
        seconds: from the claim to the end.
        note: of a task that asks a model: what was handed over, or why nothing was.
    """

    batch_id: int | None
    is_claimed: bool = False
    events: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""

    @property
    def items(self) -> int:
        """Items that came to an outcome."""
        return sum(count for event, count in self.events.items() if event != "discarded")


@dataclass(frozen=True)
class ConsolidateReport:
    """What was consolidated, and how long that took."""

    counts: Consolidated
    seconds: float


@dataclass(frozen=True)
class RunReport:
    """The three steps of one run."""

    plan: PlanReport
    processed: Sequence[ProcessReport]
    consolidated: ConsolidateReport

    @property
    def events(self) -> Counter[str]:
        """Outcomes of all batches, by kind."""
        return sum((Counter(report.events) for report in self.processed), Counter())


def plan(settings: Settings, task: Task, limit: int | None = None, *, dry_run: bool = False) -> PlanReport:
    """Plan what is new, what is due, what the code has changed for, and what somebody removed the marker of; see `plan_task`."""
    markers = None if dry_run else markers_of(settings, task)
    with db.connect(settings, _ROLE) as connection:
        if markers:
            markers.ask_removed_again(connection)
        report = plan_task(connection, task, limit, dry_run=dry_run)
    if report.promoted is None:
        return report
    return replace(report, note=describe_promotion(settings, task, report.promoted))


def process(settings: Settings, task: Task, batch_id: int | None = None, worker: str | None = None) -> ProcessReport:
    """Process one batch: that one, or the oldest that is free.

    A batch that another worker holds, or that is done, is left alone, and the report says so. A batch of a task that asks a model
    is handed to the transport; it stays as it is while a cap in dollars is reached.

    Raises:
        ConfigurationError: the inputs query of the task's subjects does not return what it should.
        LostLeaseError: another worker took the batch over; what was written before stays.
    """
    with _working(settings, task, worker) as process_next:
        return process_next(batch_id)


def work(settings: Settings, task: Task, worker: str | None = None) -> Iterator[ProcessReport]:
    """Process batches that are free, oldest first, until there is none; yield each one's report. Any number may do so side by side."""
    with _working(settings, task, worker) as process_next:
        while (report := process_next(None)).is_claimed:
            yield report


@contextmanager
def _working(settings: Settings, task: Task, worker: str | None) -> Iterator[Callable[[int | None], ProcessReport]]:
    """Give what processes one batch, over the one connection and the one keeper of leases of a worker."""
    keeper = leases.Keeper(settings, settings.task(task.task_key).lease_seconds)
    name = worker or worker_name()
    with (
        db.connect(settings, _ROLE, autocommit=True) as connection,
        keeper,
        _only_new_garbage(),
        start_processing(settings, task) as processing,
    ):
        yield lambda batch_id: _process(connection, keeper, processing, settings, task, batch_id, name)


@contextmanager
def _only_new_garbage() -> Iterator[None]:
    """Let Python's collector look only at what is made from here on.

    A loaded gold location is 160,000 objects that live as long as the process, and each full collection walks over all of them: about
    a twentieth of what four workers did in the benchmark.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _process(
    connection: psycopg.Connection,
    keeper: leases.Keeper,
    processing: Processing,
    settings: Settings,
    task: Task,
    batch_id: int | None,
    worker: str,
) -> ProcessReport:
    timer = Timer()
    lease = leases.claim(connection, task.task_key, worker, settings.task(task.task_key).lease_seconds, batch_id)
    if lease is None:
        return ProcessReport(batch_id)
    with keeper.keeping(lease), _given_back_when_stopped(settings, lease):
        if task.spec.model is not None:
            return _ask(connection, settings, task, lease, timer)
        events = process_batch(ClaimedBatch(connection, settings, task, lease), processing)
    return ProcessReport(lease.batch_id, True, dict(events), timer.seconds)


@contextmanager
def _given_back_when_stopped(settings: Settings, lease: leases.Lease) -> Iterator[None]:
    """Give the batch back, without a charge, when a signal, Dagster's interrupt or the end of the program ends the block."""
    try:
        yield
    except BaseException as stop:
        if isinstance(stop, Exception):
            raise
        # Over a connection of its own: the worker's may have been interrupted in the middle of a statement.
        with suppress(MedallionError, psycopg.Error), db.connect(settings, _ROLE, autocommit=True) as connection:
            leases.give_back_stopped(connection, lease)
        raise


def _ask(connection: psycopg.Connection, settings: Settings, task: Task, lease: leases.Lease, timer: Timer) -> ProcessReport:
    batch = ClaimedBatch(connection, settings, task, lease, model_limits(settings, task.task_key))
    try:
        note = BatchAsking(batch).ask()
    except BudgetReachedError as error:
        return ProcessReport(lease.batch_id, False, note=str(error))
    return ProcessReport(lease.batch_id, True, dict(batch.counts), timer.seconds, note)


def consolidate(settings: Settings, task: Task) -> ConsolidateReport:
    """Bring the outcomes of processed batches into todo and results, and write the markers that are missing."""
    timer = Timer()
    with db.connect(settings, _ROLE) as connection:
        counts = consolidate_task(connection, task.task_key)
        write_markers(connection, settings, task)
    return ConsolidateReport(counts, timer.seconds)


def run(settings: Settings, task: Task, limit: int | None = None, worker: str | None = None) -> RunReport:
    """Plan, process every batch that is free, consolidate."""
    planned = plan(settings, task, limit)
    with _working(settings, task, worker) as process_next:
        processed = [process_next(batch_id) for batch_id in planned.batch_ids]
    return RunReport(planned, processed, consolidate(settings, task))


def backfill(settings: Settings, task: Task, scope: Scope, before: datetime) -> RedoExtent:
    """Set what succeeded before `before` within `scope` to pending, to be done again; return how much. Old results stay meanwhile.

    What has a success marker stays as it is: the marker keeps it from being asked.

    Raises:
        ConfigurationError: the scope names a dataset, which tasks do not have, or the folder of markers is not valid.
    """
    extent = count_backfill(settings, task, scope, before)
    with db.connect(settings, _ROLE) as connection:
        redone = redo(connection, task.task_key, scope, before, keep_marked=_writes_markers(settings, task))
    return replace(extent, tasks=redone)


def count_backfill(settings: Settings, task: Task, scope: Scope, before: datetime) -> RedoExtent:
    """Return what `backfill` with the same arguments would do; changes nothing."""
    with db.connect(settings, "medallion_console") as connection:
        return count_redo(connection, task.task_key, scope, before, keep_marked=_writes_markers(settings, task))


def explain_marked(settings: Settings, task: Task, marked: int) -> str:
    """Return why a backfill leaves tasks as they are, and what to do to have them asked."""
    markers = markers_of(settings, task)
    folder = f" in {markers.folder}" if markers else ""
    return (
        f"{marked:,} more in the scope have a success marker{folder}, which keeps them from being asked; they stay as they are. "
        "Remove a marker to have its page asked about again."
    )


def _writes_markers(settings: Settings, task: Task) -> bool:
    return markers_of(settings, task) is not None


def requeue(
    settings: Settings,
    task_key: str | None = None,
    task_ids: Sequence[UUID] | None = None,
    error_type: str | None = None,
    statuses: Sequence[Requeuable] = ("dead", "retrying"),
) -> int:
    """Set failed tasks back to pending with all their attempts; return how many."""
    with db.connect(settings, _ROLE) as connection:
        return requeue_tasks(connection, task_key, task_ids, error_type, statuses)


def list_tasks(settings: Settings, which: TaskFilter | None = None, limit: int = 100) -> list[TaskRow]:
    """Return tasks, those that changed last first."""
    with db.connect(settings, "medallion_console") as connection:
        return reading.list_rows(connection, which or TaskFilter(), limit)


def dead(settings: Settings, task_key: str | None = None, limit: int = 100) -> list[TaskRow]:
    """Return the tasks that failed for good, with their errors; `requeue` tries them again."""
    return list_tasks(settings, TaskFilter(task_key=task_key, statuses=("dead",)), limit)


def show_task(settings: Settings, task_id: UUID) -> TaskLife:
    """Return all there is of one task.

    Raises:
        TerminalError: there is no such task.
    """
    with db.connect(settings, "medallion_console") as connection:
        return reading.read_life(connection, task_id)


def worker_name() -> str:
    """Return this process's name as leases and events have it."""
    return f"{socket.gethostname()}:{os.getpid()}"
