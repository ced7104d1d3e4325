"""Promoting, rolling back, trying beside, estimating and comparing profiles, against a real database."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
import pytest
from pydantic import BaseModel, ConfigDict

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.sections import GenaiSettings, ModelPrice
from medallion_defs.core.settings import Settings
from medallion_defs.labeling import runner
from medallion_defs.labeling.contract import ModelRequest, ModelTask, ProcessingResult, TaskContext, TaskSpec, WorkItem
from medallion_defs.labeling.engine.promotion import list_profiles, promote, retire, rollback
from medallion_defs.labeling.models.compare import compare_profiles
from medallion_defs.labeling.models.estimate import estimate
from medallion_defs.labeling.prompts import PromptProfile
from medallion_defs.labeling.registry import Task
from tests.integration.labeling.notes import NOTES, count_task, outputs, put_notes, shout, shout_task

MODEL = "gemini-3.8-flash"


class Mood(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    mood: str


def mood_task(template: str = "Judge: {body}", **cosmetic: str) -> Task:
    """A task that asks a model; nothing here ever does."""
    spec = TaskSpec(
        task_key="note.mood", media_type="text", title="Mood", description="What mood the note is in.", domain="notes", subjects=NOTES,
        output_model=Mood, model=ModelTask(lambda _, prompt: ModelRequest(prompt)),
    )  # fmt: skip
    profile = PromptProfile.model_validate(
        {
            "task_key": spec.task_key, "profile": "default", "model": MODEL, "template": template, "generation": {"maxOutputTokens": 100},
            "answer_schema": Mood.model_json_schema(),
        } | cosmetic
    )  # fmt: skip
    return Task(spec, (profile,), "v1")


def id_of(task: Task) -> str:
    return task.profiles[0].prompt_id


def profile_states(db: psycopg.Connection) -> dict[str, str]:
    found: dict[str, str] = dict(db.execute("SELECT prompt_id, state FROM silver.tasks_prompts").fetchall())
    db.commit()
    return found


def texts(db: psycopg.Connection) -> list[str]:
    found = db.execute("SELECT output ->> 'text' FROM silver.tasks_results ORDER BY 1").fetchall()
    db.commit()
    return [text for (text,) in found]


def answer_by_hand(
    db: psycopg.Connection, keys: Sequence[str], usage: str = '{"candidatesTokenCount": 20, "thoughtsTokenCount": 5}'
) -> None:
    """Write results as the transport would, for tasks that were planned."""
    columns = "task_id, task_key, media_type, prompt_id, subject_table, subject_key, file_id, file_hash"
    db.execute(
        f"INSERT INTO silver.tasks_results ({columns}, output, usage, attempt, batch_id)"
        f" SELECT {columns}, %s, %s, 1, 1 FROM silver.tasks_todo WHERE subject_key = ANY (%s)",
        ('{"mood": "good"}', usage, list(keys)),
    )
    db.commit()


def test_invariant_11_a_cosmetic_edit_of_a_prompt_relabels_nothing(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world")
    before = runner.plan(settings, mood_task())
    edited = runner.plan(settings, mood_task(comment="Said better.", version="2", profile="plain"))
    assert (before.planned, edited.planned, edited.waiting_profiles) == (2, 0, ())
    [line] = list_profiles(settings, [mood_task(comment="Said better.", version="2", profile="plain")])
    assert (line.profile, line.version, line.comment, line.state, line.is_in_folder) == ("plain", "2", "Said better.", "primary", True)
    put_notes(notes, n7="later")
    assert runner.plan(settings, mood_task(comment="And once more.")).planned == 1


def test_an_edit_that_changes_the_answer_waits_for_a_person_where_a_model_is_asked(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world")
    old, new = mood_task(), mood_task("Judge kindly: {body}")
    runner.plan(settings, old)
    waiting = runner.plan(settings, new)
    assert (waiting.planned, waiting.waiting_profiles) == (0, (id_of(new),))
    assert [line.state for line in list_profiles(settings, [new])] == ["primary", "waiting"]
    promote(settings, new, "default")
    assert profile_states(notes) == {id_of(old): "retired", id_of(new): "primary"}
    assert runner.plan(settings, new).planned == 2


def test_an_edit_replaces_the_primary_by_itself_where_the_settings_say_so_and_says_what_it_costs(
    notes: psycopg.Connection, settings: Settings
) -> None:
    put_notes(notes, "hello", "world")
    price = {"model": MODEL, "valid_from": "2026-01-01", "input_usd": 1, "cached_input_usd": 1, "output_usd": 10}
    genai = GenaiSettings(prices=[ModelPrice.model_validate(price | {"mode": "batch"})])
    priced = settings.model_copy(update={"genai": genai})
    old, new = mood_task(), replace(mood_task("Judge kindly: {body}"), promotes_paid=True)
    first = runner.plan(priced, replace(old, promotes_paid=True))
    assert (first.planned, first.promoted, first.note) == (2, None, ""), "the first profile replaces none"
    changed = runner.plan(priced, new)
    assert (changed.planned, changed.waiting_profiles) == (2, ())
    assert profile_states(notes) == {id_of(old): "retired", id_of(new): "primary"}
    expected = estimate(priced, new, new.profiles[0])
    assert "2 inputs are asked about again, 0 have an answer to it already" in changed.note
    assert f"at most {expected.usd_at_most:.4f} USD, within the caps" in changed.note
    assert (runner.plan(priced, new).planned, runner.plan(priced, new).note) == (0, "")
    rollback(priced, new)
    assert runner.plan(priced, new).planned == 0, "what a person rolled back does not come back by itself"
    assert profile_states(notes)[id_of(old)] == "primary"


def test_what_was_planned_for_a_retired_profile_and_never_begun_is_not_asked(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world")
    old, new = mood_task(), mood_task("Judge kindly: {body}")
    assert len(runner.plan(settings, old).batch_ids) == 1
    promote(settings, new, "default")
    batches = runner.plan(settings, new).batch_ids
    found = notes.execute("SELECT prompt_id, items FROM silver.tasks_batches WHERE batch_id = ANY (%s)", (list(batches),)).fetchall()
    notes.commit()
    assert found == [(id_of(new), 2)]
    rollback(settings, new)
    back = runner.plan(settings, new)
    assert (back.planned, back.batched) == (0, 2), "they are still there when their profile comes back"


def test_a_rollback_asks_nothing_again_that_was_answered(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world")
    old, new = shout_task(mark="!"), shout_task(mark="?")
    runner.run(settings, old)
    promote(settings, new, id_of(new))
    put_notes(notes, n7="later")
    runner.run(settings, new)
    assert texts(notes) == ["HELLO!", "HELLO?", "LATER?", "WORLD!", "WORLD?"]
    done = rollback(settings, new)
    assert (done.profile.prompt_id, done.replaced) == (id_of(old), id_of(new))
    again = runner.run(settings, new)
    assert again.events == {"succeeded": 1}, "the note that arrived meanwhile"
    assert "LATER!" in texts(notes)
    promote(settings, new, id_of(new))
    assert runner.run(settings, new).events == {}


def test_a_profile_that_was_rolled_back_does_not_come_back_by_itself(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    old, new = shout_task(mark="!"), shout_task(mark="?")
    runner.run(settings, old)
    runner.run(settings, new)
    assert profile_states(notes)[id_of(new)] == "primary"
    rollback(settings, new)
    runner.run(settings, new)
    assert profile_states(notes) == {id_of(old): "primary", id_of(new): "retired"}
    with pytest.raises(ConfigurationError, match="nothing to go back to"):
        rollback(settings, new)


def test_an_edit_that_is_undone_in_the_file_is_undone_for_a_task_without_a_model(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    old, new = shout_task(mark="!"), shout_task(mark="?")
    for task in (old, new, old):
        last = runner.run(settings, task)
    assert (profile_states(notes)[id_of(old)], last.events) == ("primary", {})
    assert notes.execute("SELECT output ->> 'text' FROM silver.tasks_current").fetchall() == [("HELLO!",)]


def test_a_variant_runs_beside_the_primary_until_it_is_retired(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    primary, variant = shout_task(mark="!"), shout_task(mark="?")
    both = Task(primary.spec, (primary.profiles[0], variant.profiles[0].model_copy(update={"profile": "b"})), "v1")
    assert runner.run(settings, both).plan.waiting_profiles == (id_of(variant),)
    promote(settings, both, "b", as_variant=True)
    runner.run(settings, both)
    assert texts(notes) == ["HELLO!", "HELLO?"]
    retire(settings, both, "b")
    put_notes(notes, n7="later")
    runner.run(settings, both)
    assert texts(notes) == ["HELLO!", "HELLO?", "LATER!"]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda settings, task: promote(settings, task, "default", as_variant=True), "is the primary"),
        (lambda settings, task: retire(settings, task, "default"), "is primary; a variant can be retired"),
        (lambda settings, task: promote(settings, task, "nobody"), "has no profile 'nobody'. There is: default"),
        (lambda settings, task: promote(settings, task, ""), "has no profile ''"),
    ],
)
def test_what_cannot_be_decided_is_said_in_one_sentence(notes: psycopg.Connection, settings: Settings, act: Any, message: str) -> None:
    task = shout_task(mark="!")
    runner.plan(settings, task)
    before = profile_states(notes)
    with pytest.raises(ConfigurationError, match=message):
        act(settings, task)
    assert profile_states(notes) == before


def test_the_list_of_profiles_counts_and_prices_the_tasks_of_each(notes: psycopg.Connection, settings: Settings) -> None:
    def costly(items: Sequence[WorkItem], context: TaskContext) -> Iterator[ProcessingResult]:
        return (msgspec.structs.replace(result, cost_usd=Decimal("0.5")) for result in shout(items, context))

    put_notes(notes, "hello", "world", "terminal")
    runner.run(settings, shout_task(costly))
    put_notes(notes, later="later")
    runner.plan(settings, shout_task(costly))
    runner.plan(settings, count_task())
    for task_key in (None, "note.shout"):
        [line] = list_profiles(settings, [shout_task()], task_key)
        assert (line.answered, line.open, line.dead, line.cost_usd) == (2, 1, 1, Decimal("1.0"))
    [line] = list_profiles(settings, [count_task()], "note.count")
    assert (line.answered, line.open, line.dead, line.cost_usd) == (0, 2, 0, None)


def test_a_profile_is_named_by_the_beginning_of_its_id(notes: psycopg.Connection, settings: Settings) -> None:
    old, new = shout_task(mark="!"), shout_task(mark="?")
    runner.plan(settings, old)
    promote(settings, new, id_of(new)[:12])
    assert profile_states(notes)[id_of(new)] == "primary"
    promote(settings, new, id_of(old)[:12])
    assert profile_states(notes)[id_of(old)] == "primary", "one that is in no file any more can be promoted, too"


def test_tasks_that_read_the_answers_of_a_promoted_variant_read_those_that_were_there_already(
    notes: psycopg.Connection, settings: Settings
) -> None:
    put_notes(notes, "hello")
    primary, variant = shout_task(mark="!"), shout_task(mark="??")
    runner.run(settings, primary)
    promote(settings, variant, id_of(variant), as_variant=True)
    runner.run(settings, primary)
    assert runner.run(settings, count_task()).plan.planned == 1
    notes.execute("UPDATE silver.tasks_prompts SET planned_seq = 1000000 WHERE task_key = 'note.count'")
    notes.commit()
    promote(settings, replace(variant, dependents=("note.count",)), id_of(variant))
    assert notes.execute("SELECT planned_seq FROM silver.tasks_prompts WHERE task_key = 'note.count'").fetchall() == [(0,)]
    notes.commit()
    assert outputs(notes, "note.count")


def test_an_edit_that_is_taken_back_lets_dependent_tasks_read_the_old_answers_again(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    before, edited = (replace(shout_task(mark=mark), dependents=("note.count",)) for mark in ("!", "??"))
    runner.run(settings, before)
    runner.run(settings, edited)
    runner.run(settings, count_task())
    notes.execute("UPDATE silver.tasks_prompts SET planned_seq = 1000000 WHERE task_key = 'note.count'")
    notes.commit()
    runner.plan(settings, before)
    assert notes.execute("SELECT planned_seq FROM silver.tasks_prompts WHERE task_key = 'note.count'").fetchall() == [(0,)]
    notes.commit()


def test_a_plan_counts_what_is_asked_and_what_is_reused_and_prices_the_real_requests(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, *(f"note number {number:03}" for number in range(100)))
    price = {"model": MODEL, "valid_from": "2026-01-01", "input_usd": 1, "cached_input_usd": 1, "output_usd": 10}
    genai = GenaiSettings(prices=[ModelPrice.model_validate(price | {"mode": "batch"})])
    priced = settings.model_copy(update={"genai": genai})
    task = mood_task()
    first = estimate(priced, task, task.profiles[0], sample=10)
    assert (first.inputs, first.reused, first.to_ask, first.sampled, first.usd) == (100, 0, 100, 10, None)
    runner.plan(priced, task)
    answer_by_hand(notes, [f"n{number}" for number in range(30)])
    found = estimate(priced, task, task.profiles[0], sample=7)
    assert (found.inputs, found.reused, found.to_ask, found.unaskable, found.mode) == (100, 30, 70, 0, "batch")
    assert found.prompt_tokens == round(first.prompt_tokens * 0.7), "all notes are of one length, so any sample says the same"
    assert found.output_tokens == 70 * 25
    assert found.usd == (Decimal(found.prompt_tokens) + found.output_tokens * 10) / 1_000_000
    assert found.usd_at_most == (Decimal(found.prompt_tokens) + 70 * 100 * 10) / 1_000_000
    other = mood_task("Judge kindly, and say why in your own words: {body}")
    stale = estimate(priced, other, other.profiles[0])
    assert (stale.reused, stale.to_ask) == (0, 100)
    assert stale.prompt_tokens > first.prompt_tokens
    assert profile_states(notes) == {id_of(task): "primary"}, "an estimate decides nothing"


def test_a_plan_says_which_inputs_cannot_be_asked_about(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    genai = GenaiSettings(prices=[])
    task = mood_task("Judge: {title}")
    found = estimate(settings.model_copy(update={"genai": genai}), task, task.profiles[0])
    assert (found.to_ask, found.unaskable) == (1, 1)
    assert "wants {title}" in str(found.unaskable_reason)


def test_a_plan_of_a_task_without_a_model_costs_nothing(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world", "hello")
    task = shout_task(mark="!")
    found = estimate(settings, task, task.profiles[0])
    assert (found.inputs, found.to_ask, found.usd_at_most, found.model) == (2, 2, 0, None), "two notes have the same bytes"


def test_two_profiles_are_compared_field_by_field_on_what_both_answered(notes: psycopg.Connection, settings: Settings) -> None:
    def costly(items: Sequence[WorkItem], context: TaskContext) -> list[ProcessingResult]:
        mark = context.parameters["mark"]
        return [
            ProcessingResult(
                item.task_id,
                {"text": item.inputs["body"] + (mark if item.inputs["body"].startswith("h") else ""), "length": len(item.inputs["body"])},
                cost_usd=Decimal("0.25") if mark == "!" else Decimal("0.5"),
            )
            for item in items
        ]

    put_notes(notes, "hello", "hi", "world", "moon")
    one, other = shout_task(costly, mark="!"), shout_task(costly, mark="?")
    runner.run(settings, one)
    put_notes(notes, n7="later")
    promote(settings, other, id_of(other))
    runner.run(settings, other)
    found = compare_profiles(settings, "note.shout", one.profiles[0], other.profiles[0], examples=1)
    assert (found.inputs, found.agreeing, found.rate) == (4, 2, 0.5)
    assert {field.field: field.rate for field in found.fields} == {"text": 0.5, "length": 1.0}
    assert (found.one.answered, found.one.total_usd, found.one.usd_per_answer) == (4, Decimal("1.00"), Decimal("0.25"))
    assert (found.other.answered, found.other.total_usd, found.other.usd_per_answer) == (5, Decimal("2.5"), Decimal("0.5"))
    assert [(example.subject_key, example.one["text"], example.other["text"]) for example in found.examples] == [("n0", "hello!", "hello?")]


def test_profiles_without_a_common_input_have_no_agreement(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    one, other = shout_task(mark="!"), shout_task(mark="?")
    runner.run(settings, one)
    found = compare_profiles(settings, "note.shout", one.profiles[0], other.profiles[0])
    assert (found.inputs, found.rate, found.other.usd_per_answer) == (0, None, None)
