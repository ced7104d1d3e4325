"""Answers whose subject was deleted from silver, by whatever way: they leave `silver.tasks_results`, and their labels leave gold.

They are kept in `silver.tasks_withdrawn`: they may have been paid for, and a subject that comes back has them again without being
asked (`restore` in `engine/plan.sql`). Part of the transaction of a refresh of `gold.media_labels`; nothing here opens or commits one.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from medallion_defs.core.sql import load_queries
from medallion_defs.labeling.contract import TaskSpec
from medallion_defs.ops.cursors import note_cursor, vanished_name

_SQL = load_queries("medallion_defs.labeling.labels", "vanished.sql")
_MAX_KEYS = 20_000
_FOLLOWER = "gold.media_labels"


class Deletions(NamedTuple):
    """Deletions of one silver table that were not followed yet, as positions in the change feed."""

    name: str
    table: str
    after: int
    until: int


def followed_tables(specs: Iterable[TaskSpec]) -> list[tuple[str, str]]:
    """Return `(name in ops.cursors, silver table)` of each table whose deletions the labels of these tasks follow."""
    tables = sorted({table for spec in specs for table in spec.subjects.tables})
    return [(vanished_name(_FOLLOWER, table), table) for table in tables]


def find_deletions(connection: psycopg.Connection, specs: Iterable[TaskSpec]) -> list[Deletions]:
    """Return the next deletions to follow, at most 20,000 keys of a table; takes time in proportion to them. Reads only."""
    followed = followed_tables(specs)
    values = {"names": [name for name, _ in followed], "tables": [table for _, table in followed], "max_keys": _MAX_KEYS}
    return [Deletions(*row) for row in connection.execute(_SQL["next"], values)]


def follow_deletions(connection: psycopg.Connection, specs: Collection[TaskSpec]) -> int | None:
    """Withdraw the answers that the next deletions leave without a subject; return how many labels went, or None: nothing was deleted."""
    by_key = {spec.task_key: spec for spec in specs}
    parts = find_deletions(connection, specs)
    labels = 0
    for part in parts:
        values = {"table": part.table, "after": part.after, "until": part.until}
        labels += _withdraw_all(connection, by_key, _find(connection, by_key, "about_deleted_rows", values))
        note_cursor(connection, part.name, part.until)
    return labels if parts else None


def _withdraw_all(connection: psycopg.Connection, specs: Mapping[str, TaskSpec], inputs: Mapping[str, set[str]]) -> int:
    """Withdraw the answers to inputs that are gone, by task key and hash, then those about what was found in these answers, and so on."""
    labels = 0
    while inputs:
        gone: list[UUID] = []
        for task_key, file_hashes in sorted(inputs.items()):
            missing = _move(connection, specs[task_key], file_hashes)
            values = {"task_key": task_key, "file_hashes": sorted(missing)}
            gone += [task_id for (task_id,) in connection.execute(_SQL["withdraw"], values)]
            labels += connection.execute(_SQL["delete_labels"], values).rowcount
        inputs = _find(connection, specs, "about_answers", {"task_ids": gone}) if gone else {}
    return labels


def _move(connection: psycopg.Connection, spec: TaskSpec, file_hashes: set[str]) -> set[str]:
    """Give the answers to these inputs to a subject that has the same bytes; return the inputs that no subject has."""
    query = sql.SQL(_SQL["present"]).format(candidates=sql.SQL(spec.subjects.candidates))
    with connection.cursor(row_factory=dict_row) as cursor:
        present = cursor.execute(query, {"after": -1, "limit": None, "file_hashes": sorted(file_hashes)}).fetchall()
    connection.execute(_SQL["move"], {"task_key": spec.task_key, "subjects": json.dumps(present, default=str)})
    return file_hashes - {subject["file_hash"] for subject in present}


def _find(connection: psycopg.Connection, specs: Mapping[str, TaskSpec], query: str, values: Mapping[str, Any]) -> dict[str, set[str]]:
    inputs: dict[str, set[str]] = defaultdict(set)
    for task_key, file_hash in connection.execute(_SQL[query], {**values, "task_keys": list(specs)}):
        inputs[task_key].add(file_hash)
    return inputs
