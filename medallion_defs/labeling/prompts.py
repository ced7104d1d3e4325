"""Prompt profiles: what a task is asked with, as JSON files in its folder: `prompt.json`, and more under `prompts/`.

A profile's id is a hash of what changes the answer, so that an edit of a comment or a name re-labels nothing, and an edit
of anything else never mixes with the answers to what was asked before. Which profile is in use is `promotion.py`.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medallion_defs.core.errors import ConfigurationError, describe_invalid
from medallion_defs.core.generation import require_sense
from medallion_defs.core.ids import tagged_uuid
from medallion_defs.core.sections import TaskSettings
from medallion_defs.core.unique_keys import load_json

PROFILE_FILE = "prompt.json"
PROFILE_FOLDER = "prompts"
SEMANTIC = ("parameters", "model", "template", "generation", "answer_schema")
COSMETIC = ("profile", "version", "comment")


class PromptProfile(BaseModel):
    """One way to ask a task. A task without a model has its `parameters` here, and no more.

    Attributes:
        profile: its name, for people; `version` and `comment` are theirs, too.
        parameters: what the processor is told (`TaskContext.parameters`).
        model, template, generation: which model is asked what, and how.
        answer_schema: the JSON Schema of the task's output, where a model is asked for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task_key: str
    profile: str = Field(min_length=1)
    version: str = ""
    comment: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    model: str | None = None
    template: str | None = None
    generation: dict[str, Any] = Field(default_factory=dict)
    answer_schema: dict[str, Any] | None = None

    @property
    def prompt_id(self) -> str:
        """The same as long as the same input can get no other answer."""
        meaning = json.dumps(self.model_dump(mode="json", include=set(SEMANTIC)))
        # To a model 0 and 0.0 are one temperature.
        same_numbers = json.loads(meaning, parse_float=lambda text: int(float(text)) if float(text).is_integer() else float(text))
        return str(tagged_uuid("prompt", self.task_key, json.dumps(same_numbers, sort_keys=True, ensure_ascii=False)))

    def overridden(self, settings: TaskSettings) -> "PromptProfile":
        """Return the profile with the model and the generation parameters that the settings name instead of its own.

        Raises:
            ConfigurationError: the settings name some, and the task asks no model.
        """
        if settings.model is None and not settings.generation:
            return self
        if self.model is None:
            raise ConfigurationError(f"tasks.{self.task_key} in medallion.yaml sets a model, and profile '{self.profile}' asks none.")
        return self.model_copy(update={"model": settings.model or self.model, "generation": self.generation | settings.generation})


@dataclass(frozen=True)
class Difference:
    """One field in which two profiles differ. `is_semantic`: it is part of the id, so that the media are asked about anew."""

    field: str
    one: Any
    other: Any
    is_semantic: bool

    @property
    def lines(self) -> list[str]:
        """The difference line by line, marked with - and +, as a person reads it."""
        return list(difflib.unified_diff(_as_lines(self.one), _as_lines(self.other), lineterm="", n=1))[2:]


def diff_profiles(one: PromptProfile, other: PromptProfile) -> list[Difference]:
    """Return the fields in which the profiles differ, those that change the answer first."""
    return [
        Difference(name, getattr(one, name), getattr(other, name), name in SEMANTIC)
        for name in (*SEMANTIC, *COSMETIC)
        if getattr(one, name) != getattr(other, name)
    ]


def load_profiles(
    folder: Path, task_key: str, answer_schema: Mapping[str, Any] | None = None, settings: TaskSettings | None = None
) -> tuple[PromptProfile, ...]:
    """Read the profiles of the task in `folder`: `prompt.json` first, then those under `prompts/` by name.

    Args:
        answer_schema: JSON Schema of the task's output when a model answers; None when no model is asked.
        settings: of the task, which may name another model and other generation parameters.

    Raises:
        ConfigurationError: there is no `prompt.json`, a file is no profile, or two of them ask the same.
    """
    paths = [folder / PROFILE_FILE, *sorted((folder / PROFILE_FOLDER).glob("*.json"))]
    profiles = tuple(_read_profile(path, task_key, answer_schema).overridden(settings or TaskSettings()) for path in paths)
    _require_distinct(task_key, profiles)
    return profiles


def _read_profile(path: Path, task_key: str, answer_schema: Mapping[str, Any] | None) -> PromptProfile:
    try:
        content = load_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f'Task {task_key} has no profile: there is no {path}. Write one; {{"profile": "default"}} is enough.'
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not JSON in UTF-8: {error}.") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: a profile is a JSON object, this is {type(content).__name__}.")
    try:
        profile = PromptProfile.model_validate(content | {"task_key": task_key, "answer_schema": answer_schema})
    except ValidationError as error:
        raise ConfigurationError(f"{path} is not a prompt profile: {describe_invalid(error)}.") from error
    # Here and not in the model: a profile that an earlier release stored must stay readable.
    try:
        require_sense(profile.generation)
    except ValueError as error:
        raise ConfigurationError(f"{path} is not a prompt profile: generation: {error}.") from error
    return profile


def _require_distinct(task_key: str, profiles: tuple[PromptProfile, ...]) -> None:
    for kind in ("profile", "prompt_id"):
        values = [getattr(profile, kind) for profile in profiles]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ConfigurationError(f"Task {task_key} has several profiles with the {kind} {', '.join(twice)}; each must be its own.")


def _as_lines(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).splitlines()
    return [] if value is None else str(value).splitlines()
