"""From a bronze item with a model's answers to outcomes of tasks: the parser of everything that was ever paid for.

Each answer is matched with its record (`genai/match.py`), validated against the task's output model and priced. In one transaction:
the outcomes, the failure log, the costs, the ledger; the records are free again. The same item can be parsed again at any time,
free (`reparse`).
"""

import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from uuid import UUID

import msgspec
import psycopg

from medallion_defs.core import clock, db
from medallion_defs.core.code_version import CodeVersions, make_version
from medallion_defs.core.errors import MedallionError, TerminalError, TransientError
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.genai.answers import PARSING, Problem, Usage
from medallion_defs.genai.bill import Bill
from medallion_defs.genai.jobs import WELL
from medallion_defs.genai.match import MATCHING, Matched, Matching, find_repeated
from medallion_defs.genai.report import BatchReport, RecordFailure
from medallion_defs.genai.requests import LEFT_OUT_FILE, RESPONSES_FILE
from medallion_defs.genai.state import BatchState, Failure, GenaiBatch, RequestRecord
from medallion_defs.labeling.contract import ProcessingResult
from medallion_defs.labeling.engine.batch import copy_events
from medallion_defs.labeling.engine.consolidate import consolidate_task
from medallion_defs.labeling.engine.outcomes import Event, InvalidOutputError, Outcomes, validate_output
from medallion_defs.labeling.labels.markers import write_markers
from medallion_defs.labeling.models.asking import model_limits
from medallion_defs.labeling.models.failures import failure_of, unreadable_failures
from medallion_defs.labeling.prompts import PromptProfile
from medallion_defs.labeling.registry import Task, find_task
from medallion_defs.ops.file_ingestion import RowCounts
from medallion_defs.ops.ledger import Ledger
from medallion_defs.storage.readers import open_reader
from medallion_defs.storage.reading import ItemReader

SOURCE_TYPES = ("gemini_batch", "gemini_online")
_SQL = load_queries("medallion_defs.labeling.models", "answers.sql")
# How a job ends that gave no results: by the provider, or by us.
_UNPAID = frozenset({"FAILED", "CANCELLED", "EXPIRED", "DEADLINE", "VANISHED", "REFUSED", "LOST"})


class UnknownBatchError(TerminalError):
    """A bronze item holds answers to a batch that the database does not know, or that nobody waits for."""


class UnwantedAnswersError(UnknownBatchError):
    """Nobody waits for the answers of a batch. They were paid for, and its records are free again, all the same."""


class AnswerError(TransientError):
    """A record has no answer that can be used; asking again may give one."""


class FinalAnswerError(TerminalError):
    """A record has no answer that can be used, and would not get one by asking again."""


class TextAroundJSON(MedallionError):  # noqa: N818 - not what failed: what was left out of an answer that was taken
    """An answer was read out of a code fence, or out of words around it."""


class Judged(msgspec.Struct, frozen=True):
    """What an answer makes of its record."""

    record: RequestRecord
    event: Event
    cost: Decimal
    problem: Problem | None
    traceback: str | None = None
    remark: Event | None = None

    @property
    def events(self) -> Iterator[Event]:
        yield self.event
        if self.remark:
            yield self.remark


@dataclass
class Tally:
    """What is kept of the answers as they go by: how many, what they cost, and those that failed."""

    total: int = 0
    cost: Decimal = Decimal(0)
    failed: list[Judged] = field(default_factory=list)
    remarked: list[str] = field(default_factory=list)

    def watch(self, judged: Iterable[Judged]) -> Iterator[Judged]:
        for each in judged:
            self.total += 1
            self.cost += each.cost
            if each.problem:
                self.failed.append(each)
            if each.remark:
                self.remarked.append(each.record.record_key)
            yield each

    def tasks_by_key(self) -> dict[str, UUID]:
        """Return the task of each record that failed."""
        return {each.record.record_key: each.record.task_id for each in self.failed}


