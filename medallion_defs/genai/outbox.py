"""What crashes left in data/outbox: folders of requests that nobody will send any more. No network."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from medallion_defs.genai.state import BatchState

# The folder of a batch in one of these states is not read again. None stands for a batch that does not exist.
_OVER = frozenset({None, "collected", "completed", "failed", "cancelled"})


def remove_leftovers(connection: psycopg.Connection[Any], data_path: Path, before: datetime) -> list[str]:
    """Remove the folders untouched since `before` whose batch is not there, or over; return their names.

    Without a batch: of a crash before its commit. Over: cancelled, or of a crash after its answers were brought home.
    """
    root = data_path / "outbox"
    old = [folder for folder in (sorted(root.iterdir()) if root.is_dir() else []) if folder.is_dir() and _touched_at(folder) < before]
    statuses = BatchState(connection).read_statuses([folder.name for folder in old])
    leftovers = [folder for folder in old if statuses.get(folder.name) in _OVER]
    for folder in leftovers:
        shutil.rmtree(folder)
    return [folder.name for folder in leftovers]


def _touched_at(folder: Path) -> datetime:
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in (folder, *folder.iterdir())), UTC)
