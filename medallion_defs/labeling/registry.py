"""Which tasks there are: one folder each below `medallion_defs/tasks`, found by looking and never registered.

A folder holds `task.py` with `get_spec()`, `prompt.json`, and what else the task needs. What is wrong with one is said in one
sentence, before anything runs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

from medallion_defs.core.code_version import digest_code, make_version
from medallion_defs.core.content import Broken, content_names, leaving_out
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.sections import TaskSettings
from medallion_defs.labeling.contract import ModelTask, Processor, TaskSpec
from medallion_defs.labeling.prompts import PromptProfile, load_profiles

PACKAGE = "medallion_defs.tasks"
# Raised by hand when the engine around processors and answers makes something else of the same bytes.
PROCESSING = 1


@dataclass(frozen=True)
class Task:
    """A task as the engine runs it.

    Attributes:
        spec: what its `task.py` says.
        profiles: of its JSON files; the first is `prompt.json`.
        code_version: changes when its code might do something else; what failed is then tried again, unless it asks a model.
        dependents: tasks that read this one's results; when another profile becomes primary, they read all of them again.
        promotes_paid: a changed `prompt.json` becomes primary by itself although a model is asked (`tasks.<task_key>.promote`).
    """

    spec: TaskSpec
    profiles: tuple[PromptProfile, ...]
    code_version: str
    dependents: tuple[str, ...] = ()
    promotes_paid: bool = False

    @property
    def task_key(self) -> str:
        return self.spec.task_key

    @property
    def processor(self) -> Processor:
        """The processor.

        Raises:
            ConfigurationError: the task asks a model, so there is none.
        """
        if self.spec.processor is None:
            raise ConfigurationError(f"Task {self.task_key} asks a model: it has no processor that could run here.")
        return self.spec.processor

    @property
    def model(self) -> ModelTask:
        """How the task asks a model.

        Raises:
            ConfigurationError: it asks none.
        """
        if self.spec.model is None:
            raise ConfigurationError(f"Task {self.task_key} asks no model.")
        return self.spec.model


def load_tasks(package: str = PACKAGE, settings: Mapping[str, TaskSettings] | None = None) -> dict[str, Task]:
    """Import every task of `package`; return them by task key, in alphabetical order.

    Args:
        settings: by task key (`Settings.tasks`); those of a task may change its profiles (`tasks.<task_key>.model`).

    Raises:
        ConfigurationError: a folder is no task, or a task does not fit together; the message names it.
    """
    tasks = [_load_task(package, name, settings or {}) for name in content_names(package)]
    by_key = {task.task_key: task for task in sorted(tasks, key=lambda task: task.task_key)}
    for task in by_key.values():
        _require_known(task.spec, by_key)
    in_order(by_key)
    return _with_dependents(by_key)


def load_usable_tasks(
    settings: Mapping[str, TaskSettings] | None = None, broken: list[Broken] | None = None, package: str = PACKAGE
) -> dict[str, Task]:
    """Return the tasks that can be used; the others, and those that need their results, are added to `broken`, or logged."""
    by_key: dict[str, Task] = {}
    for name in content_names(package):
        with leaving_out(package, name, broken):
            task = _load_task(package, name, settings or {})
            by_key[task.task_key] = task
    is_settled = False
    while not is_settled:
        is_settled = True
        for task in [*by_key.values()]:
            with leaving_out(package, folder_of(task.task_key), broken):
                usable = by_key.pop(task.task_key)
                _require_known(task.spec, by_key)
                _require_no_circle(task, by_key)
                by_key[task.task_key] = usable
            is_settled &= task.task_key in by_key
    return _with_dependents({key: by_key[key] for key in sorted(by_key)})


def find_task(tasks: Mapping[str, Task], task_key: str, broken: Sequence[Broken] = ()) -> Task:
    """Return one task by its key.

    Raises:
        ConfigurationError: there is none such, or it is `broken`; the message says which there are, or why.
    """
    for each in broken:
        if each.folder.endswith(f"/{folder_of(task_key)}"):
            raise ConfigurationError(each.sentence)
    if task_key not in tasks:
        raise ConfigurationError(f"There is no task '{task_key}'. There are: {', '.join(tasks) or 'none'}.")
    return tasks[task_key]


def folder_of(task_key: str) -> str:
    """Return the folder that a task belongs into."""
    return task_key.replace(".", "_")


def _with_dependents(tasks: Mapping[str, Task]) -> dict[str, Task]:
    return {key: replace(task, dependents=_dependents_of(tasks, key)) for key, task in tasks.items()}


def _require_no_circle(task: Task, others: Mapping[str, Task]) -> None:
    """Raise where the task needs itself, by way of others."""
    reached = set[str]()
    ahead = [*task.spec.depends_on]
    while ahead:
        needed = ahead.pop()
        if needed == task.task_key:
            raise ConfigurationError(f"Task {task.task_key} depends on itself, by way of {', '.join(sorted(reached)) or 'nothing else'}.")
        if needed not in reached and needed in others:
            reached.add(needed)
            ahead += others[needed].spec.depends_on


def _dependents_of(tasks: Mapping[str, Task], task_key: str) -> tuple[str, ...]:
    return tuple(task.task_key for task in tasks.values() if task_key in task.spec.depends_on)


def in_order(tasks: Mapping[str, Task]) -> list[Task]:
    """Return the tasks so that each comes after those whose results it reads."""
    ordered: dict[str, Task] = {}

    def add(task_key: str, path: tuple[str, ...]) -> None:
        if task_key in path:
            raise ConfigurationError(f"Tasks depend on each other in a circle: {' → '.join((*path, task_key))}.")
        for needed in tasks[task_key].spec.depends_on:
            add(needed, (*path, task_key))
        ordered.setdefault(task_key, tasks[task_key])

    for task_key in tasks:
        add(task_key, ())
    return list(ordered.values())


def _load_task(package: str, name: str, settings: Mapping[str, TaskSettings]) -> Task:
    module = _import_task(package, name)
    spec = module.get_spec() if hasattr(module, "get_spec") else None
    if not isinstance(spec, TaskSpec):
        raise ConfigurationError(f"{module.__name__} has no function get_spec() that returns a TaskSpec.")
    _check(spec, name)
    folder = Path(str(module.__file__)).parent
    schema = spec.output_model.model_json_schema() if spec.model else None
    own = settings.get(spec.task_key, TaskSettings())
    profiles = load_profiles(folder, spec.task_key, schema, own)
    code_version = make_version("task", PROCESSING, digest_code(module.get_spec))
    return Task(spec, profiles, code_version, promotes_paid=own.promote == "automatic")


def _import_task(package: str, name: str) -> ModuleType:
    module_name = f"{package}.{name}.task"
    try:
        return import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise ConfigurationError(f"The folder {package}.{name} is no task: it has no task.py.") from error


def _check(spec: TaskSpec, folder_name: str) -> None:
    expected = folder_of(spec.task_key)
    if expected != folder_name:
        raise ConfigurationError(f"Task {spec.task_key} lies in the folder {folder_name}; it belongs into {expected}.")
    if (spec.processor is None) == (spec.model is None):
        found = "both a processor and a model" if spec.processor else "neither a processor nor a model"
        raise ConfigurationError(f"Task {spec.task_key} has {found}; a spec sets exactly one of the two.")
    if min(spec.batch_strategy.max_items, spec.batch_strategy.max_bytes) < 1:
        raise ConfigurationError(f"Task {spec.task_key}: a batch_strategy allows at least one item and one byte.")


def _require_known(spec: TaskSpec, known: Iterable[str]) -> None:
    unknown = sorted(set(spec.depends_on) - set(known))
    if unknown:
        raise ConfigurationError(f"Task {spec.task_key} depends on {', '.join(unknown)}, which is no task.")