def read_ledger_batch(settings: Settings, tasks: Mapping[str, Task], source_type: str, batch_id: str, run_id: str) -> list[BatchReport]:
    """Parse every claimed item of one microbatch of the ledger, then consolidate; return a report per item that could be read.

    What fails for one item fails that item, in the ledger.

    Raises:
        BatchInUseError: another run is at it.
    """
    with db.connect(settings, "medallion_gold", autocommit=True) as connection:
        options = settings.source(source_type)
        ledger, reports = Ledger(connection), []
        for item in ledger.start_batch(batch_id, run_id, code_of(tasks), options, clock.now()):
            try:
                with connection.transaction():
                    report = _Answers(connection, settings, tasks, item.external_id, str(item.bronze_path), run_id).settle()
                    ledger.save([item.finished("silver.tasks_results", _row_counts(report), {}, clock.now())])
                reports.append(report)
            except (psycopg.OperationalError, psycopg.InterfaceError):
                raise  # of no item: the database is away
            except Exception as error:  # noqa: BLE001 - answers are odd, and a task's own code checks them; the item fails with the text
                with connection.transaction():
                    if isinstance(error, UnwantedAnswersError):
                        _Answers(connection, settings, tasks, item.external_id, str(item.bronze_path), run_id).settle_costs()
                    ledger.save([item.failed(error, clock.now(), options)])
        for task_key in sorted({report.task_key for report in reports}):
            consolidate_task(connection, task_key)
            write_markers(connection, settings, find_task(tasks, task_key))
    return reports


def reparse(settings: Settings, tasks: Mapping[str, Task], batch_ids: Sequence[str], run_id: str) -> dict[str, int]:
    """Parse answers again that are in bronze; return, per batch, how many results were written or compared anew.

    For after a change of a task's output model: what was refused may fit now, and nothing is asked or paid. Answers of records that
    were asked again meanwhile are left alone.

    Raises:
        UnknownBatchError: a batch is not in bronze.
    """
    with db.connect(settings, "medallion_gold", autocommit=True) as connection:
        paths: dict[str, str] = dict(connection.execute(_SQL["read_paths"], {"batch_ids": list(batch_ids)}).fetchall())
        if missing := sorted(set(batch_ids) - paths.keys()):
            raise UnknownBatchError(f"No answers in bronze for batch {', '.join(missing)}.")
        counts, task_keys = {}, set()
        for batch_id, path in paths.items():
            answers = _Answers(connection, settings, tasks, batch_id, path, run_id)
            with connection.transaction():
                counts[batch_id] = answers.take_again()
            task_keys.add(answers.batch.task_key)
        for task_key in sorted(task_keys):
            consolidate_task(connection, task_key)
            write_markers(connection, settings, find_task(tasks, task_key))
    return counts


def report_batch(settings: Settings, tasks: Mapping[str, Task], batch_id: str) -> BatchReport:
    """Return the report of a batch whose answers are in bronze, read anew; retry numbers are those of now. Changes nothing.

    Raises:
        UnknownBatchError: the batch is not in bronze.
    """
    with db.connect(settings, "medallion_console") as connection:
        path = connection.execute(_SQL["read_paths"], {"batch_ids": [batch_id]}).fetchone()
        if path is None:
            raise UnknownBatchError(f"No answers in bronze for batch {batch_id}. 'medallion genai batches' says how far it is.")
        return _Answers(connection, settings, tasks, batch_id, path[1], "report").report()


def give_up(connection: psycopg.Connection, batch: GenaiBatch, error: str | None = None) -> Decimal:
    """Give up a batch: its records are free, and its tasks are asked again at the next run; return the dollars that stay spent.

    A job that ended well was paid for, whatever became of its answers: its dollars are spent as they were reserved.

    Raises:
        LostBatchError: it is not `batch.status` any more, or came home meanwhile.
    """
    is_paid = batch.status in ("ended", "held") and batch.provider_state not in _UNPAID
    settled = batch.reserved_usd if is_paid else None
    with connection.transaction():
        BatchState(connection).give_up(batch.batch_id, batch.status, settled, error, clock.now())
        connection.execute(_SQL["finish_asked"], {"batch_id": batch.tasks_batch_id})
    return settled or Decimal(0)


def code_of(tasks: Mapping[str, Task]) -> CodeVersions:
    """Return what a failed item's parsing depends on, by the task that asked: another version arms it again."""
    asking = [task for task in tasks.values() if task.spec.model is not None]
    # A batch is named after its task.
    by_pattern = tuple((f"{task.task_key}-*", make_version("answers", MATCHING, PARSING, task.code_version)) for task in asking)
    return CodeVersions(by_pattern, otherwise=make_version("no task"))


