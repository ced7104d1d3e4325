"""The views `gold.label_<task>`: typed columns, the subjects that have the bytes now, and what becomes of a view when its task changes."""

from datetime import date
from typing import Any, Literal

import psycopg
import pytest
from pydantic import BaseModel

from medallion_defs.core.errors import ConfigurationError, TransientError
from medallion_defs.core.settings import Settings
from medallion_defs.labeling import runner
from medallion_defs.labeling.contract import ProcessingResult, Subjects, TaskSpec
from medallion_defs.labeling.labels.build import refresh_labels
from medallion_defs.labeling.labels.views import column_types, refresh_views
from medallion_defs.labeling.prompts import PromptProfile
from medallion_defs.labeling.registry import Task, load_tasks
from medallion_defs.stack.migrate import migrate
from tests.conftest import ROOT
from tests.integration.labeling.notes import NOTES, put_notes, shout_task


class Part(BaseModel):
    name: str


class Everything(BaseModel):
    text: str
    number: int
    share: float | None
    is_good: bool
    day: date
    kind: Literal["a", "b"]
    words: list[str]
    parts: list[Part]
    part: Part | None


def answer_task(output: type[BaseModel], value: dict[str, Any]) -> Task:
    """A task that gives every note the same answer."""
    spec = TaskSpec(
        task_key="note.facts", media_type="text", title="Facts", description="Facts.", domain="notes", subjects=NOTES, output_model=output,
        processor=lambda items, _: [ProcessingResult(item.task_id, value) for item in items],
    )  # fmt: skip
    return Task(spec, (PromptProfile(task_key=spec.task_key, profile="default"),), "v1")


ANSWER = {
    "text": "it's %s {here}", "number": 7, "share": None, "is_good": True, "day": "2026-11-20", "kind": "a", "words": ["x", "y"],
    "parts": [{"name": "n"}], "part": None,
}  # fmt: skip


def write_views(db: psycopg.Connection, *tasks: Task) -> list[str]:
    written = refresh_views(db, [task.spec for task in tasks])
    db.commit()
    return written


def test_every_field_is_a_column_of_its_type(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    task = answer_task(Everything, ANSWER)
    runner.run(settings, task)
    refresh_labels(settings)
    write_views(notes, task)
    with notes.execute("SELECT text, number, share, is_good, day, kind, words, parts, part FROM gold.label_note_facts") as cursor:
        assert cursor.fetchall() == [("it's %s {here}", 7, None, True, date(2026, 11, 20), "a", ["x", "y"], [{"name": "n"}], None)]
    assert column_types(task.spec)["share"] == "double precision"


def test_every_subject_with_the_bytes_is_shown_and_one_with_other_bytes_leaves(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "hello", "world")
    task = shout_task()
    runner.run(settings, task)
    refresh_labels(settings)
    write_views(notes, task)
    query = "SELECT subject_key, text FROM gold.label_note_shout ORDER BY 1"
    assert notes.execute(query).fetchall() == [("n0", "HELLO"), ("n1", "HELLO"), ("n2", "WORLD")]
    put_notes(notes, n1="new", n2="also new")
    assert notes.execute(query).fetchall() == [("n0", "HELLO")], "the label of n2's old bytes holds for no subject any more"


def test_an_answer_of_an_older_shape_is_null_where_it_does_not_fit(notes: psycopg.Connection, settings: Settings) -> None:
    class Older(BaseModel):
        number: str
        words: str

    class Newer(BaseModel):
        number: int
        words: list[str]
        added: str

    put_notes(notes, "hello")
    runner.run(settings, answer_task(Older, {"number": "many", "words": "one two"}))
    refresh_labels(settings)
    write_views(notes, answer_task(Newer, {}))
    assert notes.execute("SELECT number, words, added FROM gold.label_note_facts").fetchall() == [(None, None, None)]


def test_a_view_is_written_once_changed_with_its_task_and_dropped_with_it(notes: psycopg.Connection) -> None:
    one, other = shout_task(), answer_task(Everything, ANSWER)
    notes.execute("CREATE VIEW gold.label_of_mine AS SELECT 1 AS mine")
    assert "label_note_facts" in write_views(notes, one, other)
    assert write_views(notes, one, other) == []
    assert write_views(notes, one, answer_task(Part, {"name": "n"})) == ["label_note_facts"]
    assert [name for (name,) in notes.execute("SELECT column_name FROM information_schema.columns WHERE table_name = 'label_note_facts'")][
        -1
    ] == "name"
    assert write_views(notes, one) == ["label_note_facts"]
    assert notes.execute("SELECT mine FROM gold.label_of_mine").fetchall() == [(1,)], "a person's own view is left alone"


def test_a_view_that_somebody_built_on_is_not_dropped_behind_their_back(notes: psycopg.Connection) -> None:
    write_views(notes, shout_task())
    notes.execute("CREATE VIEW gold.mine AS SELECT text FROM gold.label_note_shout")
    notes.commit()
    with pytest.raises(TransientError, match="something is built on it"):
        write_views(notes)


def test_a_task_whose_table_is_not_there_yet_gets_its_view_later(notes: psycopg.Connection) -> None:
    task = shout_task()
    early = Subjects("pages", NOTES.candidates.replace("silver.notes", "silver.pages"), NOTES.inputs)  # type: ignore[arg-type]  # not literal
    object.__setattr__(task.spec, "subjects", early)
    assert "label_note_shout" not in write_views(notes, task)
    notes.execute("CREATE TABLE silver.pages (LIKE silver.notes)")
    assert "label_note_shout" in write_views(notes, task)


def test_a_field_with_the_name_of_a_column_of_the_label_is_refused() -> None:
    class Taken(BaseModel):
        source: str

    with pytest.raises(ConfigurationError, match="its output has a field source"):
        column_types(answer_task(Taken, {}).spec)


def test_a_migrated_database_has_a_view_for_each_task_that_the_console_may_read(db: psycopg.Connection, database_url: str) -> None:
    migrate(ROOT, database_url)
    db.execute("SET ROLE medallion_console")
    for task_key in load_tasks():
        assert db.execute(f"SELECT * FROM gold.label_{task_key.replace('.', '_')}").fetchall() == []
