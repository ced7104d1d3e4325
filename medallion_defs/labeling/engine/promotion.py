"""Which profile of a task is in use: primary, variant or retired; and who decides.

An edited `prompt.json` of a task without a model becomes primary by itself, for it costs nothing. One that a model is asked with
waits for a person, unless `tasks.<task_key>.promote` is automatic. Answers are never deleted: whatever is promoted or rolled back,
an input that has an answer to a profile is not asked with it again. States are moved here and nowhere else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import psycopg
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from medallion_defs.core import db
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.labeling.prompts import PromptProfile
from medallion_defs.labeling.registry import Task

_SQL = load_queries("medallion_defs.labeling.engine", "promotion.sql")
_SHORTEST_ID = 4

State = Literal["primary", "variant", "retired"]


@dataclass(frozen=True)
class StoredProfile:
    """A row of `silver.tasks_prompts`. `content`: the profile as its file had it when it was last seen there."""

    prompt_id: str
    state: State
    promoted_at: datetime | None
    replaced_prompt_id: str | None
    content: Mapping[str, Any]

    @property
    def profile(self) -> PromptProfile:
        return PromptProfile.model_validate(self.content)


@dataclass(frozen=True)
class ProfileLine:
    """One profile for a person.

    Attributes:
        state: waiting: it is in the folder and nobody has decided about it.
        is_in_folder: one of the task's files says this now.
        answered, open, dead: its tasks, by what became of them.
        cost_usd: of its answers; None when nothing cost.
    """

    task_key: str
    profile: str
    version: str
    prompt_id: str
    model: str | None
    state: State | Literal["waiting"]
    is_in_folder: bool
    promoted_at: datetime | None
    answered: int
    open: int
    dead: int
    cost_usd: Decimal | None
    comment: str


@dataclass(frozen=True)
class Decision:
    """What was decided. `replaced`: the profile that was primary before; None: nothing was replaced."""

    task_key: str
    profile: PromptProfile
    state: State
    replaced: str | None


@dataclass(frozen=True)
class Registered:
    """The profiles of a task once its files are known.

    Attributes:
        active: ids of the prompts to plan, the primary first.
        waiting: ids of those that wait for a decision.
        promoted: the profile that has just replaced a primary by itself; None: none has.
    """

    active: tuple[str, ...]
    waiting: tuple[str, ...]
    promoted: PromptProfile | None


def register_profiles(connection: psycopg.Connection, task: Task) -> Registered:
    """Take note of the task's files, and make `prompt.json` primary where that needs no person."""
    first, replaced = task.profiles[0], None
    with connection.transaction():
        known = _lock(connection, task.task_key)
        for profile in task.profiles:
            connection.execute(_SQL["describe"], _row(profile))
        if promotes_itself(task, known):
            replaced = _make_primary(connection, first, known)
            _reread_dependents(connection, task)
            known = _read(connection, task.task_key)
    active = tuple(prompt_id for prompt_id, stored in known.items() if stored.state != "retired")
    waiting = tuple(profile.prompt_id for profile in task.profiles if profile.prompt_id not in known)
    return Registered(active, waiting, first if replaced else None)


def promotes_itself(task: Task, known: Mapping[str, StoredProfile]) -> bool:
    """Tell whether `prompt.json` becomes primary without a person.

    The very first does. Later ones do where no model is asked or the settings say so, unless a person decided about this very
    profile: tried it as a variant, or rolled it back.
    """
    stored = known.get(task.profiles[0].prompt_id)
    is_free = stored is None or (stored.state == "retired" and stored.promoted_at is not None)
    has_primary = any(other.state == "primary" for other in known.values())
    return is_free and (task.spec.model is None or task.promotes_paid or not has_primary)


def promote(settings: Settings, task: Task, which: str, *, as_variant: bool = False) -> Decision:
    """Make a profile primary, or let it run beside the primary; the profile that was primary is retired and its answers stay.

    Args:
        which: its name, its id, or the beginning of its id.

    Raises:
        ConfigurationError: there is no such profile, or several; or the primary is to become a variant.
    """
    with db.connect(settings, "medallion_gold") as connection, connection.transaction():
        known = _lock(connection, task.task_key)
        profile = find_profile(task, known.values(), which)
        stored = known.get(profile.prompt_id)
        if as_variant:
            if stored is not None and stored.state == "primary":
                raise ConfigurationError(f"Profile '{profile.profile}' is the primary of {task.task_key}: promote another one first.")
            _set_state(connection, profile, "variant", promoted="never")
            return Decision(task.task_key, profile, "variant", None)
        if stored is not None and stored.state == "primary":
            return Decision(task.task_key, profile, "primary", None)
        replaced = _make_primary(connection, profile, known)
        _reread_dependents(connection, task)
        return Decision(task.task_key, profile, "primary", replaced)


def rollback(settings: Settings, task: Task) -> Decision:
    """Make the profile primary that the primary replaced. The answers of the one that goes stay in silver, and no longer count in gold.

    Raises:
        ConfigurationError: the primary replaced nothing.
    """
    with db.connect(settings, "medallion_gold") as connection, connection.transaction():
        known = _lock(connection, task.task_key)
        primary = next((stored for stored in known.values() if stored.state == "primary"), None)
        before = known.get(primary.replaced_prompt_id or "") if primary else None
        if primary is None or before is None:
            raise ConfigurationError(f"The primary profile of {task.task_key} has replaced none, so there is nothing to go back to.")
        _retire(connection, primary.profile, promoted="never")
        _set_state(connection, before.profile, "primary", promoted="now")
        _reread_dependents(connection, task)
        return Decision(task.task_key, before.profile, "primary", primary.prompt_id)


