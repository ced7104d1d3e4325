"""Tasks as Dagster runs them: the graph asset with its fan-out, the sensor that plans, the answers, and the housekeeping jobs."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import dagster as dg
import psycopg
import pytest

from medallion_defs.core import clock
from medallion_defs.core.settings import Settings
from medallion_defs.genai.emulator_faults import Faults, ItemFault
from medallion_defs.genai.requests import outbox_path
from medallion_defs.labeling import runner
from medallion_defs.labeling.assets import open_work
from medallion_defs.labeling.assets.answers import build_answers
from medallion_defs.labeling.assets.labels import build_labels
from medallion_defs.labeling.assets.open_work import look
from medallion_defs.labeling.assets.tasks import build_asset
from medallion_defs.labeling.contract import BatchStrategy, ProcessingResult, TaskContext, WorkItem
from medallion_defs.labeling.registry import Task
from medallion_defs.locations import gold
from medallion_defs.ops.cursors import decode_cursor, encode_cursor
from medallion_defs.ops.run_requests import WORK_TAG
from tests.integration.genai.conftest import Transport, genai_settings, judge_task, notes, provider, transport
from tests.integration.labeling.notes import count_task, expire_leases, make_due, outputs, put_notes, shout_task, states, with_limits

__all__ = ["genai_settings", "notes", "provider", "transport"]
NODE = "silver__tasks__note_shout"


def run_task(
    task: Task, settings: Settings, instance: dg.DagsterInstance, tags: dict[str, str] | None = None, **config: object
) -> dg.ExecuteInProcessResult:
    """Run the task's asset as Materialize does."""
    asset = build_asset(task)
    run_config = {"ops": {asset.node_def.name: {"config": config}}} if config else None
    return dg.materialize(
        [asset], instance=instance, resources={"settings": settings}, run_config=run_config, tags=tags, raise_on_error=False
    )


def numbers(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """The metadata of the run's one materialization."""
    [event] = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    """The first line of what the run's one failed step says."""
    [event] = [event for event in result.all_events if event.is_step_failure]
    error = event.step_failure_data.error
    assert error is not None
    return error.message.splitlines()[0]


def with_settings(defs: dg.Definitions, settings: Settings) -> dg.Definitions:
    return dg.Definitions.merge(defs, dg.Definitions(resources={"settings": dg.ResourceDefinition.hardcoded_resource(settings)}))


def tick(
    tasks: Sequence[Task], settings: Settings, instance: dg.DagsterInstance, cursor: str | None = None
) -> tuple[dict[str, dg.RunRequest], str, str | None]:
    """Evaluate the sensor of the tasks; return its requests by job, why it skipped, and its cursor."""
    defs = with_settings(gold.build_tasks({task.task_key: task for task in tasks}), settings)
    [sensor] = [sensor for sensor in defs.sensors or () if sensor.name == "plan_tasks"]
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources={"settings": settings}, definitions=defs) as context:
        data = sensor.evaluate_tick(context)
    return {str(request.job_name): request for request in data.run_requests or ()}, data.skip_message or "", data.cursor


def note(instance: dg.DagsterInstance, request: dg.RunRequest, task: Task, settings: Settings) -> dg.ExecuteInProcessResult:
    """Run what the sensor asked for, with its tags, as the daemon would."""
    return run_task(task, settings, instance, tags=dict(request.tags))


def spoil_batch_of(db: psycopg.Connection, subject_key: str) -> int:
    """A hand in the database: the batch of that note names a profile that is not there. Return its id."""
    row = db.execute(
        "UPDATE silver.tasks_batches AS batch SET prompt_id = 'gone' FROM silver.tasks_todo AS todo"
        " WHERE todo.batch_id = batch.batch_id AND todo.subject_key = %s RETURNING batch.batch_id",
        (subject_key,),
    ).fetchone()
    db.commit()
    assert row is not None
    return int(row[0])


