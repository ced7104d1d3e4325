"""One item never harms another: whatever a processor does at one item, that one fails, with what happened; the others succeed.

The processor is planted: each note says in a word what is to happen. It works on its list in one of three ways: it says at which item
it is, as `item_processor` does; it answers one after the other and does not say; or it answers all of them at its end.
"""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

import dagster as dg
import psycopg
import pytest
from pydantic import BaseModel

from medallion_defs.core import supervision
from medallion_defs.core.sections import TaskSettings
from medallion_defs.core.settings import Settings
from medallion_defs.core.supervision import DyingWorkersError
from medallion_defs.labeling import runner
from medallion_defs.labeling.contract import ModelRequest, ModelTask, ProcessingResult, Processor, TaskContext, WorkItem
from medallion_defs.labeling.engine import process
from medallion_defs.labeling.per_item import item_processor
from medallion_defs.labeling.registry import Task
from tests.integration.genai.conftest import genai_options, judge_task
from tests.integration.labeling.notes import Shout, make_due, put_notes, shout_task, states, with_limits
from tests.integration.misbehaviour import ACTIONS, HANGING, let_time_pass_for_what_hangs

GOOD = ("succeeded", 1, None)
NEIGHBOURS = {f"n{number}": GOOD for number in (0, 1, 3, 4)}
BAD = "n2"
STOPPED = 9


def act(item: WorkItem) -> Shout:
    word = str(item.inputs["body"])
    if word in ACTIONS:
        ACTIONS[word]()
    return Shout(text=word.upper(), length=len(word))


def answers(items: Sequence[WorkItem], _context: TaskContext) -> Iterator[ProcessingResult]:
    for item in items:
        yield ProcessingResult(item.task_id, act(item).model_dump())


class NoParameters(BaseModel): ...


PROCESSORS: dict[str, Processor] = {
    "says_its_item": item_processor(NoParameters, lambda item, _parameters, _context: act(item)),
    "one_by_one": answers,
    "at_its_end": lambda items, context: list(answers(items, context)),
}


@pytest.fixture(params=PROCESSORS)
def task(request: pytest.FixtureRequest) -> Task:
    return shout_task(PROCESSORS[request.param])