@dataclass
class _Answers:
    """The answers of one batch, read as they are written on: what stays in memory is the records, and the answers that failed."""

    connection: psycopg.Connection
    settings: Settings
    tasks: Mapping[str, Task]
    batch_id: str
    bronze_path: str
    run_id: str
    batch: GenaiBatch = field(init=False)
    task: Task = field(init=False)
    records: Mapping[str, RequestRecord] = field(init=False)
    matching: Matching = field(init=False)
    bill: Bill = field(init=False)

    def __post_init__(self) -> None:
        state = BatchState(self.connection)
        batch = state.read(self.batch_id)
        if batch is None or batch.tasks_batch_id is None:
            raise UnknownBatchError(f"ops.active_batches has no batch {self.batch_id}; its answers stay in {self.bronze_path}.")
        self.batch = batch
        self.task = find_task(self.tasks, batch.task_key)
        self.records = state.read_records(self.batch_id)
        # A job that did not end well never came to the records without a line.
        missing_usage = None if batch.provider_state in WELL else Usage()
        self.matching = Matching({key: record.item_token for key, record in self.records.items()}, missing_usage=missing_usage)
        self.bill = Bill(batch, self.settings.genai.prices)

    def settle(self) -> BatchReport:
        """Write everything that the answers say, in the caller's transaction."""
        now = clock.now()
        self._require_asked()
        tally = self._read(lambda events: copy_events(self.connection, events))
        state = BatchState(self.connection)
        counts = state.count_failures(tally.tasks_by_key(), now)
        state.clear_answered(self.batch_id, counts)
        state.log_failures(self._failures(tally), now)
        state.log_failures(unreadable_failures(self.matching.unreadable, self.batch), now)
        self._close(tally)
        self.connection.execute(_SQL["finish_asked"], {"batch_id": self.batch.tasks_batch_id})
        return self._report(tally, counts)

    def settle_costs(self) -> None:
        """Write what the answers cost, free their records and close the batch; no task gets any of them."""
        self._close(self._count())

    def report(self) -> BatchReport:
        """Return the report without writing anything."""
        tally = self._count()
        failed = tally.tasks_by_key()
        counts = dict.fromkeys(failed, 0) | BatchState(self.connection).read_failures(failed)
        return self._report(tally, counts)

    def take_again(self) -> int:
        """Give the answers that are valid now to their tasks, in the caller's transaction; return how many."""
        valid = {each.record.task_id: each for each in self._judge() if not each.problem}
        values = {"task_key": self.task.task_key, "prompt_id": self.batch.prompt_id, "items": len(valid), "task_ids": list(valid)}
        rows = self.connection.execute(_SQL["reopen"], values | {"tasks_batch_id": self.batch.tasks_batch_id}).fetchall()
        copy_events(self.connection, [valid[task_id].event._replace(batch_id=new_batch) for task_id, new_batch in rows])
        BatchState(self.connection).clear_failures([valid[task_id].record.record_key for task_id, _ in rows])
        return len(rows)

    def _require_asked(self) -> None:
        row = self.connection.execute(_SQL["lock_asked"], {"batch_id": self.batch.tasks_batch_id}).fetchone()
        if row is None or row[0] != "asked":
            raise UnwantedAnswersError(
                f"The answers of batch {self.batch_id} are not waited for: batch {self.batch.tasks_batch_id} of silver.tasks_batches is "
                f"{row[0] if row else 'gone'}. They stay in bronze; 'medallion genai reparse {self.batch_id}' takes them."
            )

    def _close(self, tally: Tally) -> None:
        has_results = self.batch.output_file is not None
        BatchState(self.connection).settle(self.batch_id, tally.cost, has_results=has_results, at=clock.now())

    def _count(self) -> Tally:
        return self._read(lambda events: deque(events, maxlen=0))

    def _read(self, take: Callable[[Iterator[Event]], object]) -> Tally:
        """Read the answers once, give their events to `take` as they go by; return what is kept of them."""
        tally = Tally()
        take(event for each in tally.watch(self._judge()) for event in each.events)
        tally.cost += sum((self.bill.cost(usage) for usage in self.matching.more_usages), Decimal(0))
        return tally

    def _judge(self) -> Iterator[Judged]:
        batch = self.batch
        limits = model_limits(self.settings, batch.task_key)
        outcomes = Outcomes(
            batch.task_key, int(batch.tasks_batch_id or 0), self.run_id, self.task.code_version, self.task.spec.output_model, limits
        )
        for key, outcome in self._match():
            is_missing = isinstance(outcome, Problem) and outcome.error_type == "MissingResponse"
            yield _judge_one(self.records[key], outcome, self.bill.cost(outcome.usage, is_missing=is_missing), outcomes)

    def _match(self) -> Iterator[tuple[str, Matched | Problem]]:
        if self.batch.output_file is None:
            state = str(self.batch.provider_state or "UNKNOWN")
            kind = "".join(word.title() for word in state.split("_"))
            problem = Problem(f"Job{kind}", f"The job ended {state} and gave no results: {self.batch.error}")
            yield from ((key, problem) for key in self.records)
            return
        reader = open_reader(self.settings)
        published = reader.artifact(self.bronze_path, RESPONSES_FILE)
        try:
            with reader.open(self.bronze_path, published) as lines:
                self.matching.repeated = find_repeated(lines)
                lines.seek(0)
                yield from self.matching.outcomes(chain(lines, self._left_out(reader)))
        except OSError as error:
            # Never taken for a job without results: that would ask, and pay, again.
            raise TransientError(f"The answers of batch {self.batch_id} cannot be read: {error}") from error

    def _left_out(self, reader: ItemReader) -> Iterator[bytes]:
        """Yield the result lines of our own for records that were not sent."""
        for artifact in reader.item(self.bronze_path).artifacts:
            if artifact.name == LEFT_OUT_FILE:
                with reader.open(self.bronze_path, artifact) as lines:
                    yield from lines

    def _failures(self, tally: Tally) -> Iterator[Failure]:
        profile = self._profile()
        for each in tally.failed:
            if each.problem:
                yield failure_of(each.record, each.problem, each.traceback, self.batch, profile)

    def _profile(self) -> PromptProfile | None:
        row = self.connection.execute(_SQL["read_template"], {"prompt_id": self.batch.prompt_id}).fetchone()
        return PromptProfile.model_validate(row[0]) if row else None

    def _report(self, tally: Tally, counts: Mapping[str, int]) -> BatchReport:
        failures = tuple(
            RecordFailure(
                each.record.record_key, each.problem.error_type, each.problem.message, counts[each.record.record_key],
                each.event.retry_seconds is None,
            )
            for each in tally.failed if each.problem
        )  # fmt: skip
        batch = self.batch
        return BatchReport(
            batch_id=batch.batch_id, task_key=batch.task_key, model=batch.model, mode=batch.mode, total=tally.total,
            success=tally.total - len(failures), failures=failures, max_retries=self.settings.genai.max_retries,
            cost_usd=tally.cost, unstated=self.bill.unstated, unpriced=self.bill.unpriced, unanswered=self.bill.unanswered,
            remarked_keys=tuple(tally.remarked),
            provider_state=batch.provider_state, error=batch.error,
            foreign_keys=tuple(self.matching.foreign_keys), unreadable_lines=tuple(self.matching.unreadable),
        )  # fmt: skip