def test_a_run_plans_processes_each_batch_in_a_step_and_consolidates(
    notes: psycopg.Connection, settings: Settings, instance: dg.DagsterInstance
) -> None:
    put_notes(notes, "one", "two", "three", "terminal", "transient")
    result = run_task(shout_task(strategy=BatchStrategy(max_items=2)), settings, instance)
    assert result.success
    steps = [event.step_key for event in result.all_events if event.is_step_success]
    assert len([step for step in steps if step and step.startswith(f"{NODE}.process[")]) == 3
    assert set(outputs(notes)) == {"n0", "n1", "n2"}
    found = numbers(result)
    expected = {"planned": 5, "batches": 3, "batches_left": 0, "succeeded": 3, "retrying": 1, "dead": 1, "results_created": 3}
    assert {name: found[name] for name in expected} == expected
    assert found["seconds"] > 0
    assert found["items_per_second"] > 0
    assert "TerminalError" in found["failures"]


def test_a_key_with_a_dot_is_an_asset_key_and_its_steps_have_names_that_dagster_takes() -> None:
    assets = {asset.key: asset for asset in gold.defs.assets or () if isinstance(asset, dg.AssetsDefinition)}
    frames, labels = dg.AssetKey(["silver", "tasks", "video.extract_frames"]), dg.AssetKey(["silver", "tasks", "frame.label"])
    assert assets[frames].asset_deps[frames] == {dg.AssetKey(["silver", "media"])}
    assert assets[labels].asset_deps[labels] == {frames}
    assert assets[labels].node_def.name == "silver__tasks__frame_label"


def test_a_batch_that_raises_makes_the_run_red_and_takes_nothing_from_the_others(
    notes: psycopg.Connection, settings: Settings, instance: dg.DagsterInstance
) -> None:
    put_notes(notes, "one", "two", "three")
    task = shout_task(strategy=BatchStrategy(max_items=1))
    runner.plan(settings, task)
    batch_id = spoil_batch_of(notes, "n1")
    result = run_task(task, settings, instance)
    assert not result.success
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert failure.step_key == f"{NODE}.process[{batch_id}]"
    assert set(outputs(notes)) == {"n0", "n2"}
    assert [status for status, _, _ in states(notes).values()] == ["succeeded", "batched", "succeeded"]


def test_the_run_after_does_the_batch_that_failed_alone(
    notes: psycopg.Connection, settings: Settings, instance: dg.DagsterInstance
) -> None:
    put_notes(notes, "one", "two")
    task = shout_task(strategy=BatchStrategy(max_items=1))
    runner.plan(settings, task)
    spoil_batch_of(notes, "n1")
    assert not run_task(task, settings, instance).success
    notes.execute("UPDATE silver.tasks_batches SET prompt_id = (SELECT prompt_id FROM silver.tasks_prompts)")
    expire_leases(notes)
    result = run_task(task, settings, instance)
    assert result.success
    assert numbers(result)["batches"] == 1
    assert set(outputs(notes)) == {"n0", "n1"}