@pytest.fixture
def impatient(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings by which an item may take a second."""
    let_time_pass_for_what_hangs(monkeypatch, tmp_path)
    return with_limits(settings, max_item_seconds=1.0)


def put_with_neighbours(notes: psycopg.Connection, word: str) -> None:
    put_notes(notes, "note 0", "note 1", word, "note 3", "note 4")


def assert_alone(notes: psycopg.Connection, error_type: str, *texts: str) -> None:
    """Check that the bad item was charged, with these texts, and that no other was: each has one attempt and one outcome."""
    [(message,)] = notes.execute("SELECT error_message FROM silver.tasks_todo WHERE subject_key = %s", (BAD,)).fetchall()
    assert [text for text in texts if text not in message] == [], message
    assert states(notes) == NEIGHBOURS | {BAD: ("retrying", 1, error_type)}
    counts = "SELECT DISTINCT count(*) FILTER (WHERE event = 'attempt'), count(*) FROM silver.tasks_status GROUP BY task_id"
    assert notes.execute(counts).fetchall() == [(1, 2)]
    notes.rollback()


@pytest.mark.parametrize(
    ("word", "error_type", "text"),
    [
        ("memory", "MemoryError", "MemoryError (integration/misbehaviour.py, line "),
        ("recursion", "RecursionError", "maximum recursion depth exceeded"),
        ("exit", "SystemExit", "3 (integration/misbehaviour.py, line "),
        ("interrupt", "KeyboardInterrupt", "KeyboardInterrupt (integration/misbehaviour.py, line "),
        ("panic", "BaseException", "a panic of a library in Rust"),
    ],
)
def test_invariant_15_whatever_a_processor_raises_is_its_items_failure(
    notes: psycopg.Connection, settings: Settings, task: Task, word: str, error_type: str, text: str
) -> None:
    put_with_neighbours(notes, word)
    assert runner.run(settings, task).events == {"succeeded": 4, "failed": 1}
    assert_alone(notes, error_type, text)


@pytest.mark.parametrize(
    ("word", "how"),
    [
        ("kill", "killed by signal 9 (SIGKILL), perhaps for want of memory."),
        ("segfault", "killed by signal 11 (SIGSEGV)."),
        ("leave", "ended by itself with exit code 7."),
        ("memory_in_c", "killed by signal 6 (SIGABRT)."),
    ],
)
def test_invariant_15_a_task_that_ends_its_worker_is_charged_alone_and_the_batch_goes_on(
    notes: psycopg.Connection, settings: Settings, task: Task, word: str, how: str
) -> None:
    put_with_neighbours(notes, word)
    assert runner.run(settings, task).events == {"succeeded": 4, "failed": 1}
    assert_alone(notes, "WorkerDiedError", "note.shout of n2: the worker died while it worked on this item", how)


@pytest.mark.parametrize("word", HANGING)
def test_invariant_15_a_task_that_never_returns_is_charged_alone_and_does_not_go_on(
    notes: psycopg.Connection, impatient: Settings, task: Task, word: str
) -> None:
    put_with_neighbours(notes, word)
    assert runner.run(impatient, task).events == {"succeeded": 4, "failed": 1}
    sentence = "note.shout of n2: it took longer than max_item_seconds (1), so its worker was ended. It was in integration/misbehaviour.py"
    assert_alone(notes, "ItemOverdueError", sentence, "Raise tasks.note.shout.max_item_seconds if such items need longer.")


def test_a_task_that_ends_its_worker_each_time_is_dead_after_its_attempts(
    notes: psycopg.Connection, settings: Settings, task: Task
) -> None:
    put_with_neighbours(notes, "kill")
    for _ in range(3):
        runner.run(settings, task)
        make_due(notes)
    assert states(notes) == NEIGHBOURS | {BAD: ("dead", 3, "WorkerDiedError")}
    assert runner.run(settings, task).events == {}


def test_what_was_answered_before_a_death_is_done_once(
    notes: psycopg.Connection, settings: Settings, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_CHUNK_EVENTS", 1)
    put_notes(notes, "note 0", "kill", "note 2", "segfault", "note 4")
    assert runner.run(settings, task).events == {"succeeded": 3, "failed": 2}
    bad = ("retrying", 1, "WorkerDiedError")
    assert states(notes) == {"n0": GOOD, "n1": bad, "n2": GOOD, "n3": bad, "n4": GOOD}
    outcomes = notes.execute("SELECT task_id FROM silver.tasks_status WHERE event <> 'attempt'").fetchall()
    assert len(outcomes) == len(set(outcomes)) == 5


def test_deaths_of_a_tasks_workers_are_bounded_and_charge_no_neighbour(
    notes: psycopg.Connection, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "MOST_DEATHS", 3)
    put_notes(notes, *(f"kill{' ' * number}" for number in range(6)))
    task = shout_task(item_processor(NoParameters, lambda *_: ACTIONS["kill"]()))  # type: ignore[arg-type,return-value]
    [batch_id] = runner.plan(settings, task).batch_ids
    with pytest.raises(DyingWorkersError, match="3 workers of batch"):
        runner.process(settings, task, batch_id)
    events = notes.execute("SELECT event, count(*) FROM silver.tasks_status GROUP BY 1 ORDER BY 1").fetchall()
    assert events == [("attempt", 2), ("failed", 2)]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, dg.DagsterExecutionInterruptedError])
def test_a_stop_takes_effect_inside_a_tasks_c_code_and_costs_no_attempt_however_often(
    notes: psycopg.Connection,
    settings: Settings,
    task: Task,
    stop: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    hangs = tmp_path / "hangs"
    monkeypatch.setattr(process, "_CHUNK_EVENTS", 1)
    monkeypatch.setitem(ACTIONS, "hang", lambda: [hangs.touch(), ctypes.PyDLL(None).sleep(1_000)])
    put_notes(notes, "note 0", "hang")
    [batch_id] = runner.plan(settings, task).batch_ids
    for _ in range(settings.task("note.shout").max_attempts + 1):
        run = multiprocessing.get_context("fork").Process(target=run_until_stopped, args=(settings, task, batch_id, stop), daemon=True)
        run.start()
        while not hangs.exists() and run.exitcode is None:
            run.join(0.02)
        hangs.unlink()
        assert run.pid is not None
        os.kill(run.pid, signal.SIGINT)
        run.join()
        assert run.exitcode == STOPPED
        attempts = "SELECT count(*) FILTER (WHERE event = 'attempt') = count(*) FILTER (WHERE event = 'succeeded') FROM silver.tasks_status"
        assert notes.execute(attempts).fetchone() == (True,), "what has no outcome was not begun"
        assert notes.execute("SELECT count(*) FROM silver.tasks_batches WHERE lease_token IS NOT NULL").fetchone() == (0,)
        notes.rollback()
    monkeypatch.setitem(ACTIONS, "hang", lambda: None)
    runner.run(settings, task)
    assert states(notes) == {"n0": GOOD, "n1": GOOD}


def run_until_stopped(settings: Settings, task: Task, batch_id: int, stop: type[BaseException]) -> None:
    """Process as a run's process does, where the signal raises `stop`. Whoever runs the tests may ignore SIGINT."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        raise stop

    signal.signal(signal.SIGINT, handle)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    try:
        runner.process(settings, task, batch_id)
    except stop:
        os._exit(STOPPED)


@pytest.mark.parametrize(
    ("word", "error_type"),
    [("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt"), ("memory", "MemoryError"), ("segfault", "WorkerDiedError"),
     ("regex", "ItemOverdueError")],
)  # fmt: skip
def test_invariant_15_an_item_that_cannot_be_made_a_question_keeps_no_other_from_the_model(
    notes: psycopg.Connection, impatient: Settings, word: str, error_type: str
) -> None:
    def build(item: WorkItem, prompt: str) -> ModelRequest:
        act(item)
        return ModelRequest(prompt)

    settings = impatient.model_copy(update={
        "genai": genai_options("http://127.0.0.1:9"), "tasks": {"note.judge": TaskSettings(max_item_seconds=1.0)},
    })  # fmt: skip
    task = judge_task()
    task = replace(task, spec=replace(task.spec, model=ModelTask(build)))
    put_with_neighbours(notes, word)
    [report] = runner.run(settings, task).processed
    assert report.note == "4 records wait to be sent, 1 came to an outcome at once"
    failed = "SELECT subject_key, event.error_type FROM silver.tasks_status AS event JOIN silver.tasks_todo USING (task_id)"
    assert notes.execute(f"{failed} WHERE event = 'failed'").fetchall() == [(BAD, error_type)]
    assert notes.execute("SELECT request_count FROM ops.active_batches").fetchall() == [(4,)]
