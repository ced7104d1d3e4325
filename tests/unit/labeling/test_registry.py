"""Tasks are found by looking at folders, and what is wrong with one is said in one sentence."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.labeling.prompts import load_profiles
from medallion_defs.labeling.registry import find_task, load_tasks

PACKAGE = "tasks_of_a_test"
TASK = """
from pydantic import BaseModel
from medallion_defs.labeling.contract import ModelTask, Subjects, TaskSpec

class Output(BaseModel):
    text: str

def get_spec():
    values = dict(task_key="{key}", media_type="text", title="t", description="d", domain="x", subjects=Subjects("s", "SELECT", "SELECT"),
        output_model=Output, processor=lambda items, context: [])
    return TaskSpec(**values | dict({changes}))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    package = tmp_path / PACKAGE
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield package
    for name in [name for name in sys.modules if name.split(".")[0] in (PACKAGE, "sources_of_a_test")]:
        del sys.modules[name]


def write_task(folder: Path, name: str, key: str, changes: str = "", prompt: object = None) -> Path:
    task = folder / name
    task.mkdir()
    (task / "__init__.py").touch()
    (task / "task.py").write_text(TASK.replace("{key}", key).replace("{changes}", changes))
    (task / "prompt.json").write_text(json.dumps(prompt or {"profile": "default"}))
    return task


def test_a_folder_is_a_task_and_dependencies_come_first(folder: Path) -> None:
    write_task(folder, "a_last", "a.last", "depends_on=('b.first',)")
    write_task(folder, "b_first", "b.first")
    tasks = load_tasks(PACKAGE)
    assert list(tasks) == ["a.last", "b.first"]
    assert find_task(tasks, "b.first").profiles[0].profile == "default"
    with pytest.raises(ConfigurationError, match=r"There is no task 'c\.x'\. There are: a\.last, b\.first\."):
        find_task(tasks, "c.x")


def test_the_code_version_follows_the_code_that_is_used_and_nothing_else(folder: Path) -> None:
    task = write_task(folder, "a_b", "a.b")
    first = load_tasks(PACKAGE)["a.b"].code_version
    (task / "README.md").write_text("words")
    (task / "helper.py").write_text("x = 1")
    assert load_tasks(PACKAGE)["a.b"].code_version == first
    (task / "task.py").write_text((task / "task.py").read_text().replace("text: str", "text: str | None"))
    assert load_tasks(PACKAGE)["a.b"].code_version != first


@pytest.mark.parametrize(
    ("imports", "use"),
    [(f"from {PACKAGE}.notes_files import x", "x"), (f"from {PACKAGE} import notes_files", "notes_files.x")],
)
def test_the_code_version_follows_what_the_task_uses_of_other_content(folder: Path, imports: str, use: str) -> None:
    write_task(folder, "a_b", "a.b")
    shared = folder / "notes_files.py"
    shared.write_text('x = "words.sql"\n')
    task = folder / "a_b" / "task.py"
    task.write_text(f"{imports}\n" + task.read_text().replace('title="t"', f"title={use}"))
    versions = []
    for name, content in (
        ("fetch.py", "x = 1"),
        ("notes_files.py", '"""Words."""\n\nx = "words.sql"  # why\n'),
        ("words.sql", "SELECT 1"),
        ("words.sql", "-- why\nSELECT\n  1"),
        ("words.sql", "SELECT 2"),
        ("notes_files.py", 'x = "word.sql"'),
    ):
        (folder / name).write_text(content)
        versions.append(load_tasks(PACKAGE)["a.b"].code_version)
    none, comment, query, layout, other_query, other = versions
    assert (none, query) == (comment, layout)
    assert len({none, query, other_query, other}) == 4


@pytest.mark.parametrize(
    ("key", "changes", "words"),
    [
        ("b.a", "", "lies in the folder a_b; it belongs into b_a"),
        ("a.b", "processor=None", "neither a processor nor a model"),
        ("a.b", "model=ModelTask(lambda item, template: None)", "both a processor and a model"),
        ("a.b", "depends_on=('x.y',)", r"depends on x\.y, which is no task"),
        ("a.b", "depends_on=('a.b',)", r"in a circle: a\.b → a\.b"),
    ],
)
def test_a_spec_that_does_not_fit_together_is_refused(folder: Path, key: str, changes: str, words: str) -> None:
    write_task(folder, "a_b", key, changes)
    with pytest.raises(ConfigurationError, match=words):
        load_tasks(PACKAGE)


def test_a_folder_without_a_task_is_refused(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(ConfigurationError, match=r"no task: it has no task\.py"):
        load_tasks(PACKAGE)
    (folder / "empty" / "task.py").write_text("")
    with pytest.raises(ConfigurationError, match=r"no function get_spec\(\)"):
        load_tasks(PACKAGE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "has no profile: there is no"),
        ("{", "is not JSON"),
        ("[]", "a profile is a JSON object, this is list"),
        ("{}", "profile: Field required"),
        ('{"profile": "x", "temprature": 1}', "temprature: Extra inputs"),
    ],
)
def test_a_profile_that_does_not_validate_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "prompt.json").write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        load_profiles(tmp_path, "a.b")


def prompt_id(folder: Path, text: str, answer_schema: dict[str, object] | None = None) -> str:
    (folder / "prompt.json").write_text(text)
    return load_profiles(folder, "a.b", answer_schema)[0].prompt_id


def test_invariant_11_a_cosmetic_edit_keeps_the_prompt_id(tmp_path: Path) -> None:
    first = prompt_id(tmp_path, '{"profile": "x", "parameters": {"a": 1, "b": 2}, "model": "m"}')
    assert prompt_id(tmp_path, '{"model": "m",\n "parameters": {"b": 2, "a": 1}, "profile": "y", "comment": "c", "version": "2"}') == first


@pytest.mark.parametrize("edit", ['"parameters": {"a": 2}', '"model": "n"', '"template": "t"', '"generation": {"temperature": 0}'])
def test_an_edit_that_changes_the_answer_changes_the_prompt_id(tmp_path: Path, edit: str) -> None:
    first = prompt_id(tmp_path, '{"profile": "x"}')
    assert prompt_id(tmp_path, '{"profile": "x", ' + edit + "}") != first


def test_the_answer_schema_is_part_of_the_prompt_id(tmp_path: Path) -> None:
    assert prompt_id(tmp_path, '{"profile": "x"}', {"type": "object"}) != prompt_id(tmp_path, '{"profile": "x"}')


def test_two_profiles_that_ask_the_same_are_refused(tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompt.json").write_text('{"profile": "x"}')
    (tmp_path / "prompts" / "y.json").write_text('{"profile": "y"}')
    with pytest.raises(ConfigurationError, match="several profiles with the prompt_id"):
        load_profiles(tmp_path, "a.b")