def test_more_batches_than_one_run_takes_are_the_next_runs(
    notes: psycopg.Connection, settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medallion_defs.labeling.assets.tasks.MOST_BATCHES", 2)
    put_notes(notes, "one", "two", "three")
    task = shout_task(strategy=BatchStrategy(max_items=1))
    first = run_task(task, settings, instance)
    assert (numbers(first)["batches"], numbers(first)["batches_left"]) == (2, 1)
    requests, _, _ = tick([task], settings, instance)
    assert set(requests) == {"task_note_shout"}
    assert numbers(run_task(task, settings, instance))["succeeded"] == 1
    assert set(outputs(notes)) == {"n0", "n1", "n2"}


def test_scope_all_does_history_again_and_keeps_the_old_results_meanwhile(
    notes: psycopg.Connection, settings: Settings, instance: dg.DagsterInstance
) -> None:
    put_notes(notes, "one", "two")
    assert run_task(shout_task(), settings, instance).success
    nothing = run_task(shout_task(), settings, instance)
    assert (nothing.success, nothing.get_asset_materialization_events()) == (True, [])

    def raises(_items: Sequence[WorkItem], _context: TaskContext) -> Iterator[ProcessingResult]:
        raise ValueError("broken")

    broken = run_task(shout_task(raises), settings, instance, scope="all")
    assert (numbers(broken)["done_again"], numbers(broken)["retrying"] + numbers(broken)["dead"]) == (2, 2)
    assert set(outputs(notes)) == {"n0", "n1"}


def test_the_other_scopes_do_their_part_of_history(notes: psycopg.Connection, settings: Settings, instance: dg.DagsterInstance) -> None:
    put_notes(notes, "one", "two")
    assert run_task(shout_task(), settings, instance).success
    row = notes.execute("SELECT file_id::text FROM silver.notes WHERE note_key = 'n1'").fetchone()
    notes.commit()
    assert row is not None
    assert numbers(run_task(shout_task(), settings, instance, scope="file_ids", file_ids=[row[0]]))["done_again"] == 1
    assert numbers(run_task(shout_task(), settings, instance, scope="outdated"))["done_again"] == 0
    assert numbers(run_task(shout_task(code_version="v2"), settings, instance, scope="outdated"))["done_again"] == 2
    tomorrow = (clock.now() + timedelta(days=1)).isoformat()
    assert "nothing matches: scope since" in failure(run_task(shout_task(), settings, instance, scope="since", since=tomorrow))
    yesterday = (clock.now() - timedelta(days=1)).isoformat()
    assert "nothing matches: scope all" in failure(run_task(shout_task(), settings, instance, scope="all", before=yesterday))
    # Nothing is done twice because the time lies ahead: what the run itself does is not done again.
    found = numbers(run_task(shout_task(), settings, instance, scope="all", before=tomorrow))
    assert (found["done_again"], found["tasks_matched"]) == (2, 2)
    assert found["before"] < clock.now().isoformat()


def test_a_scope_without_its_value_fails_with_a_sentence(
    settings: Settings, instance: dg.DagsterInstance, notes: psycopg.Connection
) -> None:
    result = run_task(shout_task(), settings, instance, scope="since")
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert "The setting 'since' is missing" in str(failure.step_failure_data.error)


def test_a_limit_plans_that_many(notes: psycopg.Connection, settings: Settings, instance: dg.DagsterInstance) -> None:
    put_notes(notes, "one", "two", "three")
    assert numbers(run_task(shout_task(), settings, instance, limit=1))["succeeded"] == 1
    assert "Failure: limit: -1 is too small. Write 1 or more" in failure(run_task(shout_task(), settings, instance, limit=-1))


# -- the sensor --------------------------------------------------------------------------------------------------------


def test_the_sensor_asks_for_one_run_when_a_subject_appears_and_for_none_when_nothing_does(
    notes: psycopg.Connection, settings: Settings, instance: dg.DagsterInstance
) -> None:
    task = shout_task()
    assert tick([task], settings, instance)[:2] == ({}, "1 tasks: nothing to do")
    put_notes(notes, "one")
    first, _, _ = tick([task], settings, instance)
    again, _, _ = tick([task], settings, instance)
    assert [request.run_key for request in first.values()] == [request.run_key for request in again.values()] == ["tasks/note.shout:1"]
    assert note(instance, first["task_note_shout"], task, settings).success
    assert tick([task], settings, instance)[0] == {}
    put_notes(notes, n1="another")
    requests, _, _ = tick([task], settings, instance)
    assert requests["task_note_shout"].run_key == "tasks/note.shout:2"


def test_a_task_that_reads_anothers_results_is_asked_for_when_they_are_there(
    notes: psycopg.Connection, settings: Settings, instance: dg.DagsterInstance
) -> None:
    tasks = [shout_task(), count_task()]
    put_notes(notes, "one")
    assert set(tick(tasks, settings, instance)[0]) == {"task_note_shout"}
    assert run_task(tasks[0], settings, instance).success
    assert set(tick(tasks, settings, instance)[0]) == {"task_note_count"}
    assert run_task(tasks[1], settings, instance).success
    assert tick(tasks, settings, instance)[0] == {}
    assert outputs(notes, "note.count") == {"n0": {"letters": 3}}


def test_what_was_left_open_is_a_reason_for_a_run(notes: psycopg.Connection, settings: Settings, instance: dg.DagsterInstance) -> None:
    task = shout_task()
    put_notes(notes, "transient")

    def reason() -> str | None:
        found, _ = look(notes, [task], None, clock.now())
        notes.commit()
        return found.get("note.shout")

    [batch_id] = runner.plan(settings, task).batch_ids
    assert reason() == "batches to process"
    runner.process(settings, task, batch_id)
    assert reason() == open_work.CONSOLIDATION
    runner.consolidate(settings, task)
    assert reason() is None
    make_due(notes)
    assert reason() == "retries that are due"
    found, _ = look(notes, [shout_task(code_version="v2")], None, clock.now())
    assert found == {"note.shout": "retries that are due"}
    runner.requeue(settings, "note.shout")
    assert reason() == "tasks to batch"
    run_task(with_died := shout_task(), with_limits(settings, max_attempts=1), instance)
    assert with_died.task_key == "note.shout"
    assert reason() is None
    found, _ = look(notes, [shout_task(code_version="v2")], None, clock.now())
    assert found == {"note.shout": "failures of another code version"}


def test_a_task_whose_subjects_cannot_be_read_fails_alone(
    notes: psycopg.Connection, settings: Settings, instance: dg.DagsterInstance
) -> None:
    tasks = [shout_task(), count_task()]
    put_notes(notes, "one")
    runner.run(settings, tasks[0])
    notes.execute("ALTER TABLE silver.notes RENAME COLUMN topic TO subject")
    notes.commit()
    requests, _, _ = tick(tasks, settings, instance)
    assert set(requests) == {"task_note_shout", "task_note_count"}
    result = note(instance, requests["task_note_shout"], tasks[0], settings)
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert 'column "topic" does not exist' in str(failure.step_failure_data.error)
    assert note(instance, requests["task_note_count"], tasks[1], settings).success


def test_an_edited_profile_of_a_task_without_a_model_is_a_reason(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "one")
    runner.run(settings, shout_task())
    edited = shout_task(mark="!")
    assert look(notes, [edited], None, clock.now())[0] == {"note.shout": "an edited profile"}
    notes.commit()
    runner.run(settings, edited)
    assert look(notes, [edited], None, clock.now())[0] == {}
    notes.commit()


def test_a_batch_that_somebody_holds_is_no_reason(notes: psycopg.Connection, settings: Settings) -> None:
    task = shout_task()
    put_notes(notes, "one")
    runner.plan(settings, task)
    notes.execute("UPDATE silver.tasks_batches SET lease_token = gen_random_uuid(), lease_until = now() + '1 hour', leased_by = 'w'")
    notes.commit()
    assert look(notes, [task], None, clock.now())[0] == {}


def test_a_run_that_failed_is_asked_for_again_after_a_wait(
    notes: psycopg.Connection, settings: Settings, instance: dg.DagsterInstance
) -> None:
    task = shout_task()
    put_notes(notes, "one")
    requests, _, _ = tick([task], settings, instance)
    notes.execute("ALTER TABLE silver.notes RENAME COLUMN body TO text")
    notes.commit()
    assert not note(instance, requests["task_note_shout"], task, settings).success
    notes.execute("ALTER TABLE silver.notes RENAME COLUMN text TO body")
    notes.commit()
    nothing, why, _ = tick([task], settings, instance)
    assert nothing == {}
    assert "tried again at" in why
    soon = with_limits(settings, retry_seconds=0)
    again, _, _ = tick([task], soon, instance)
    assert again["task_note_shout"].run_key == "tasks/note.shout:2"
    assert again["task_note_shout"].tags[WORK_TAG] == "tasks/note.shout"


def test_a_long_stretch_without_subjects_is_read_once_and_no_subject_is_missed(notes: psycopg.Connection, settings: Settings) -> None:
    task = shout_task()
    put_notes(notes, "one")
    runner.run(settings, task)
    notes.execute("SELECT setval('silver.change_seq', nextval('silver.change_seq') + 20000)")
    notes.commit()
    found, memory = look(notes, [task], None, clock.now())
    notes.commit()
    assert found == {}
    [seen] = memory.seen.values()
    assert seen.seen_seq > 20_000
    # Kept in the cursor, and of use as long as the plan is where it was.
    assert decode_cursor(encode_cursor(memory), open_work.Memory) == memory
    put_notes(notes, n1="two")
    assert look(notes, [task], memory, clock.now())[0] == {"note.shout": "new subjects"}
    notes.commit()
    notes.execute("UPDATE silver.tasks_prompts SET planned_seq = 0")
    notes.execute("DELETE FROM silver.notes WHERE note_key = 'n1'")
    notes.commit()
    assert look(notes, [task], memory, clock.now())[0] == {"note.shout": "new subjects"}


def test_no_position_is_remembered_while_somebody_writes(notes: psycopg.Connection, settings: Settings, database_url: str) -> None:
    task = shout_task()
    put_notes(notes, "one")
    runner.run(settings, task)
    notes.execute("SELECT setval('silver.change_seq', nextval('silver.change_seq') + 20000)")
    notes.commit()
    put_notes(notes, n0="one")
    runner.run(settings, task)
    notes.execute("SELECT setval('silver.change_seq', nextval('silver.change_seq') + 20000)")
    notes.commit()
    with psycopg.connect(database_url) as writer:
        writer.execute("INSERT INTO silver.notes (note_key, body, file_hash) VALUES ('late', 'late', 'h')")
        _, memory = look(notes, [task], None, clock.now())
        notes.commit()
        assert memory.seen == {}
    assert look(notes, [task], memory, clock.now())[0] == {"note.shout": "new subjects"}


# -- tasks that ask a model --------------------------------------------------------------------------------------------


def answer_all(transport: Transport, task: Task, instance: dg.DagsterInstance) -> list[dg.ExecuteInProcessResult]:
    """Send, poll and collect what is reserved; then run what the sensor of the answers asks for."""
    transport.send()
    while transport.state.list_batches("active"):
        transport.poll()
    transport.collect()
    defs = with_settings(build_answers({task.task_key: task}), transport.settings)
    [sensor] = defs.sensors or ()
    settings = transport.settings
    with dg.build_sensor_context(instance=instance, resources={"settings": settings}, definitions=defs) as context:
        requests = sensor.evaluate_tick(context).run_requests or ()
    return [read_answers(task, settings, instance, request.run_config, dict(request.tags)) for request in requests]


def read_answers(
    task: Task, settings: Settings, instance: dg.DagsterInstance, run_config: Any = None, tags: dict[str, str] | None = None
) -> dg.ExecuteInProcessResult:
    [asset] = build_answers({task.task_key: task}).assets or ()
    return dg.materialize(
        [asset],  # type: ignore[list-item]  # an asset, as built
        instance=instance, resources={"settings": settings}, run_config=run_config, tags=tags, raise_on_error=False,
    )  # fmt: skip


def test_a_model_is_asked_by_a_run_and_its_answers_come_with_a_report(
    notes: psycopg.Connection, transport: Transport, instance: dg.DagsterInstance
) -> None:
    task = judge_task()
    put_notes(notes, "one", "two", "three")
    transport.provider.faults = Faults(items=[ItemFault.model_validate({"kind": "empty", "keys": ["n1"]})])
    requests, _, _ = tick([task], transport.settings, instance)
    handed_over = note(instance, requests["task_note_judge"], task, transport.settings)
    assert handed_over.success
    assert "3 records wait to be sent" in numbers(handed_over)["asked"]
    # Nothing to do but to wait for the model.
    assert tick([task], transport.settings, instance)[:2] == ({}, "1 tasks: nothing to do")
    [result] = answer_all(transport, task, instance)
    assert result.success
    found = numbers(result)
    assert (found["batches"], found["total"], found["success"], found["failures"]) == (1, 3, 2, 1)
    assert found["cost_usd"] > 0
    assert "### Batch Summary Report" in found["batch_summary_report"]
    assert "- `n1` (Empty Candidates) - *Retry #1*" in found["batch_summary_report"]
    assert set(outputs(notes, "note.judge")) == {"n0", "n2"}
    # Read once: neither a second tick nor a person finds anything.
    assert answer_all(transport, task, instance) == []
    again = read_answers(task, transport.settings, instance)
    assert (again.success, again.get_asset_materialization_events()) == (True, [])


def test_answers_that_a_person_reads_are_all_that_wait(
    notes: psycopg.Connection, transport: Transport, instance: dg.DagsterInstance
) -> None:
    task = judge_task()
    put_notes(notes, "one")
    assert run_task(task, transport.settings, instance).success
    transport.send()
    while transport.state.list_batches("active"):
        transport.poll()
    transport.collect()
    result = read_answers(task, transport.settings, instance)
    assert result.success
    assert numbers(result)["success"] == 1


def test_an_item_of_answers_that_cannot_be_read_makes_the_run_red_and_the_others_are_read(
    notes: psycopg.Connection, transport: Transport, instance: dg.DagsterInstance
) -> None:
    task = judge_task()
    put_notes(notes, "one", "two")
    settings = transport.settings.model_copy(update={"genai": transport.settings.genai.model_copy(update={"max_batch_requests": 1})})
    assert run_task(task, settings, instance).success
    lost, kept = (batch.batch_id for batch in transport.state.list_batches("reserved"))
    transport.send()
    while transport.state.list_batches("active"):
        transport.poll()
    transport.collect()
    # Somebody restored an older copy of the table: one batch is not there.
    notes.execute("DELETE FROM ops.active_batches WHERE batch_id = %s", (lost,))
    notes.commit()
    [result] = answer_all(transport, task, instance)
    assert not result.success
    found = numbers(result)
    assert (found["batches"], found["items_failed"], found["success"]) == (1, 1, 1)
    assert kept in found["batch_summary_report"]
    assert f"has no batch {lost}" in found["unreadable"]


def test_a_reached_budget_is_no_reason_for_run_after_run(
    notes: psycopg.Connection, transport: Transport, instance: dg.DagsterInstance
) -> None:
    task = judge_task()
    put_notes(notes, "one", "two")
    genai = transport.settings.genai
    poor = transport.settings.model_copy(update={"genai": genai.model_copy(update={"max_usd_per_day": Decimal("0.00001")})})
    requests, _, _ = tick([task], poor, instance)
    refused = note(instance, requests["task_note_judge"], task, poor)
    assert refused.success
    assert "genai.max_usd_per_day" in numbers(refused)["asked"]
    nothing, why, _ = tick([task], poor, instance)
    assert nothing == {}
    assert "a cap in dollars is reached" in why
    requests, _, _ = tick([task], transport.settings, instance)
    assert "3 records" not in str(requests)
    assert "2 records wait" in numbers(note(instance, requests["task_note_judge"], task, transport.settings))["asked"]


def test_after_a_refusal_the_other_batches_of_the_run_are_not_built_in_vain(
    notes: psycopg.Connection, transport: Transport, instance: dg.DagsterInstance
) -> None:
    task = judge_task()
    task = replace(task, spec=replace(task.spec, batch_strategy=BatchStrategy(max_items=1)))
    put_notes(notes, "one", "two", "three")
    genai = transport.settings.genai.model_copy(update={"max_usd_per_day": Decimal("0.00001")})
    asked = numbers(run_task(task, transport.settings.model_copy(update={"genai": genai}), instance))["asked"]
    assert "an earlier batch of the run has met a cap in dollars | 2 |" in asked
    assert list((transport.settings.data_path / "outbox").glob("*")) == []


def test_without_a_model_to_ask_nothing_is_reserved(notes: psycopg.Connection, settings: Settings, instance: dg.DagsterInstance) -> None:
    put_notes(notes, "one")
    requests, why, _ = tick([judge_task()], settings, instance)
    assert requests == {}
    assert "MEDALLION_GENAI__API_KEY" in why


# -- labels ------------------------------------------------------------------------------------------------------------


def test_the_labels_in_gold_follow_the_results(notes: psycopg.Connection, settings: Settings, instance: dg.DagsterInstance) -> None:
    def follow() -> list[dg.RunRequest]:
        defs = with_settings(build_labels({"note.shout": shout_task()}), settings)
        [sensor] = defs.sensors or ()
        with dg.build_sensor_context(instance=instance, resources={"settings": settings}, definitions=defs) as context:
            return list(sensor.evaluate_tick(context).run_requests or ())

    assert follow() == []
    put_notes(notes, "one", "two")
    runner.run(settings, shout_task())
    [request] = follow()
    [asset] = build_labels({"note.shout": shout_task()}).assets or ()
    result = dg.materialize(
        [asset],  # type: ignore[list-item]  # an asset, as built
        instance=instance, resources={"settings": settings}, tags=dict(request.tags),
    )  # fmt: skip
    assert (numbers(result)["created"], numbers(result)["updated"]) == (2, 0)
    assert notes.execute("SELECT count(*) FROM gold.media_labels").fetchone() == (2,)
    notes.commit()
    assert follow() == []
    notes.execute("DELETE FROM silver.notes WHERE note_key = 'n0'")
    notes.commit()
    assert len(follow()) == 1, "a label whose subject is gone is a reason for a run"


# -- housekeeping ------------------------------------------------------------------------------------------------------


def run_job(name: str, settings: Settings, instance: dg.DagsterInstance, run_config: Any = None) -> dg.ExecuteInProcessResult:
    [job] = [job for job in gold.build_tasks({"note.shout": shout_task()}).jobs or () if job.name == name]
    assert isinstance(job, dg.JobDefinition)
    return job.execute_in_process(instance=instance, resources={"settings": settings}, run_config=run_config)


def test_the_schedules_of_housekeeping_are_stopped_until_somebody_wants_them() -> None:
    schedules = {schedule.name: schedule.default_status for schedule in gold.build_tasks({}).schedules or ()}
    upkeep = {"tasks_repair", "tasks_compact", "tasks_reconcile", "tasks_outbox"}
    assert {schedules[name] for name in upkeep} == {dg.DefaultScheduleStatus.STOPPED}


def test_repair_compact_and_reconcile_run_as_jobs(notes: psycopg.Connection, settings: Settings, instance: dg.DagsterInstance) -> None:
    put_notes(notes, "one", "two")
    runner.run(settings, shout_task())
    notes.execute("DELETE FROM silver.tasks_results WHERE subject_key = 'n0'")
    notes.execute("UPDATE silver.tasks_batches SET updated_at = now() - interval '40 days'")
    notes.commit()
    assert run_job("tasks_repair", settings, instance).success
    assert states(notes)["n0"][0] == "pending"
    assert run_job("tasks_compact", settings, instance).success
    assert notes.execute("SELECT count(*) FROM silver.tasks_status").fetchone() == (0,)
    notes.commit()
    assert run_job("tasks_reconcile", settings, instance).success
    assert notes.execute("SELECT planned_seq FROM silver.tasks_prompts").fetchone() == (0,)
    with pytest.raises(dg.Failure, match=r"There is no task 'x\.y'"):
        run_job("tasks_reconcile", settings, instance, {"ops": {"reconcile_tasks": {"config": {"task_keys": ["x.y"]}}}})


def test_what_crashes_left_in_the_outbox_goes_and_what_waits_to_be_sent_stays(
    notes: psycopg.Connection, transport: Transport, instance: dg.DagsterInstance
) -> None:
    settings = transport.settings
    waiting, cancelled = transport.reserve("a"), transport.reserve("b")
    notes.execute("UPDATE ops.active_batches SET status = 'cancelled' WHERE batch_id = %s", (cancelled,))
    notes.commit()
    orphan, young = (outbox_path(settings.data_path, name) for name in ("orphan", "young"))
    for path in (orphan, young):
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    long_ago = (clock.now() - timedelta(days=2)).timestamp()
    for path in (orphan, *(outbox_path(settings.data_path, batch_id) for batch_id in (waiting, cancelled))):
        os.utime(path, (long_ago, long_ago))
        os.utime(path.parent, (long_ago, long_ago))
    assert run_job("tasks_outbox", settings, instance).success
    assert {path.name for path in (settings.data_path / "outbox").iterdir()} == {waiting, "young"}
