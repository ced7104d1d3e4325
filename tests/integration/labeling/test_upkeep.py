"""Verdicts, backfills, housekeeping, metrics: what people do with tasks that are done."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from medallion_defs.core import clock
from medallion_defs.core.code_version import CodeVersions
from medallion_defs.core.errors import ConfigurationError, TerminalError
from medallion_defs.core.settings import Settings
from medallion_defs.labeling import runner
from medallion_defs.labeling.contract import ProcessingResult, TaskContext, WorkItem
from medallion_defs.labeling.engine import housekeeping, leftovers, metrics, plan
from medallion_defs.labeling.engine.outcomes import InvalidOutputError
from medallion_defs.labeling.labels import verdicts
from medallion_defs.ops.scope import Scope
from tests.integration.labeling.notes import expire_leases, make_due, outputs, put_notes, shout, shout_task, states

SAID = {"text": "said by a person", "length": 3}
GOOD = ("succeeded", 1, None)
V1 = CodeVersions((), "v1")


def current(notes: psycopg.Connection) -> list[str]:
    rows = notes.execute(
        "SELECT current.output ->> 'text' FROM silver.notes JOIN silver.tasks_current AS current USING (file_hash) ORDER BY note_key"
    ).fetchall()
    notes.commit()
    return [text for (text,) in rows]


def louder(items: Sequence[WorkItem], context: TaskContext) -> Iterator[ProcessingResult]:
    return shout(items, TaskContext({"mark": "?"}, context.derived))


def task_of(settings: Settings, key: str) -> UUID:
    [row] = [row for row in runner.list_tasks(settings) if row.subject_key == key]
    return row.task_id


def test_a_verdict_wins_survives_a_re_run_and_ends_with_the_input(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world")
    runner.run(settings, shout_task())
    verdicts.give_verdict(settings, shout_task(), task_of(settings, "n0"), SAID, "it is not loud", "ada")
    assert current(notes) == [SAID["text"], "WORLD"]
    runner.backfill(settings, shout_task(), Scope(), clock.now() + timedelta(minutes=1))
    runner.run(settings, shout_task())
    assert current(notes) == [SAID["text"], "WORLD"]
    put_notes(notes, "hello again")
    runner.run(settings, shout_task())
    assert current(notes) == ["HELLO AGAIN", "WORLD"]
    put_notes(notes, "hello")
    assert current(notes) == [SAID["text"], "WORLD"], "the same bytes, the same verdict"


def test_a_verdict_takes_the_place_of_another_and_can_be_withdrawn(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    runner.run(settings, shout_task())
    task_id = task_of(settings, "n0")
    first = verdicts.give_verdict(settings, shout_task(), task_id, SAID, "no", "ada")
    second = verdicts.give_verdict(settings, shout_task(), task_id, {"text": "better", "length": 1}, "no, no", "bob")
    assert current(notes) == ["better"]
    with pytest.raises(TerminalError, match=f"no verdict {first} that holds"):
        verdicts.withdraw_verdict(settings, first)
    verdicts.withdraw_verdict(settings, second)
    assert current(notes) == ["HELLO"]
    assert notes.execute("SELECT reviewer FROM silver.tasks_verdicts ORDER BY verdict_id").fetchall() == [("ada",), ("bob",)]


def test_a_verdict_must_fit_the_task_and_say_who_and_why(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "terminal")
    runner.run(settings, shout_task())
    task_id = task_of(settings, "n0")
    with pytest.raises(InvalidOutputError, match="length: Field required"):
        verdicts.give_verdict(settings, shout_task(), task_id, {"text": "x"}, "why", "ada")
    with pytest.raises(TerminalError, match="needs a reason and a reviewer"):
        verdicts.give_verdict(settings, shout_task(), task_id, SAID, " ", "ada")
    with pytest.raises(TerminalError, match="nothing to judge"):
        verdicts.give_verdict(settings, shout_task(), task_of(settings, "n1"), SAID, "why", "ada")


def test_agreement_counts_the_verdicts_that_say_the_same(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world", "third")
    runner.run(settings, shout_task())
    for key, output in (("n0", SAID), ("n1", {"text": "WORLD", "length": 5})):
        verdicts.give_verdict(settings, shout_task(), task_of(settings, key), output, "checked", "ada")
    [agreement] = verdicts.read_agreement(settings, "note.shout")
    assert (agreement.profile, agreement.verdicts, agreement.agreeing, agreement.rate) == ("default", 2, 1, 0.5)


def test_a_backfill_keeps_the_old_result_until_the_new_one_is_there(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world")
    runner.run(settings, shout_task())
    before = clock.now() + timedelta(minutes=1)
    assert runner.backfill(settings, shout_task(), Scope(current_code=CodeVersions((), "v1")), before).tasks == 0
    assert runner.backfill(settings, shout_task(), Scope(since=before), before).tasks == 0
    assert runner.backfill(settings, shout_task(), Scope(current_code=CodeVersions((), "v2")), before).tasks == 2
    assert outputs(notes)["n0"]["text"] == "HELLO"
    changed = shout_task(louder, code_version="v2")
    report = runner.run(settings, changed)
    assert report.consolidated.counts.results_updated == 2
    assert outputs(notes)["n0"]["text"] == "HELLO?"
    with pytest.raises(ConfigurationError, match="Tasks know no dataset"):
        runner.backfill(settings, shout_task(), Scope(dataset="x"), before)


def test_a_backfill_does_again_what_it_counted(notes: psycopg.Connection, settings: Settings) -> None:
    for key in ("first", "second"):
        put_notes(notes, **{key: key})
        runner.run(settings, shout_task())
    (_, file_id), (since, _) = notes.execute("SELECT created_at, file_id FROM silver.tasks_todo ORDER BY created_at").fetchall()
    notes.commit()
    before = clock.now() + timedelta(minutes=1)
    for scope, tasks in ((Scope(), 2), (Scope(since=since), 1), (Scope(file_ids=(file_id,)), 1), (Scope(current_code=V1), 0)):
        assert runner.count_backfill(settings, shout_task(), scope, before).tasks == tasks
        assert runner.backfill(settings, shout_task(), scope, before).tasks == tasks
        assert runner.run(settings, shout_task()).events.get("succeeded", 0) == tasks


def test_a_backfill_goes_part_by_part_and_is_batched_up_to_the_limit(
    notes: psycopg.Connection, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_notes(notes, *(f"note {number}" for number in range(5)))
    runner.run(settings, shout_task())
    monkeypatch.setattr(plan, "CHUNK_ROWS", 2)
    assert runner.backfill(settings, shout_task(), Scope(), clock.now() + timedelta(minutes=1)).tasks == 5
    assert [runner.plan(settings, shout_task(), limit=2).batched for _ in range(4)] == [2, 2, 1, 0]


def test_a_backfill_leaves_what_has_a_marker_and_counts_it(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "marked", "free")
    runner.run(settings, shout_task())
    notes.execute(
        "INSERT INTO silver.tasks_markers (task_key, subject_key, task_id)"
        " SELECT task_key, subject_key, task_id FROM silver.tasks_todo WHERE subject_key = 'n0'"
    )
    notes.commit()
    before = clock.now() + timedelta(minutes=1)
    extent = plan.count_redo(notes, "note.shout", Scope(), before, keep_marked=True)
    assert (extent.tasks, extent.bytes, extent.marked) == (1, len("free"), 1)
    notes.commit()
    assert plan.redo(notes, "note.shout", Scope(), before, keep_marked=True) == 1
    assert {key: status for key, (status, *_) in states(notes).items()} == {"n0": "succeeded", "n1": "pending"}


def test_the_same_answer_again_moves_no_result(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    runner.run(settings, shout_task())
    positions = notes.execute("SELECT change_seq FROM silver.tasks_results").fetchall()
    notes.commit()
    file_id = runner.list_tasks(settings)[0].file_id
    assert runner.backfill(settings, shout_task(), Scope(file_ids=(file_id,)), clock.now() + timedelta(minutes=1)).tasks == 1
    report = runner.run(settings, shout_task())
    assert (report.events, report.consolidated.counts.results_updated) == ({"succeeded": 1}, 0)
    assert notes.execute("SELECT change_seq FROM silver.tasks_results").fetchall() == positions


def test_compaction_keeps_the_latest_state_and_the_totals(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "transient", "foreign")
    for _ in range(2):
        runner.run(settings, shout_task())
        make_due(notes)
        housekeeping.compact(settings, clock.now() - timedelta(hours=1))
    latest = "SELECT * FROM silver.tasks_latest ORDER BY task_id"
    before = notes.execute(latest).fetchall()
    notes.commit()
    report = housekeeping.compact(settings, clock.now() + timedelta(hours=1))
    assert (report.batches, report.events) == (2, 9)
    assert notes.execute("SELECT count(*) FROM silver.tasks_status").fetchall() == [(0,)]
    assert notes.execute(latest).fetchall() == before
    notes.commit()
    runner.run(settings, shout_task())
    assert notes.execute("SELECT attempts, failed, last_attempt FROM silver.tasks_latest WHERE failed > 0").fetchall() == [(3, 3, 3)]
    notes.commit()
    housekeeping.compact(settings, clock.now() + timedelta(hours=1))
    assert notes.execute("SELECT attempts, failed, last_attempt FROM silver.tasks_history WHERE failed > 0").fetchall() == [(3, 3, 3)]
    assert housekeeping.repair(settings) == housekeeping.Repaired(0, 0, 0, 0)


def test_a_compaction_beside_another_does_nothing(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    runner.run(settings, shout_task())
    notes.execute("SELECT pg_advisory_xact_lock(hashtextextended('medallion compact tasks_status', 0))")
    assert housekeeping.compact(settings, clock.now() + timedelta(hours=1)) == housekeeping.Compacted(0, 0)
    notes.commit()
    assert housekeeping.compact(settings, clock.now() + timedelta(hours=1)) == housekeeping.Compacted(batches=1, events=2)


def test_work_that_is_not_done_is_never_compacted(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    [batch_id] = runner.plan(settings, shout_task()).batch_ids
    runner.process(settings, shout_task(), batch_id)
    assert housekeeping.compact(settings, clock.now() + timedelta(hours=1)).events == 0
    assert runner.consolidate(settings, shout_task()).counts.succeeded == 1


def test_repair_brings_back_what_lost_its_batch_or_its_result(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    runner.run(settings, shout_task())
    put_notes(notes, n1="world")
    runner.plan(settings, shout_task())
    notes.execute("DELETE FROM silver.tasks_results")
    notes.execute("DELETE FROM silver.tasks_batches")
    notes.commit()
    assert housekeeping.repair(settings) == housekeeping.Repaired(orphans=1, lost_results=1, stray_events=2, expired_leases=0)
    assert set(outputs(notes)) == set()
    runner.run(settings, shout_task())
    assert states(notes) == {"n0": GOOD, "n1": GOOD}


def test_repair_clears_the_leases_of_the_dead(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    runner.plan(settings, shout_task())
    notes.execute("UPDATE silver.tasks_batches SET lease_token = gen_random_uuid(), lease_until = now(), leased_by = 'dead'")
    expire_leases(notes)
    assert housekeeping.repair(settings).expired_leases == 1
    assert notes.execute("SELECT leased_by FROM silver.tasks_batches").fetchall() == [(None,)]


def test_reconcile_finds_what_the_feed_did_not_show(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world")
    runner.run(settings, shout_task())
    notes.execute("DELETE FROM silver.tasks_todo WHERE subject_key = 'n0'")
    notes.commit()
    assert runner.plan(settings, shout_task()).planned == 0
    housekeeping.reconcile(settings, "note.shout")
    assert runner.plan(settings, shout_task()).planned == 1


def test_metrics_say_how_a_task_is_doing(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world", "transient", "terminal")
    since = clock.now() - timedelta(hours=1)
    runner.run(settings, shout_task())
    put_notes(notes, n9="later")
    runner.plan(settings, shout_task())
    [found] = metrics.read_metrics(settings, since)
    assert (found.attempts, found.succeeded, found.failed, found.success_rate) == (4, 2, 2, 0.5)
    assert (found.batched, found.retrying, found.dead, found.p50_ms, found.p95_ms) == (1, 1, 1, 1.5, 1.5)
    assert found.outcomes_per_hour == pytest.approx(4, rel=0.1)
    errors = metrics.read_errors(settings, "note.shout")
    assert [(group.error_type, group.status, group.tasks, group.last_message) for group in errors] == [
        ("TerminalError", "dead", 1, "broken for good"), ("TransientError", "retrying", 1, "busy"),
    ]  # fmt: skip


@pytest.mark.parametrize(("role", "is_allowed"), [("medallion_gold", True), ("medallion_bronze", False), ("medallion_console", False)])
def test_gold_writes_the_tables_of_the_tasks_and_no_other_silver_table(notes: psycopg.Connection, role: str, is_allowed: bool) -> None:
    tables = ("todo", "batches", "status", "history", "results", "prompts", "verdicts")
    notes.execute(f"SET ROLE {role}")
    for table in tables:
        query = "SELECT has_table_privilege(%s, 'INSERT') AND has_table_privilege(%s, 'UPDATE') AND has_table_privilege(%s, 'DELETE')"
        assert notes.execute(query, (f"silver.tasks_{table}",) * 3).fetchall() == [(is_allowed,)]
    assert notes.execute("SELECT has_table_privilege('silver.rejected_rows', 'INSERT')").fetchall() == [(False,)]


def test_what_nothing_will_come_of_is_listed_and_removed_on_request_only(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "terminal", "terminal too", "terminal three")
    runner.run(settings, shout_task())
    tasks = {"note.shout": shout_task()}
    assert leftovers.find_leftovers(settings, tasks) == {}, "a failure is no leftover while its subject and prompt are there"
    notes.execute("DELETE FROM silver.notes WHERE note_key IN ('n0', 'n1')")
    notes.execute(
        "INSERT INTO silver.tasks_status (task_id, task_key, batch_id, attempt, event, worker)"
        " VALUES (%s, 'note.old', 1, 1, 'attempt', 'w')",
        (UUID(int=7),),
    )
    notes.commit()
    found = leftovers.find_leftovers(settings, tasks)
    assert {key: len(ids) for key, ids in found.items()} == {("note.old", "events of no task"): 1, ("note.shout", "subject gone"): 1}
    assert {key: len(ids) for key, ids in leftovers.find_leftovers(settings, {}).items()} == {
        ("note.old", "events of no task"): 1, ("note.shout", "task gone"): 3,
    }  # fmt: skip
    before = notes.execute("SELECT count(*) FROM silver.tasks_todo").fetchone()
    notes.commit()
    assert before == (4,)
    assert leftovers.purge(settings, found) == leftovers.Purged(tasks=1, events=3)
    assert {row.subject_key for row in runner.list_tasks(settings)} == {"n0", "n2", "n3"}, "what has a result stays"
    assert leftovers.find_leftovers(settings, tasks) == {}
    notes.execute("UPDATE silver.tasks_prompts SET state = 'retired'")
    notes.commit()
    found = leftovers.find_leftovers(settings, tasks)
    assert {key: len(ids) for key, ids in found.items()} == {("note.shout", "prompt retired"): 2}
    assert leftovers.purge(settings, found) == leftovers.Purged(tasks=2, events=4)
    assert outputs(notes, "note.shout") == {"n0": {"text": "HELLO", "length": 5}}
    assert notes.execute("SELECT DISTINCT task_id = (SELECT task_id FROM silver.tasks_results) FROM silver.tasks_status").fetchall() == [
        (True,)
    ]
