"""What older code has made: how much, which command makes it again, and what a model might then be asked. Reads only.

Nothing here is done by itself: what is loaded stays as it is until a person asks for it.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

import psycopg
from psycopg.rows import class_row

from medallion_defs.core.code_version import CodeVersions
from medallion_defs.core.sql import load_queries
from medallion_defs.labeling.registry import Task

_SQL = load_queries("medallion_defs.labeling", "outdated.sql")


class Outdated(NamedTuple):
    """Items of a table, or results of a task. `questions`: that a model was asked about them; `usd`: what the answers have cost."""

    items: int
    questions: int
    usd: Decimal


def describe_outdated(
    connection: psycopg.Connection, tables: Mapping[str, tuple[str, CodeVersions]], tasks: Iterable[Task]
) -> dict[str, str]:
    """Return a sentence per silver table and per task that has something of older code.

    Args:
        tables: by name, the source type and the versions of the present code.
    """
    every = list(tasks)
    paid = [task.task_key for task in every if task.spec.model]
    found = {}
    for table, (source_type, code) in tables.items():
        items = _read(connection, "of_source", {"source_type": source_type, "known": code.known, "paid": paid})
        found[table] = _sentence(table, "items were loaded", f"medallion backfill {table} --scope outdated", items)
    for task in every:
        values = {"task_key": task.task_key, "code_version": task.code_version, "asks": task.spec.model is not None}
        results = _read(connection, "of_task", values)
        command = f"medallion tasks backfill --task {task.task_key} --outdated"
        found[task.task_key] = _sentence(task.task_key, "results were made", command, results)
    return {name: sentence for name, sentence in found.items() if sentence}


def _read(connection: psycopg.Connection, query: str, values: Mapping[str, object]) -> Outdated:
    with connection.cursor(row_factory=class_row(Outdated)) as cursor:
        [outdated] = cursor.execute(_SQL[query], values).fetchall()
    return outdated


def _sentence(name: str, what: str, command: str, outdated: Outdated) -> str:
    if not outdated.items:
        return ""
    text = f"{name}: {outdated.items:,} {what} by code that would do otherwise now. '{command}' does them again; --dry-run says how much."
    if outdated.questions:
        text += f" A model might be asked up to {outdated.questions:,} questions again; their answers have cost {outdated.usd:.4f} USD."
    return text