def retire(settings: Settings, task: Task, which: str) -> Decision:
    """End a variant: it is not planned any more, its answers stay.

    Raises:
        ConfigurationError: there is no such profile in use, or it is the primary.
    """
    with db.connect(settings, "medallion_gold") as connection, connection.transaction():
        known = _lock(connection, task.task_key)
        profile = find_profile(task, known.values(), which)
        stored = known.get(profile.prompt_id)
        if stored is None or stored.state != "variant":
            state = stored.state if stored else "waiting"
            raise ConfigurationError(f"Profile '{profile.profile}' of {task.task_key} is {state}; a variant can be retired.")
        _retire(connection, profile, promoted="keep")
        return Decision(task.task_key, profile, "retired", None)


def _reread_dependents(connection: psycopg.Connection, task: Task) -> None:
    """Let the next plan of the tasks that read this one's results read all of them again: older ones may count now."""
    connection.execute(_SQL["reread"], {"task_keys": list(task.dependents)})


def find_profile(task: Task, stored: Iterable[StoredProfile], which: str) -> PromptProfile:
    """Return the profile that a person means by a name, an id, or the beginning of one; a file's name goes before one used earlier.

    Raises:
        ConfigurationError: there is none, or there are several.
    """
    earlier = {one.prompt_id: one.profile for one in stored}
    everything = earlier | {profile.prompt_id: profile for profile in task.profiles}
    for candidates in (
        [profile for profile in task.profiles if profile.profile == which],
        [profile for profile in everything.values() if profile.profile == which],
        [profile for prompt_id, profile in everything.items() if len(which) >= _SHORTEST_ID and prompt_id.startswith(which)],
    ):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            ids = ", ".join(profile.prompt_id for profile in candidates)
            raise ConfigurationError(f"{task.task_key} has several profiles '{which}'. Name one by its id: {ids}.")
    names = ", ".join(f"{profile.profile} ({prompt_id})" for prompt_id, profile in everything.items())
    raise ConfigurationError(f"{task.task_key} has no profile '{which}'. There is: {names}.")


def read_stored(connection: psycopg.Connection, task_key: str) -> dict[str, StoredProfile]:
    """Return what the database knows of a task's profiles, by id, the primary first. Reads only."""
    return _read(connection, task_key)


def list_profiles(settings: Settings, tasks: Iterable[Task], task_key: str | None = None) -> list[ProfileLine]:
    """Return every profile of the tasks, those of the folder that wait included. Reads all of `tasks_todo`: for a person."""
    with db.connect(settings, "medallion_console") as connection, connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_SQL["stored"], {"task_key": task_key}).fetchall()
    lines: list[ProfileLine] = []
    for task in tasks:
        stored = [row for row in rows if row["task_key"] == task.task_key]
        in_folder = {profile.prompt_id: profile for profile in task.profiles}
        lines += [_line(PromptProfile.model_validate(row["content"]), row, is_in_folder=row["prompt_id"] in in_folder) for row in stored]
        known = {row["prompt_id"] for row in stored}
        lines += [_line(profile, {}, is_in_folder=True) for prompt_id, profile in in_folder.items() if prompt_id not in known]
    return lines


def _line(profile: PromptProfile, row: Mapping[str, Any], *, is_in_folder: bool) -> ProfileLine:
    return ProfileLine(
        profile.task_key, profile.profile, profile.version, profile.prompt_id, profile.model, row.get("state", "waiting"), is_in_folder,
        row.get("promoted_at"), row.get("answered", 0), row.get("open", 0), row.get("dead", 0), row.get("cost_usd"), profile.comment,
    )  # fmt: skip


def _lock(connection: psycopg.Connection, task_key: str) -> dict[str, StoredProfile]:
    connection.execute(_SQL["lock"], {"task_key": task_key})
    return _read(connection, task_key)


def _read(connection: psycopg.Connection, task_key: str) -> dict[str, StoredProfile]:
    with connection.cursor(row_factory=class_row(StoredProfile)) as cursor:
        return {stored.prompt_id: stored for stored in cursor.execute(_SQL["known"], {"task_key": task_key})}


def _make_primary(connection: psycopg.Connection, profile: PromptProfile, known: Mapping[str, StoredProfile]) -> str | None:
    before = next((stored for stored in known.values() if stored.state == "primary"), None)
    if before is not None:
        _retire(connection, before.profile, promoted="keep")
    replaced = before.prompt_id if before else None
    _set_state(connection, profile, "primary", promoted="now", replaced=replaced)
    return replaced


def _retire(connection: psycopg.Connection, profile: PromptProfile, *, promoted: Literal["keep", "never"]) -> None:
    _set_state(connection, profile, "retired", promoted=promoted)
    connection.execute(_SQL["release"], {"prompt_id": profile.prompt_id, "task_key": profile.task_key})


def _set_state(
    connection: psycopg.Connection,
    profile: PromptProfile,
    state: State,
    *,
    promoted: Literal["now", "keep", "never"],
    replaced: str | None = None,
) -> None:
    connection.execute(_SQL["register"], _row(profile))
    values = {"prompt_id": profile.prompt_id, "state": state, "promoted": promoted, "replaced": replaced}
    connection.execute(_SQL["set_state"], values)


def _row(profile: PromptProfile) -> dict[str, object]:
    content = Jsonb(profile.model_dump(mode="json"))
    return {"prompt_id": profile.prompt_id, "task_key": profile.task_key, "profile": profile.profile, "content": content}
