"""What labeling holds of a subject beside the tables that name its item or its task: the exchanges with a model that it is in.

An exchange is one bronze item with the prompts and answers of many records. It cannot be cut, so to forget one record is to forget the
whole item; results of the other records stay in `silver.tasks_results`, and only cannot be parsed from their answers again.
"""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import UUID

import psycopg

from medallion_defs.core.errors import TransientError
from medallion_defs.core.sql import load_queries

_SQL = load_queries("medallion_defs.labeling.engine", "removal.sql")


def find_exchanges(connection: psycopg.Connection, file_ids: Sequence[UUID]) -> list[tuple[str, str]]:
    """Return `(source_type, external_id)` of the bronze items that hold prompts about these items, forgotten ones left out.

    Raises:
        TransientError: the model was asked about one and has not answered, so the answer would come in later.
    """
    waiting = connection.execute(_SQL["open_batches"], {"file_ids": list(file_ids)}).fetchall()
    if waiting:
        raise TransientError(
            f"A model was asked about it in {', '.join(batch for (batch,) in waiting)} and the answers are not read yet. "
            "Try again when they are, or cancel the batch first."
        )
    return [(source, batch) for source, batch in connection.execute(_SQL["exchanges"], {"file_ids": list(file_ids)})]


def delete_derived(derived_path: Path, task_ids: Iterable[UUID]) -> int:
    """Delete the folders `data/derived/{task_key}/{task_id}` of these tasks; return how many files were in them.

    Raises:
        TransientError: a folder cannot be deleted.
    """
    folders = [folder for task_id in task_ids for folder in derived_path.glob(f"*/{task_id}")]
    files = sum(path.is_file() for folder in folders for path in folder.rglob("*"))
    for folder in folders:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise TransientError(f"{folder} cannot be deleted: {error}. Give this process's user the right, then forget again.") from error
    return files


def delete_failures(connection: psycopg.Connection, file_ids: Sequence[UUID]) -> dict[str, int]:
    """Delete what the failure log quotes of prompts and answers about these items; return how many rows, by table."""
    rows = connection.execute(_SQL["delete_failures"], {"file_ids": list(file_ids)}).rowcount
    return {"ops.failure_logs": rows} if rows else {}
