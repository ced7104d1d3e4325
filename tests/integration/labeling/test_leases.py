"""Two workers and one batch: who may write, and what a worker that was thought dead can still do."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import psycopg
import pytest

from medallion_defs.core import db as database
from medallion_defs.core.settings import Settings
from medallion_defs.labeling import runner
from medallion_defs.labeling.contract import BatchStrategy, ProcessingResult, TaskContext, WorkItem
from medallion_defs.labeling.engine import leases
from medallion_defs.labeling.engine.leases import Lease, LostLeaseError
from medallion_defs.labeling.engine.plan import PlanReport
from tests.integration.labeling.notes import expire_leases, outputs, put_notes, shout, shout_task, states, with_limits

GOOD = ("succeeded", 1, None)


def claim(connection: psycopg.Connection, batch_id: int | None = None) -> Lease | None:
    with connection.transaction():
        return leases.claim(connection, "note.shout", "test", 60, batch_id)


def events(notes: psycopg.Connection) -> list[tuple[object, ...]]:
    rows = notes.execute("SELECT event, count(*) FROM silver.tasks_status GROUP BY 1 ORDER BY 1").fetchall()
    notes.commit()
    return rows


def test_invariant_14_of_several_workers_at_once_one_gets_the_batch(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, *(f"note {number}" for number in range(50)))
    task = shout_task(strategy=BatchStrategy(max_items=1))
    batch_ids = runner.plan(settings, task).batch_ids
    start = threading.Barrier(4)
    claimed: list[int] = []

    def work() -> None:
        start.wait()
        claimed.extend(batch_id for batch_id in batch_ids if runner.process(settings, task, batch_id).is_claimed)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(claimed) == list(batch_ids)
    assert events(notes) == [("attempt", 50), ("succeeded", 50)]


def test_a_claim_meanwhile_takes_nothing_and_does_not_wait(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    [batch_id] = runner.plan(settings, shout_task()).batch_ids
    with database.connect(settings, "medallion_gold") as one, database.connect(settings, "medallion_gold") as other:
        with one.transaction():
            assert leases.claim(one, "note.shout", "one", 60, batch_id) is not None
            assert claim(other, batch_id) is None
        assert claim(other, batch_id) is None
    report = runner.process(settings, shout_task(), batch_id)
    assert (report.is_claimed, report.events) == (False, {})


def test_a_worker_that_lost_its_lease_writes_nothing(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world")
    [batch_id] = runner.plan(settings, shout_task()).batch_ids

    def slow(items: Sequence[WorkItem], context: TaskContext) -> Iterator[ProcessingResult]:
        with psycopg.connect(settings.require_database_url()) as own:
            expire_leases(own)
        assert runner.process(settings, shout_task(mark="!"), batch_id, "other").is_claimed
        runner.consolidate(settings, shout_task())
        yield from (ProcessingResult(item.task_id, {"text": "stale", "length": 5}) for item in items)

    with pytest.raises(LostLeaseError, match=f"Batch {batch_id} of note.shout is no longer worker slow's"):
        runner.process(settings, shout_task(slow), batch_id, "slow")
    assert {output["text"] for output in outputs(notes).values()} == {"HELLO", "WORLD"}
    assert notes.execute("SELECT DISTINCT worker FROM silver.tasks_status WHERE event = 'succeeded'").fetchall() == [("other",)]
    assert runner.run(settings, shout_task()).events == {}


def test_a_batch_that_was_left_is_taken_over_and_only_the_rest_is_done(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, *(f"note {number}" for number in range(5)))
    [batch_id] = runner.plan(settings, shout_task()).batch_ids

    def dies(items: Sequence[WorkItem], context: TaskContext) -> Iterator[ProcessingResult]:
        yield from shout(items[:2], context)
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medallion_defs.labeling.engine.process._CHUNK_EVENTS", 1)
        worker = multiprocessing.get_context("fork").Process(target=runner.process, args=(settings, shout_task(dies), batch_id))
        worker.start()
        worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert runner.plan(settings, shout_task()).batch_ids == (), "the dead worker's lease still runs"
    expire_leases(notes)
    report = runner.run(settings, shout_task())
    assert (report.plan.batch_ids, report.events) == ((batch_id,), {"succeeded": 3})
    assert events(notes) == [("attempt", 8), ("succeeded", 5)]
    assert sorted(state[1] for state in states(notes).values()) == [1, 1, 2, 2, 2]


def test_a_living_worker_keeps_its_batch_however_long_it_takes(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    short = with_limits(settings, lease_seconds=1)
    [batch_id] = runner.plan(short, shout_task()).batch_ids

    def waits_for_a_renewal(items: Sequence[WorkItem], context: TaskContext) -> Iterator[ProcessingResult]:
        with psycopg.connect(settings.require_database_url()) as own:
            first = lease_until(own)
            deadline = threading.Event()
            for _ in range(600):
                if lease_until(own) > first:
                    break
                deadline.wait(0.1)
            else:
                pytest.fail("the lease was never renewed")
        yield from shout(items, context)

    assert runner.process(short, shout_task(waits_for_a_renewal), batch_id).events == {"succeeded": 1}


def test_a_lease_is_renewed_at_least_twice_before_it_would_run_out(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    keeper = leases.Keeper(settings, 60)
    monkeypatch.setattr(keeper, "_stop", SimpleNamespace(wait=lambda seconds: [waits.append(seconds)], set=lambda: None))
    with keeper:
        pass
    [wait] = waits
    assert wait <= 30


def lease_until(notes: psycopg.Connection) -> str:
    [(until,)] = notes.execute("SELECT lease_until::text FROM silver.tasks_batches").fetchall()
    notes.commit()
    return str(until)


def test_invariant_14_four_plans_at_once_plan_and_batch_everything_once(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, *(f"note {number}" for number in range(200)))
    start = threading.Barrier(4)
    reports: list[PlanReport] = []

    def plan() -> None:
        start.wait()
        reports.append(runner.plan(settings, shout_task(strategy=BatchStrategy(max_items=30))))

    planners = [threading.Thread(target=plan) for _ in range(4)]
    for planner in planners:
        planner.start()
    for planner in planners:
        planner.join()
    assert (sum(report.planned for report in reports), sum(report.batched for report in reports)) == (200, 200)
    assert notes.execute("SELECT sum(items) FROM silver.tasks_batches").fetchall() == [(200,)]


def test_a_stale_worker_writes_nothing_while_another_still_works(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    [batch_id] = runner.plan(settings, shout_task()).batch_ids

    def slow(items: Sequence[WorkItem], context: TaskContext) -> Iterator[ProcessingResult]:
        with psycopg.connect(settings.require_database_url()) as own:
            expire_leases(own)
            assert claim(own, batch_id) is not None
        yield from shout(items, context)

    with pytest.raises(LostLeaseError):
        runner.process(settings, shout_task(slow), batch_id, "slow")
    assert events(notes) == [("attempt", 1)]
    expire_leases(notes)
    assert runner.run(settings, shout_task()).events == {"succeeded": 1}


def test_a_renewal_of_a_lost_lease_does_not_lengthen_the_lease_of_its_new_holder(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    [batch_id] = runner.plan(settings, shout_task()).batch_ids
    lost = claim(notes, batch_id)
    expire_leases(notes)
    assert lost is not None
    assert claim(notes, batch_id) is not None
    until = lease_until(notes)
    for act in (lambda: leases.renew(notes, lost, 3_600), lambda: leases.give_back(notes, lost), lambda: leases.finish(notes, lost)):
        with pytest.raises(LostLeaseError):
            act()
        notes.rollback()
    assert lease_until(notes) == until
