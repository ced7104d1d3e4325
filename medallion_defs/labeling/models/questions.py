"""From the items of a batch to what a model is asked about each. The task's own code does that, and so in a child process."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from medallion_defs.core.errors import ConfigurationError, MedallionError
from medallion_defs.core.isolation import Note, Worker
from medallion_defs.core.settings import Settings
from medallion_defs.core.supervision import Supervised
from medallion_defs.labeling.contract import ModelRequest, WorkItem
from medallion_defs.labeling.engine.outcomes import Event, Outcomes
from medallion_defs.labeling.engine.process import budget_of
from medallion_defs.labeling.prompts import PromptProfile
from medallion_defs.labeling.registry import Task

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
# What a child makes of an item: the record's key and the request, or the item's outcome.
Built = tuple[str, ModelRequest] | Event


@dataclass(frozen=True)
class Question:
    """One item that can be asked about."""

    item: WorkItem
    record_key: str
    request: ModelRequest


def build_questions(
    settings: Settings, task: Task, profile: PromptProfile, items: Sequence[WorkItem], outcomes: Outcomes
) -> tuple[list[Question], list[Event]]:
    """Return the questions, and the outcomes of the items that cannot be asked about.

    Raises:
        DyingWorkersError: child after child died.
    """
    if not items:
        return [], []
    waiting = {item.task_id: item for item in items}
    built: dict[UUID, Built] = {}

    def fail(task_id: UUID, error: MedallionError) -> None:
        built[task_id] = outcomes.failed(waiting.pop(task_id), error)

    def left() -> Mapping[UUID, str]:
        return {task_id: f"{task.task_key} of {item.subject_key}" for task_id, item in waiting.items()}

    @contextmanager
    def start(note: Note) -> Iterator[Callable[[Sequence[UUID] | None], dict[UUID, Built]]]:
        yield lambda ids: {task_id: _build(task, profile, waiting[task_id], outcomes, note) for task_id in ids or waiting}

    budget = budget_of(settings, task)
    with Worker(start, budget.seconds) as worker:
        for answers in Supervised(f"{outcomes.batch_id}", budget, worker.do, left, fail).work():
            built.update(answers)
    questions, bad = list[Question](), list[Event]()
    for item in items:
        made = built[item.task_id]
        if isinstance(made, Event):
            bad.append(made)
        else:
            questions.append(Question(item, *made))
    return questions, bad


def _build(task: Task, profile: PromptProfile, item: WorkItem, outcomes: Outcomes, note: Note) -> Built:
    model = task.model
    note.begin(item.task_id)
    try:
        request = model.build_request(item, render_template(profile, item.inputs))
        request.text.encode()
        return model.record_key(item) if model.record_key else f"{item.task_key}:{item.subject_key}", request
    except BaseException as error:  # noqa: BLE001 - a task's own code may raise anything; it becomes the item's outcome, and none is hidden
        return outcomes.failed(item, error)
    finally:
        note.end()


def render_template(profile: PromptProfile, inputs: Mapping[str, Any]) -> str:
    """Return the profile's template with each `{name}` replaced by the subject's input of that name; other braces stay.

    Raises:
        ConfigurationError: there is no template, or the subject has no such input.
    """
    if profile.template is None:
        raise ConfigurationError(f"Profile '{profile.profile}' of {profile.task_key} has no template, and a model is asked with it.")

    def value(match: re.Match[str]) -> str:
        if match[1] not in inputs:
            known = ", ".join(sorted(inputs))
            raise ConfigurationError(f"Profile '{profile.profile}' of {profile.task_key} wants {{{match[1]}}}; there is: {known}.")
        return "" if inputs[match[1]] is None else str(inputs[match[1]])

    return _PLACEHOLDER.sub(value, profile.template)
