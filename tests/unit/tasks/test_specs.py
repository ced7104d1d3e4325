"""What every task of the project promises, and the requests of those that ask a model."""

from pathlib import Path
from string import Formatter
from uuid import UUID

import pytest

from medallion_defs.core.errors import TerminalError
from medallion_defs.labeling.contract import ModelRequest, RequestMedium, WorkItem
from medallion_defs.labeling.registry import Task, load_tasks
from tests.media_files import image_bytes

TASKS = load_tasks()
MODEL_TASKS = [task for task in TASKS.values() if task.spec.model]


def ask(task: Task, path: Path | None = None, **inputs: object) -> ModelRequest:
    assert task.spec.model is not None
    item = WorkItem(
        UUID(int=1), task.task_key, task.spec.media_type, UUID(int=2), "0" * 64, "silver.x", "subject", 1, path, inputs=inputs
    )  # fmt: skip
    return task.spec.model.build_request(item, "the prompt")


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_an_output_is_strict_to_its_last_part(task: Task) -> None:
    schema = task.spec.output_model.model_json_schema()
    objects = [part for part in (schema, *schema.get("$defs", {}).values()) if part.get("type") == "object"]
    assert [part.get("additionalProperties") for part in objects] == [False] * len(objects)
    assert all(set(part["required"]) == set(part["properties"]) for part in objects)


@pytest.mark.parametrize("task", MODEL_TASKS, ids=lambda task: task.task_key)
def test_a_task_for_a_model_says_which_how_and_what(task: Task) -> None:
    profile = task.profiles[0]
    assert profile.model
    assert profile.generation["temperature"] == 0
    assert profile.generation["maxOutputTokens"] > 0
    assert profile.template
    # Only columns that the subjects query returns can be filled in.
    fields = {name for _, name, _, _ in Formatter().parse(profile.template) if name}
    assert all(name in task.spec.subjects.inputs for name in fields)
    properties = task.spec.output_model.model_json_schema()["properties"]
    assert all(part.get("description") for part in properties.values()), "the model reads the descriptions"


def test_a_summary_is_asked_with_the_text_alone() -> None:
    request = ask(TASKS["text.summarize"], text="An article.", title="x")
    assert (request.text, request.media) == ("the prompt", ())
    with pytest.raises(TerminalError, match="has no text"):
        ask(TASKS["text.summarize"], text="  ")


@pytest.mark.parametrize("task_key", ["image.caption", "frame.label"])
def test_a_picture_goes_with_its_prompt(task_key: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(image_bytes("PNG"))
    request = ask(TASKS[task_key], path, filename="a.png", mime_type="image/png")
    assert (request.text, request.media) == ("the prompt", (RequestMedium(path, "image/png"),))
    path.write_bytes(b"")
    with pytest.raises(TerminalError, match="has no bytes"):
        ask(TASKS[task_key], path, filename="a.png", mime_type="image/png")
    with pytest.raises(TerminalError, match="was given no file"):
        ask(TASKS[task_key])


def test_an_image_that_no_model_takes_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    path.write_bytes(image_bytes("TIFF"))
    with pytest.raises(TerminalError, match=r"a\.tiff is image/tiff; models take image/heic"):
        ask(TASKS["image.caption"], path, filename="a.tiff", mime_type="image/tiff")
