"""Verdicts: what a person said instead of, or in confirmation of, a result.

A verdict is about the bytes that the result was made of: it wins in gold (`silver.tasks_current`) over any answer to any profile,
survives every re-run, and means nothing to other bytes. Superseded ones stay, with their dates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from medallion_defs.core import db
from medallion_defs.core.errors import TerminalError
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.labeling.engine.outcomes import validate_output
from medallion_defs.labeling.registry import Task

_SQL = load_queries("medallion_defs.labeling.labels", "verdicts.sql")


@dataclass(frozen=True)
class Agreement:
    """How often the answers to one profile are what people said. `verdicts`: those that hold, on inputs the profile answered."""

    task_key: str
    prompt_id: str
    profile: str
    verdicts: int
    agreeing: int

    @property
    def rate(self) -> float:
        """Share of the verdicts whose output equals the answer."""
        return self.agreeing / self.verdicts


def give_verdict(settings: Settings, task: Task, task_id: UUID, output: Mapping[str, Any], reason: str, reviewer: str) -> int:
    """Say what the right output is for the input of a result; return the verdict's id. Takes the place of an earlier one.

    Raises:
        InvalidOutputError: the output does not fit the task's output model.
        TerminalError: there is no such result of the task, or the reason or the reviewer is missing.
    """
    if not reason.strip() or not reviewer.strip():
        raise TerminalError("A verdict needs a reason and a reviewer: who comes after must be able to ask why, and whom.")
    values = {"task_id": task_id, "output": validate_output(task.spec.output_model, output), "reason": reason, "reviewer": reviewer}
    with db.connect(settings, "medallion_review") as connection:
        found = connection.execute(_SQL["find_result"], {"task_id": task_id}).fetchone()
        if found is None or found[0] != task.task_key:
            raise TerminalError(f"Task {task_id} has no result of {task.task_key}, so there is nothing to judge.")
        values |= dict(zip(("task_key", "media_type", "file_hash"), found, strict=True))
        connection.execute(_SQL["supersede"], values)
        [(verdict_id,)] = connection.execute(_SQL["insert"], values).fetchall()
    return int(verdict_id)


def withdraw_verdict(settings: Settings, verdict_id: int) -> None:
    """Let the answer hold again.

    Raises:
        TerminalError: there is no such verdict, or it holds no more already.
    """
    with db.connect(settings, "medallion_review") as connection:
        if not connection.execute(_SQL["withdraw"], {"verdict_id": verdict_id}).rowcount:
            raise TerminalError(f"There is no verdict {verdict_id} that holds.")


def read_agreement(settings: Settings, task_key: str | None = None) -> list[Agreement]:
    """Return, for each task and profile that was judged, how often people agreed."""
    with db.connect(settings, "medallion_console") as connection, connection.cursor(row_factory=class_row(Agreement)) as cursor:
        return cursor.execute(_SQL["agreement"], {"task_key": task_key}).fetchall()
