"""Workers that are killed: what they left is finished by others, nothing twice, and what kills them is found and set aside.

The worker is this file run as a script: it processes the batches of `note.shout` one after the other. It is killed by SIGKILL, with
no chance to clean up: the whole of it, as with its machine, or only the child in which the processor runs.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import psycopg
import pytest

from medallion_defs.core.settings import Settings
from medallion_defs.labeling import runner
from medallion_defs.labeling.contract import BatchStrategy, ProcessingResult, TaskContext, WorkItem
from medallion_defs.labeling.engine import batch, leases, plan, process, promotion
from tests.conftest import ROOT
from tests.integration.labeling.notes import CREATE_NOTES, expire_leases, outputs, put_notes, shout, shout_task, states, with_limits

MAX_CLAIMS = 40
WORKER = os.getpid()
PLAN_STEPS = ["register", "rearm_outdated", "lock_prompt", "insert_todo", "advance", "lock_pending", "make_batch"]
PROCESS_STEPS = ["claim", "read_items", "begin_attempts", "renew", "copy_events", "finish"]


@pytest.fixture
def notes(db: psycopg.Connection) -> psycopg.Connection:
    db.execute(CREATE_NOTES)
    db.commit()
    return db


def die() -> None:
    """Kill the worker and its child, if there is one."""
    os.kill(WORKER, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def lose_the_child(data_dir: str) -> None:
    """Kill the child, once."""
    done = Path(data_dir) / "lost"
    if os.getpid() != WORKER and not done.exists():
        done.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def work(url: str, data_dir: str, how: str, step: str) -> None:
    """Plan or process; die at `step`, or, when it is a number, after so many answers have been written."""
    kill = partial(lose_the_child, data_dir) if how == "lose" else die
    settings = Settings(root=ROOT, data_dir=Path(data_dir), database_url=url)
    with pytest.MonkeyPatch.context() as patch:
        for module in (plan, promotion, batch, leases):
            patch.setattr(module, "_SQL", DeadlyQueries(module._SQL, step, kill))
        patch.setattr(process, "_CHUNK_EVENTS", 1)
        task = shout_task(deadly(int(step), kill) if step.isdigit() else end_all, strategy=BatchStrategy(max_items=20))
        if how == "plan":
            runner.plan(settings, task)
        while how != "plan" and runner.process(settings, task).is_claimed:
            pass


class DeadlyQueries(dict[str, str]):
    def __init__(self, queries: object, step: str, kill: Callable[[], None]) -> None:
        super().__init__(queries)  # type: ignore[call-overload]  # a read-only mapping of the same kind
        self._step = step
        self._kill = kill

    def __getitem__(self, name: str) -> str:
        if name == self._step:
            self._kill()
        return super().__getitem__(name)


def end_all(items: Sequence[WorkItem], context: TaskContext) -> Iterator[ProcessingResult]:
    """Answer as `shout` does, but for a note that says "end": its item takes the whole worker down."""
    for item in items:
        if item.inputs["body"] == "end":
            die()
        yield from shout([item], context)


def deadly(after: int, kill: Callable[[], None]):  # type: ignore[no-untyped-def]
    def processor(items: Sequence[WorkItem], context: TaskContext) -> Iterator[ProcessingResult]:
        for number, result in enumerate(shout(items, context)):
            if number == after:
                kill()
            yield result

    return processor


def run_worker(settings: Settings, how: str, step: str) -> int:
    command = [sys.executable, __file__, settings.require_database_url(), str(settings.data_dir), how, step]
    code = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False, timeout=120).returncode
    wait_for(settings, "SELECT WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'medallion_gold')")
    return code


def results(notes: psycopg.Connection) -> dict[str, str]:
    return {key: output["text"] for key, output in outputs(notes).items()}


@pytest.mark.parametrize("step", PLAN_STEPS)
def test_invariant_1_a_plan_that_is_killed_loses_nothing_and_plans_nothing_twice(
    notes: psycopg.Connection, settings: Settings, step: str
) -> None:
    put_notes(notes, *(f"note {number}" for number in range(30)))
    assert run_worker(settings, "plan", step) == -signal.SIGKILL
    runner.run(settings, shout_task())
    assert results(notes) == {f"n{number}": f"NOTE {number}" for number in range(30)}
    assert notes.execute("SELECT count(*) FROM silver.tasks_todo").fetchall() == [(30,)]
    assert runner.run(settings, shout_task()).events == {}


@pytest.mark.parametrize("step", [*PROCESS_STEPS, "0", "1", "7"])
def test_invariant_1_a_worker_that_is_killed_is_followed_by_another_that_does_nothing_twice(
    notes: psycopg.Connection, settings: Settings, step: str
) -> None:
    put_notes(notes, *(f"note {number}" for number in range(30)))
    task = shout_task(strategy=BatchStrategy(max_items=20))
    runner.plan(settings, task)
    assert run_worker(settings, "process", step) == -signal.SIGKILL
    expire_leases(notes)
    runner.run(settings, task)
    assert results(notes) == {f"n{number}": f"NOTE {number}" for number in range(30)}
    outcomes = notes.execute("SELECT task_id FROM silver.tasks_status WHERE event = 'succeeded'").fetchall()
    assert len(outcomes) == len(set(outcomes)) == 30


@pytest.mark.parametrize("step", ["read_items", "begin_attempts", "copy_events", "0", "1", "7"])
def test_a_worker_that_loses_its_child_goes_on_with_another_and_charges_nothing(
    notes: psycopg.Connection, settings: Settings, step: str
) -> None:
    put_notes(notes, *(f"note {number}" for number in range(30)))
    runner.plan(settings, shout_task(strategy=BatchStrategy(max_items=20)))
    settings.data_path.mkdir(parents=True, exist_ok=True)
    assert run_worker(settings, "lose", step) == 0
    assert (settings.data_path / "lost").exists()
    counts = notes.execute("SELECT event, count(*), count(DISTINCT task_id) FROM silver.tasks_status GROUP BY 1 ORDER BY 1").fetchall()
    assert counts == [("attempt", 30, 30), ("succeeded", 30, 30)]
    notes.rollback()
    runner.consolidate(settings, shout_task())
    assert results(notes) == {f"n{number}": f"NOTE {number}" for number in range(30)}


def test_an_item_that_kills_every_worker_ends_dead_and_the_others_are_done(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, *(f"note {number}" for number in range(18)), "end")
    runner.plan(settings, shout_task())
    deaths = 0
    for _ in range(MAX_CLAIMS):
        code = run_worker(settings, "process", "none")
        expire_leases(notes)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        deaths += 1
    runner.consolidate(settings, shout_task())
    found = states(notes)
    assert found.pop("n18") == ("dead", 3, "WorkerDiedError")
    assert {state[0] for state in found.values()} == {"succeeded"}
    assert deaths == 3, "no more workers die than an item has attempts"


def test_invariant_1_a_consolidation_that_is_killed_is_done_by_the_next(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, *(f"note {number}" for number in range(30)))
    limits = with_limits(settings)
    for batch_id in runner.plan(limits, shout_task()).batch_ids:
        runner.process(limits, shout_task(), batch_id)
    notes.execute("BEGIN")
    notes.execute("LOCK TABLE silver.tasks_results")
    command = [sys.executable, __file__, settings.require_database_url(), str(settings.data_dir), "consolidate", "none"]
    process_ = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    wait_for(settings, "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'medallion_gold'")
    process_.kill()
    process_.wait()
    notes.rollback()
    wait_for(settings, "SELECT WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'medallion_gold')")
    assert runner.consolidate(settings, shout_task()).counts.results_created == 30


def wait_for(settings: Settings, condition: str) -> None:
    """Wait until the query gives a row. The server learns of a client's death a moment after us."""
    with psycopg.connect(settings.require_database_url(), autocommit=True) as connection:
        for _ in range(600):
            if connection.execute(condition).fetchall():
                return
            connection.execute("SELECT pg_sleep(0.1)")
    pytest.fail(f"never came true: {condition}")


if __name__ == "__main__":
    if sys.argv[3] == "consolidate":
        runner.consolidate(Settings(root=ROOT, data_dir=Path(sys.argv[2]), database_url=sys.argv[1]), shout_task())
    else:
        work(*sys.argv[1:])
