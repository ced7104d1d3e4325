"""Where a label comes from: its task, the silver rows that the task was about, and through them the bytes. Reads only.

A task about the results of another one (a frame of a video) leads on to what that was about.
"""

from collections.abc import Iterator, Mapping
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from medallion_defs.core.errors import ConfigurationError, TerminalError
from medallion_defs.core.sql import load_queries
from medallion_defs.labeling.labels.build import TABLE
from medallion_defs.ops.lineage import LineageSpec, Record, Trace, read_items, read_row
from medallion_defs.storage.reading import ItemReader

SPEC = LineageSpec(TABLE, "task_id")
_SQL = load_queries("medallion_defs.labeling.labels", "trace.sql")


def trace_label(connection: psycopg.Connection, task_id: str, silver: Mapping[str, LineageSpec], bronze: ItemReader | None = None) -> Trace:
    """Trace one row of `gold.media_labels` to the records that it is about.

    Args:
        task_id: the row's; `medallion tasks list` shows it.
        silver: how silver tables are traced, by table.

    Raises:
        TerminalError: no such label; or the trail is broken, and where.
    """
    try:
        wanted = UUID(task_id)
    except ValueError as error:
        raise ConfigurationError(f"'{task_id}' is no task id. A label is named by its task: medallion trace {TABLE} <task_id>.") from error
    row = read_row(connection, SPEC, str(wanted))
    with connection.cursor(row_factory=dict_row) as cursor:
        subjects = cursor.execute(_SQL["subjects"], {"task_id": wanted}).fetchall()
    records = [record for subject in subjects for record in _records(connection, subject, silver, bronze)]
    if not records:
        raise TerminalError(f"The label of task {wanted} is there, and its task is gone. 'medallion tasks labels --all' puts that right.")
    return Trace(TABLE, str(wanted), row, tuple(records))


def _records(
    connection: psycopg.Connection, subject: Mapping[str, object], silver: Mapping[str, LineageSpec], bronze: ItemReader | None
) -> Iterator[Record]:
    """Yield the record of one subject; none where the subject is another task's result, which is followed on its own."""
    table, key, file_id = str(subject["subject_table"]), str(subject["subject_key"]), UUID(str(subject["file_id"]))
    if table not in silver and subject["depends_on"]:
        return
    found = None
    if table in silver:
        try:
            found = read_row(connection, silver[table], key)
        except TerminalError:
            found = None  # the row is gone since; the item that it was made of is what the label is about
    is_current = found is not None and str(found["file_id"]) == str(file_id)
    number = int(str(found["source_record"])) if found and is_current else None
    yield Record(table, key, number, is_current, found, read_items(connection, [file_id], bronze)[file_id])
