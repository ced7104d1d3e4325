"""Plan, process, consolidate: what becomes of notes, good and bad."""

import psycopg
import pytest

from medallion_defs.core.errors import ConfigurationError, TerminalError
from medallion_defs.core.settings import Settings
from medallion_defs.labeling import runner
from medallion_defs.labeling.contract import BatchStrategy, Subjects
from medallion_defs.labeling.engine.reading import TaskFilter
from tests.integration.labeling.notes import count_task, make_due, outputs, put_notes, shout_task, states, with_limits

GOOD = ("succeeded", 1, None)


def test_every_note_is_answered_once(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world")
    report = runner.run(settings, shout_task(mark="!"))
    assert outputs(notes) == {"n0": {"text": "HELLO!", "length": 5}, "n1": {"text": "WORLD!", "length": 5}}
    assert (report.plan.planned, report.plan.batched, report.events) == (2, 2, {"succeeded": 2})
    assert report.consolidated.counts.results_created == 2


def test_planning_twice_plans_nothing_twice(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world")
    first, second = (runner.plan(settings, shout_task()) for _ in range(2))
    assert (first.planned, first.batched, len(first.batch_ids)) == (2, 2, 1)
    assert (second.planned, second.batched, second.batch_ids) == (0, 0, first.batch_ids)
    runner.run(settings, shout_task())
    again = runner.run(settings, shout_task())
    assert (again.plan.planned, again.plan.batch_ids, again.events) == (0, (), {})


def test_what_arrives_later_is_planned_later(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    runner.run(settings, shout_task())
    put_notes(notes, n7="later")
    assert runner.run(settings, shout_task()).plan.planned == 1
    assert set(outputs(notes)) == {"n0", "n7"}


@pytest.mark.parametrize(
    ("bad", "state"),
    [
        ("raise", ("retrying", 1, "Unexpected")),
        ("skip", ("retrying", 1, "MissingResultError")),
        ("transient", ("retrying", 1, "TransientError")),
        ("terminal", ("dead", 1, "TerminalError")),
        ("twice", ("dead", 1, "DuplicateResultError")),
        ("invalid", ("dead", 1, "InvalidOutputError")),
        ("nul", ("dead", 1, "InvalidOutputError")),
        ("nothing", ("dead", 1, "InvalidOutputError")),
    ],
)
def test_invariant_15_a_bad_item_fails_alone(notes: psycopg.Connection, settings: Settings, bad: str, state: tuple[str, int, str]) -> None:
    put_notes(notes, "hello", bad, "world")
    report = runner.run(settings, shout_task())
    assert states(notes) == {"n0": GOOD, "n1": state, "n2": GOOD}
    assert report.events["failed"] == 1
    assert set(outputs(notes)) == {"n0", "n2"}


def test_a_foreign_answer_fails_nobody_and_is_noted(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "foreign")
    report = runner.run(settings, shout_task())
    assert states(notes) == {"n0": GOOD, "n1": GOOD}
    assert report.events == {"succeeded": 2, "discarded": 1}
    assert report.processed[0].items == 2


def test_an_outcome_of_another_batch_than_the_tasks_own_decides_nothing(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    [first] = runner.plan(settings, shout_task()).batch_ids
    runner.process(settings, shout_task(), first)
    [(second,)] = notes.execute(
        "INSERT INTO silver.tasks_batches (task_key, prompt_id, items, bytes, state)"
        " SELECT task_key, prompt_id, items, bytes, 'processed' FROM silver.tasks_batches RETURNING batch_id"
    ).fetchall()
    notes.execute("UPDATE silver.tasks_todo SET batch_id = %s", (second,))
    # The task's own batch says that it failed; after that the first one, late, repeats its success.
    copy_event = (
        "INSERT INTO silver.tasks_status (task_id, task_key, batch_id, attempt, event, worker, output, error_type)"
        " SELECT task_id, task_key, %s, attempt, %s, worker,"
        " CASE %s WHEN 'succeeded' THEN output END, CASE %s WHEN 'failed' THEN 'Late' END"
        " FROM silver.tasks_status WHERE event = 'succeeded' LIMIT 1"
    )
    for batch_id, event in ((second, "failed"), (first, "succeeded")):
        notes.execute(copy_event, (batch_id, event, event, event))
    notes.commit()
    runner.consolidate(settings, shout_task())
    assert (states(notes), outputs(notes)) == ({"n0": ("dead", 1, "Late")}, {})


def test_an_error_after_the_last_answer_is_noted(notes: psycopg.Connection, settings: Settings) -> None:
    def falls_over_at_the_end(items, context):  # type: ignore[no-untyped-def]  # a task's own code
        yield from shout_task().processor(items, context)
        raise OSError("cannot close")

    put_notes(notes, "hello")
    report = runner.run(settings, shout_task(falls_over_at_the_end))
    assert (states(notes), report.events) == ({"n0": GOOD}, {"succeeded": 1, "discarded": 1})


def test_a_processor_that_returns_nothing_at_all_fails_its_items(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    runner.run(settings, shout_task(lambda items, context: None))  # type: ignore[arg-type,return-value]  # that is the fault
    assert states(notes) == {"n0": ("retrying", 1, "TypeError")}


def test_a_transient_failure_is_tried_again_when_due_and_then_dead(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "transient")
    limits = with_limits(settings, max_attempts=2)
    runner.run(limits, shout_task())
    assert runner.run(limits, shout_task()).events == {}, "the wait is not over"
    make_due(notes)
    runner.run(limits, shout_task())
    assert states(notes) == {"n0": ("dead", 2, "TransientError")}
    assert [row.subject_key for row in runner.dead(settings, "note.shout")] == ["n0"]


def test_the_wait_doubles_and_depends_on_the_type_of_the_error(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "transient", "skip")
    limits = with_limits(settings, retry_seconds=100, retry_seconds_by_error={"MissingResultError": 7})
    waits = []
    for _ in range(2):
        runner.run(limits, shout_task())
        waits.append(
            notes.execute("SELECT retry_seconds FROM silver.tasks_status WHERE event = 'failed' ORDER BY event_id DESC LIMIT 2").fetchall()
        )
        make_due(notes)
    assert [sorted(wait) for wait in waits] == [[(7,), (100,)], [(14,), (200,)]]


def test_requeue_gives_all_attempts_back(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "terminal", "hello")
    runner.run(settings, shout_task())
    assert runner.requeue(settings, "note.shout", error_type="OSError") == 0
    assert runner.requeue(settings, "note.shout") == 1
    runner.run(settings, shout_task())
    assert states(notes) == {"n0": ("dead", 1, "TerminalError"), "n1": GOOD}


def test_invariant_8_new_code_tries_exactly_the_failed_again(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "terminal", "hello")
    runner.run(settings, shout_task())
    same = runner.plan(settings, shout_task())
    fixed = runner.run(settings, shout_task(code_version="v2"))
    assert (same.rearmed, fixed.plan.rearmed, fixed.plan.batched) == (0, 1, 1)
    assert runner.plan(settings, shout_task(code_version="v2")).rearmed == 0


def test_new_bytes_are_a_new_task_and_the_old_result_stays(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "old")
    runner.run(settings, shout_task())
    put_notes(notes, "new")
    runner.run(settings, shout_task())
    found = notes.execute("SELECT output ->> 'text' FROM silver.tasks_results ORDER BY created_at").fetchall()
    assert found == [("OLD",), ("NEW",)]
    current = notes.execute("SELECT output ->> 'text' FROM silver.notes JOIN silver.tasks_current USING (file_hash)").fetchall()
    assert current == [("NEW",)]


def test_a_task_whose_bytes_changed_before_its_turn_is_withdrawn_and_comes_back_with_them(
    notes: psycopg.Connection, settings: Settings
) -> None:
    put_notes(notes, "first")
    planned = runner.plan(settings, shout_task())
    put_notes(notes, "second")
    runner.process(settings, shout_task(), planned.batch_ids[0])
    runner.consolidate(settings, shout_task())
    assert (states(notes), outputs(notes)) == ({"n0": ("withdrawn", 0, None)}, {})
    runner.run(settings, shout_task())
    put_notes(notes, "first")
    runner.run(settings, shout_task())
    assert [row.status for row in runner.list_tasks(settings)] == ["succeeded", "succeeded"]


def test_subjects_with_the_same_bytes_share_one_task(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "same", "same")
    assert runner.run(settings, shout_task()).plan.planned == 1
    joined = notes.execute("SELECT note_key, output ->> 'text' FROM silver.notes JOIN silver.tasks_current USING (file_hash) ORDER BY 1")
    assert joined.fetchall() == [("n0", "SAME"), ("n1", "SAME")]


def test_a_dependent_task_waits_for_the_result_and_reads_it(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "terminal")
    runner.plan(settings, shout_task())
    assert runner.plan(settings, count_task()).planned == 0
    runner.run(settings, shout_task())
    assert runner.run(settings, count_task()).plan.planned == 1
    assert outputs(notes, "note.count") == {"n0": {"letters": 5}}


def test_batches_are_cut_by_size_and_by_group(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, *(f"note {number}" for number in range(10)))
    notes.execute("UPDATE silver.notes SET topic = CASE WHEN note_key < 'n3' THEN 'a' ELSE 'b' END")
    notes.commit()
    task = shout_task(strategy=BatchStrategy(max_items=5, by_group=True))
    runner.plan(settings, task)
    batches = notes.execute("SELECT items, bytes FROM silver.tasks_batches ORDER BY batch_id").fetchall()
    assert batches == [(3, 18), (5, 30), (2, 12)]
    assert runner.run(settings, task).events == {"succeeded": 10}


def test_limit_bounds_what_is_planned_and_batched(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, *(f"note {number}" for number in range(7)))
    reports = [runner.plan(settings, shout_task(), limit=3) for _ in range(4)]
    assert [(report.planned, report.batched) for report in reports] == [(3, 3), (3, 3), (1, 1), (0, 0)]


def test_a_limit_counts_tasks_and_not_the_subjects_that_share_one(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "same", "same", "same", "other", "third")
    assert [runner.plan(settings, shout_task(), limit=2).planned for _ in range(2)] == [2, 1]


def test_subjects_that_share_a_position_are_never_split(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, *(f"note {number}" for number in range(6)))
    notes.execute("ALTER TABLE silver.notes DISABLE TRIGGER USER")
    notes.execute("UPDATE silver.notes SET change_seq = CASE WHEN note_key < 'n2' THEN 1 ELSE 2 END")
    notes.commit()
    reports = [runner.plan(settings, shout_task(), limit=3) for _ in range(3)]
    assert [report.planned for report in reports] == [6, 0, 0]


def test_a_dry_run_counts_and_leaves_everything_as_it_is(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world")
    dry = runner.plan(settings, shout_task(), dry_run=True)
    assert (dry.planned, dry.batched, dry.batch_ids) == (2, 2, ())
    assert (states(notes), runner.plan(settings, shout_task()).planned) == ({}, 2)


def test_another_profile_in_the_file_of_a_task_without_a_model_is_taken_by_itself(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    runner.run(settings, shout_task(mark="!"))
    report = runner.run(settings, shout_task(mark="?"))
    assert (report.plan.waiting_profiles, report.plan.planned) == ((), 1)
    found = notes.execute("SELECT output ->> 'text' FROM silver.tasks_results ORDER BY created_at").fetchall()
    assert found == [("HELLO!",), ("HELLO?",)]


def test_a_variant_is_planned_beside_the_primary_and_not_shown(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    runner.run(settings, shout_task(mark="!"))
    variant = shout_task(mark="?").profiles[0]
    notes.execute(
        "INSERT INTO silver.tasks_prompts (prompt_id, task_key, profile, content, state) VALUES (%s, 'note.shout', 'b', %s, 'variant')",
        (variant.prompt_id, variant.model_dump_json()),
    )
    notes.commit()
    assert runner.run(settings, shout_task(mark="!")).plan.planned == 1
    assert len(notes.execute("SELECT FROM silver.tasks_results").fetchall()) == 2
    assert notes.execute("SELECT output ->> 'text' FROM silver.tasks_current").fetchall() == [("HELLO!",)]


def test_what_a_task_needs_and_lacks_is_said_in_one_sentence(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    task = shout_task()
    no_hash = Subjects("notes", task.spec.subjects.candidates, "SELECT note_key AS subject_key FROM silver.notes")
    object.__setattr__(task.spec, "subjects", no_hash)
    with pytest.raises(ConfigurationError, match="must return the columns subject_key and file_hash"):
        runner.run(settings, task)
    no_key = Subjects("notes", "SELECT 1 AS bytes, %(after)s, %(limit)s", no_hash.inputs)
    object.__setattr__(task.spec, "subjects", no_key)
    notes.execute("DELETE FROM silver.tasks_prompts")
    notes.commit()
    with pytest.raises(ConfigurationError, match="candidates query of its subjects 'notes' must return"):
        runner.plan(settings, task)


def test_the_life_of_a_task_is_shown_whole(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "transient")
    runner.run(settings, shout_task())
    make_due(notes)
    runner.run(settings, shout_task())
    [good] = runner.list_tasks(settings, TaskFilter(statuses=("succeeded",)))
    life = runner.show_task(settings, good.task_id)
    assert [event["event"] for event in life.events] == ["attempt", "succeeded"]
    assert (life.result or {})["output"] == {"text": "HELLO", "length": 5}
    [bad] = runner.list_tasks(settings, TaskFilter(error_type="TransientError"))
    assert [event["event"] for event in runner.show_task(settings, bad.task_id).events] == ["attempt", "failed"] * 2
    with pytest.raises(TerminalError, match="There is no task"):
        runner.show_task(settings, good.file_id)


def test_what_a_model_cost_is_kept_with_the_result(notes: psycopg.Connection, settings: Settings) -> None:
    from decimal import Decimal

    from medallion_defs.labeling.contract import ProcessingResult

    def costly(items, context):  # type: ignore[no-untyped-def]  # a task's own code
        return [ProcessingResult(i.task_id, {"text": "x", "length": 1}, usage={"tokens": 7}, cost_usd=Decimal("0.000012")) for i in items]

    put_notes(notes, "hello")
    runner.run(settings, shout_task(costly))
    assert notes.execute("SELECT usage, cost_usd FROM silver.tasks_results").fetchall() == [({"tokens": 7}, Decimal("0.000012"))]