def _judge_one(record: RequestRecord, outcome: Matched | Problem, cost: Decimal, outcomes: Outcomes) -> Judged:
    usage = None if outcome.usage is None else msgspec.to_builtins(outcome.usage)
    result = ProcessingResult(record.task_id, usage=usage, cost_usd=cost)
    if isinstance(outcome, Problem):
        return Judged(record, _failed(record, outcome, result, outcomes), cost, outcome)
    try:
        output = validate_output(outcomes.output_model, outcome.output)
    except InvalidOutputError as error:
        problem = Problem("ValidationError", str(error), text=outcome.text, usage=outcome.usage, raw=outcome.raw)
        return Judged(record, _failed(record, problem, result, outcomes), cost, problem, "".join(traceback.format_exception(error)))
    remark = outcomes.discarded(record.task_id, TextAroundJSON(outcome.text[:500])) if outcome.has_text_around else None
    return Judged(record, outcomes.succeeded(record, str(output), result), cost, None, remark=remark)


def _failed(record: RequestRecord, problem: Problem, result: ProcessingResult, outcomes: Outcomes) -> Event:
    error = (FinalAnswerError if problem.is_terminal else AnswerError)(problem.message)
    return outcomes.failed(record, error, result)._replace(error_type=problem.error_type)


def _row_counts(report: BatchReport) -> RowCounts:
    """The item's counts in the ledger: a record with an answer is created, one without is rejected."""
    return RowCounts(report.total, report.success, 0, 0, 0, len(report.failures))
