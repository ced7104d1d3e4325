"""A subject and a task to test the engine with: notes, and a processor that does what a note's text tells it to do."""

import hashlib
import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import psycopg
from pydantic import BaseModel, ConfigDict

from medallion_defs.core.errors import TerminalError, TransientError
from medallion_defs.core.sections import TaskSettings
from medallion_defs.core.settings import Settings
from medallion_defs.labeling.contract import BatchStrategy, ProcessingResult, Processor, Subjects, TaskContext, TaskSpec, WorkItem
from medallion_defs.labeling.prompts import PromptProfile
from medallion_defs.labeling.registry import Task

CREATE_NOTES = """
CREATE TABLE silver.notes (
    note_key text PRIMARY KEY,
    body text NOT NULL,
    file_hash text NOT NULL,
    topic text,
    file_id uuid NOT NULL DEFAULT gen_random_uuid(),
    source_record bigint NOT NULL DEFAULT 1,
    change_seq bigint NOT NULL DEFAULT nextval('silver.change_seq'),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX notes_change_seq_idx ON silver.notes (change_seq);
SELECT silver.watch_changes('silver.notes');
"""
NOTES = Subjects(
    "notes",
    candidates="""
        SELECT 'silver.notes' AS subject_table, note_key AS subject_key, file_id, file_hash, length(body) AS bytes, change_seq,
            topic AS group_key
        FROM silver.notes WHERE change_seq > %(after)s ORDER BY change_seq LIMIT %(limit)s
    """,
    inputs="SELECT note_key AS subject_key, file_hash, body FROM silver.notes WHERE note_key = ANY (%(subject_keys)s)",
)
SHOUTS = Subjects(
    "shouted notes",
    candidates="""
        SELECT subject_table, subject_key, file_id, file_hash, 1 AS bytes, change_seq, ARRAY[task_id] AS depends_on
        FROM silver.tasks_results WHERE task_key = 'note.shout' AND change_seq > %(after)s ORDER BY change_seq LIMIT %(limit)s
    """,
    inputs="SELECT note_key AS subject_key, file_hash FROM silver.notes WHERE note_key = ANY (%(subject_keys)s)",
)


ERRORS = {"transient": TransientError("busy"), "terminal": TerminalError("broken for good")}


class Shout(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    text: str
    length: int


class Unexpected(Exception):  # noqa: N818
    pass


def shout(items: Sequence[WorkItem], context: TaskContext) -> Iterator[ProcessingResult]:
    """Answer each note in upper case, or misbehave as the note asks for."""
    for item in items:
        yield from _one(item, context)


def _one(item: WorkItem, context: TaskContext) -> Iterator[ProcessingResult]:
    body = item.inputs["body"]
    good = ProcessingResult(item.task_id, {"text": body.upper() + context.parameters.get("mark", ""), "length": len(body)}, duration_ms=1.5)
    match body.split()[0]:
        case "raise":
            raise Unexpected("the processor fell over")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "skip":
            return
        case "twice":
            yield good
            yield good
        case "foreign":
            yield good
            yield ProcessingResult(uuid4(), {"text": "?", "length": 1})
        case "invalid":
            yield ProcessingResult(item.task_id, {"text": body})
        case "nul":
            yield ProcessingResult(item.task_id, {"text": "a\0b", "length": 3})
        case "nothing" | "transient" | "terminal" as kind:
            yield ProcessingResult(item.task_id, error=ERRORS.get(kind))
        case _:
            yield good


def shout_task(processor: Processor = shout, *, strategy: BatchStrategy | None = None, code_version: str = "v1", **parameters: Any) -> Task:
    spec = TaskSpec(
        task_key="note.shout", media_type="text", title="Shout", description="The note, louder.", domain="notes", subjects=NOTES,
        output_model=Shout, processor=processor, batch_strategy=strategy or BatchStrategy(),
    )  # fmt: skip
    return Task(spec, (PromptProfile(task_key=spec.task_key, profile="default", parameters=parameters),), code_version)


class Count(BaseModel):
    letters: int


def count_task() -> Task:
    """A task that reads the results of `note.shout`."""

    def count(items: Sequence[WorkItem], _context: TaskContext) -> list[ProcessingResult]:
        return [ProcessingResult(item.task_id, {"letters": len(output["text"])}) for item in items for output in item.dependencies.values()]

    spec = TaskSpec(
        task_key="note.count", media_type="text", title="Count", description="Letters of the shout.", domain="notes", subjects=SHOUTS,
        output_model=Count, processor=count, depends_on=("note.shout",),
    )  # fmt: skip
    return Task(spec, (PromptProfile(task_key=spec.task_key, profile="default"),), "v1")


def put_notes(db: psycopg.Connection, *bodies: str, **by_key: str) -> None:
    """Write notes named n0, n1, … or by the given names; a note that exists gets new text."""
    for key, body in ({f"n{number}": body for number, body in enumerate(bodies)} | by_key).items():
        db.execute(
            "INSERT INTO silver.notes (note_key, body, file_hash) VALUES (%s, %s, %s)"
            " ON CONFLICT (note_key) DO UPDATE SET body = excluded.body, file_hash = excluded.file_hash",
            (key, body, hashlib.sha256(body.encode()).hexdigest()),
        )
    db.commit()


def with_limits(settings: Settings, **limits: Any) -> Settings:
    """The settings with other limits for `note.shout`."""
    return settings.model_copy(update={"tasks": {"note.shout": TaskSettings(**limits)}})


def outputs(db: psycopg.Connection, task_key: str = "note.shout") -> dict[str, Any]:
    """The results of a task by note."""
    rows = db.execute(
        "SELECT subject_key, output FROM silver.tasks_results WHERE task_key = %s ORDER BY subject_key", (task_key,)
    ).fetchall()
    db.commit()
    return dict(rows)


def states(db: psycopg.Connection, task_key: str = "note.shout") -> dict[str, tuple[str, int, str | None]]:
    """Status, attempts and error type of each note's latest task."""
    rows = db.execute(
        "SELECT subject_key, status, attempts, error_type FROM silver.tasks_todo WHERE task_key = %s ORDER BY subject_key, created_at",
        (task_key,),
    ).fetchall()
    db.commit()
    return {key: (status, attempts, error) for key, status, attempts, error in rows}


def make_due(db: psycopg.Connection) -> None:
    """Let the time pass that retries wait for."""
    db.execute("UPDATE silver.tasks_todo SET retry_at = now() WHERE status = 'retrying'")
    db.commit()


def expire_leases(db: psycopg.Connection) -> None:
    """Let the time pass after which a worker without a sign of life counts as dead."""
    db.execute("UPDATE silver.tasks_batches SET lease_until = now() - interval '1 second' WHERE lease_token IS NOT NULL")
    db.commit()
