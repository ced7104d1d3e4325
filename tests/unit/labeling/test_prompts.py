"""What is part of a prompt's id and what is not, what two profiles differ in, and what the settings may change."""

import json
from pathlib import Path
from typing import Any

import pytest

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.sections import TaskSettings
from medallion_defs.labeling.prompts import COSMETIC, SEMANTIC, PromptProfile, diff_profiles, load_profiles
from medallion_defs.labeling.registry import load_tasks

SCHEMA = {"type": "object", "properties": {"mood": {"type": "string"}}}
CONTENT: dict[str, Any] = {
    "profile": "default",
    "version": "1",
    "comment": "as it was",
    "model": "gemini-3.8-flash",
    "template": "Judge: {body}",
    "generation": {"temperature": 0, "maxOutputTokens": 100},
    "parameters": {"strictness": 3, "tone": "dry"},
}


def write(folder: Path, text: str, name: str = "prompt.json") -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def prompt_id(folder: Path, text: str, schema: dict[str, Any] | None = None) -> str:
    write(folder, text)
    [profile] = load_profiles(folder, "note.judge", schema or SCHEMA)
    return profile.prompt_id


@pytest.mark.parametrize("change", [{"version": "2"}, {"comment": "said otherwise"}, {"comment": ""}, {"profile": "careful"}])
def test_name_version_and_comment_are_not_part_of_the_id(tmp_path: Path, change: dict[str, Any]) -> None:
    assert prompt_id(tmp_path, json.dumps(CONTENT | change)) == prompt_id(tmp_path, json.dumps(CONTENT))


def test_white_space_the_order_of_keys_and_how_a_number_is_written_are_not_part_of_the_id(tmp_path: Path) -> None:
    same = [
        json.dumps(CONTENT, indent=4),
        json.dumps(dict(reversed(CONTENT.items())), separators=(",", ":")),
        json.dumps(CONTENT | {"generation": {"maxOutputTokens": 100, "temperature": 0}}, indent="\t") + "\n\n",
        json.dumps(CONTENT | {"generation": {"maxOutputTokens": 100.0, "temperature": 0.0}}),
        json.dumps(CONTENT, ensure_ascii=True).replace("Judge", "\\u004audge"),
    ]
    assert {prompt_id(tmp_path, text) for text in same} == {prompt_id(tmp_path, json.dumps(CONTENT))}


def test_every_part_that_changes_the_answer_is_part_of_the_id(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {"model": "gemini-3.5-flash"},
        {"template": "Judge: {body} "},
        {"template": "judge: {body}"},
        {"generation": {"temperature": 0.5, "maxOutputTokens": 100}},
        {"generation": {"temperature": 0}},
        {"generation": {}},
        {"parameters": {"strictness": 4, "tone": "dry"}},
        {"parameters": {"strictness": "3", "tone": "dry"}},
        {"parameters": {"strictness": 3}},
    ]
    found = [prompt_id(tmp_path, json.dumps(CONTENT | change)) for change in changes]
    found += [prompt_id(tmp_path, json.dumps(CONTENT)), prompt_id(tmp_path, json.dumps(CONTENT), SCHEMA | {"required": ["mood"]})]
    assert len(set(found)) == len(changes) + 2


def test_every_field_of_a_profile_is_either_semantic_or_cosmetic() -> None:
    assert {"task_key", *SEMANTIC, *COSMETIC} == PromptProfile.model_fields.keys()


def test_the_same_profile_of_another_task_has_another_id() -> None:
    assert PromptProfile(task_key="a.b", profile="x").prompt_id != PromptProfile(task_key="a.c", profile="x").prompt_id


def test_two_files_that_ask_the_same_are_refused(tmp_path: Path) -> None:
    write(tmp_path, json.dumps(CONTENT))
    write(tmp_path, json.dumps(CONTENT | {"profile": "b", "comment": "nothing else"}), "prompts/b.json")
    with pytest.raises(ConfigurationError, match="several profiles with the prompt_id"):
        load_profiles(tmp_path, "note.judge", SCHEMA)


def test_a_difference_says_whether_it_changes_the_answer() -> None:
    one = PromptProfile(task_key="note.judge", **CONTENT)
    other = PromptProfile(task_key="note.judge", **(CONTENT | {"comment": "new", "template": "Judge well: {body}", "generation": {}}))
    found = {difference.field: difference for difference in diff_profiles(one, other)}
    assert {name: difference.is_semantic for name, difference in found.items()} == {"template": True, "generation": True, "comment": False}
    assert found["template"].lines[1:] == ["-Judge: {body}", "+Judge well: {body}"]
    assert diff_profiles(one, one) == []


def test_the_settings_name_another_model_and_other_generation_parameters(tmp_path: Path) -> None:
    write(tmp_path, json.dumps(CONTENT))
    settings = TaskSettings(model="gemini-3.5-flash", generation={"temperature": 1})
    [profile] = load_profiles(tmp_path, "note.judge", SCHEMA, settings)
    assert (profile.model, profile.generation) == ("gemini-3.5-flash", {"temperature": 1, "maxOutputTokens": 100})
    [plain] = load_profiles(tmp_path, "note.judge", SCHEMA)
    assert profile.prompt_id != plain.prompt_id


def test_settings_that_make_two_profiles_one_are_refused(tmp_path: Path) -> None:
    write(tmp_path, json.dumps(CONTENT))
    write(tmp_path, json.dumps(CONTENT | {"profile": "b", "model": "gemini-3.5-flash"}), "prompts/b.json")
    with pytest.raises(ConfigurationError, match="several profiles"):
        load_profiles(tmp_path, "note.judge", SCHEMA, TaskSettings(model="gemini-3.8-flash"))


def test_settings_with_a_model_for_a_task_without_one_are_refused(tmp_path: Path) -> None:
    write(tmp_path, '{"profile": "default"}')
    with pytest.raises(ConfigurationError, match=r"tasks\.note\.shout .* sets a model"):
        load_profiles(tmp_path, "note.shout", None, TaskSettings(model="gemini-3.8-flash"))


def test_the_settings_of_a_task_reach_its_profiles_by_way_of_the_registry() -> None:
    plain, changed = load_tasks(), load_tasks(settings={"text.summarize": TaskSettings(model="gemini-3.5-flash")})
    assert changed["text.summarize"].profiles[0].model == "gemini-3.5-flash"
    different = [key for key in plain if plain[key].profiles[0].prompt_id != changed[key].profiles[0].prompt_id]
    assert different == ["text.summarize"]
