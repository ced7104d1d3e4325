"""Success markers: accepted answers as files that other programs and people look at, in a folder that is not ours alone.

What was written is noted in `silver.tasks_markers`, after the file is there. So each state says what to do: an answer without a note
gets its file, whatever was killed in between; a note without its file means that somebody removed it, and asks again. A file that
is there and is not ours stays as it is. Everything may be run again at any time.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import class_row, dict_row

from medallion_defs.core.errors import ConfigurationError, TransientError
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.labeling.contract import Marker, WorkItem
from medallion_defs.labeling.registry import Task

_SQL = load_queries("medallion_defs.labeling.labels", "markers.sql")
_CHUNK = 1_000


@dataclass(frozen=True)
class Marked:
    """What a marker says: whose, of which bytes, asked with which profile, and the answer."""

    subject_key: str
    task_id: UUID
    file_hash: str
    prompt_id: str
    model: str | None
    source: str
    output: Mapping[str, Any]
    output_md5: str


class _Found(msgspec.Struct, frozen=True):
    """What of a file that is there says whether it is ours. Other fields are left to whoever wrote it."""

    content_sha256: str | None = None
    prompt_id: str | None = None

    @property
    def is_ours(self) -> bool:
        return self.content_sha256 is not None and self.prompt_id is not None


class Markers(NamedTuple):
    """The markers of one task, where the settings say they are."""

    task: Task
    marker: Marker
    folder: Path

    def path(self, subject_key: str) -> Path:
        return self.folder / self.marker.path(subject_key)

    def ask_removed_again(self, connection: psycopg.Connection) -> int:
        """Set what somebody removed the marker of to pending; return how many. Commits part by part.

        Raises:
            ConfigurationError: the whole folder is gone, which is more likely an accident than a wish.
        """
        again, after = 0, ""
        while True:
            with connection.transaction():
                values = {"task_key": self.task.task_key, "after": after, "limit": _CHUNK}
                noted: list[tuple[str, UUID]] = connection.execute(_SQL["noted"], values).fetchall()
                if noted:
                    self._require_folder()
                removed = [task_id for key, task_id in noted if not self.path(key).exists()]
                if removed:
                    again += connection.execute(_SQL["ask_again"], {"task_key": self.task.task_key, "task_ids": removed}).rowcount
            if not noted:
                return again
            after = noted[-1][0]

    def write_missing(self, connection: psycopg.Connection) -> int:
        """Write the markers of what holds and has none, or another; return how many. Commits part by part.

        Raises:
            TransientError: a file cannot be written; the others before it are, and the next call goes on.
        """
        with connection.transaction(), connection.cursor(binary=True) as ids:
            task_ids: list[UUID] = [task_id for (task_id,) in ids.execute(_SQL["unmarked"], {"task_key": self.task.task_key})]
        written = 0
        for start in range(0, len(task_ids), _CHUNK):
            with connection.transaction():
                current = self._read_current(connection, task_ids[start : start + _CHUNK])
                batches = self._batches(connection, current)
                written += sum(self._write(marked, batches.get(marked.task_id)) for marked in current)
                self._insert_notes(connection, [(marked.subject_key, marked.task_id, marked.output_md5) for marked in current])
        return written

    def split_present(self, items: Sequence[WorkItem], prompt_id: str) -> tuple[list[WorkItem], list[WorkItem]]:
        """Return the items to ask about, and those whose marker is there: for these bytes and this profile, or not ours at all."""
        present = {item.task_id for item in items if self._is_present(item, prompt_id)}
        return [item for item in items if item.task_id not in present], [item for item in items if item.task_id in present]

    def note_present(self, connection: psycopg.Connection, items: Sequence[WorkItem]) -> None:
        """Remember that these markers were there, so that their removal is seen. The caller commits."""
        self._insert_notes(connection, [(item.subject_key, item.task_id, None) for item in items])

    def _is_present(self, item: WorkItem, prompt_id: str) -> bool:
        found = read_marker(self.path(item.subject_key))
        return found is not None and (not found.is_ours or (found.content_sha256, found.prompt_id) == (item.file_hash, prompt_id))

    def _read_current(self, connection: psycopg.Connection, task_ids: Sequence[UUID]) -> list[Marked]:
        """Return what holds of these tasks, of those that are about their subject's bytes as they are now."""
        with connection.cursor(row_factory=class_row(Marked)) as answers:
            rows = answers.execute(_SQL["read_current"], {"task_ids": list(task_ids)}).fetchall()
        with connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(self.task.spec.subjects.inputs, {"subject_keys": [row.subject_key for row in rows]})
            hashes = {row["subject_key"]: row["file_hash"] for row in cursor}
        return [row for row in rows if hashes.get(row.subject_key) == row.file_hash]

    def _batches(self, connection: psycopg.Connection, rows: Sequence[Marked]) -> dict[UUID, str]:
        keys = [key for row in rows for key in (row.subject_key, f"{self.task.task_key}:{row.subject_key}")]
        values = {"record_keys": keys, "task_ids": [row.task_id for row in rows]}
        return dict(connection.execute(_SQL["asked_in"], values).fetchall())

    def _write(self, marked: Marked, batch_id: str | None) -> bool:
        path = self.path(marked.subject_key)
        found = read_marker(path)
        if found is not None and not found.is_ours:
            return False
        write_atomically(path, encode_marker(marked, batch_id))
        return True

    def _insert_notes(self, connection: psycopg.Connection, rows: Sequence[tuple[str, UUID, str | None]]) -> None:
        if rows:
            keys, task_ids, md5s = (list(column) for column in zip(*rows, strict=True))
            values = {"task_key": self.task.task_key, "subject_keys": keys, "task_ids": task_ids, "output_md5s": md5s}
            connection.execute(_SQL["note"], values)

    def _require_folder(self) -> None:
        if not self.folder.is_dir():
            raise ConfigurationError(
                f"There is no folder {self.folder}, in which markers of {self.task.task_key} were written. Mount or restore it, or create "
                "it empty to have every one of them asked about again, and paid."
            )


def markers_of(settings: Settings, task: Task) -> Markers | None:
    """Return the markers of a task; None when it has none, or the settings name no folder.

    Raises:
        ConfigurationError: what the settings say of the folder is not valid.
    """
    folder = task.spec.marker.folder(settings) if task.spec.marker else None
    return None if task.spec.marker is None or folder is None else Markers(task, task.spec.marker, folder)


def write_markers(connection: psycopg.Connection, settings: Settings, task: Task) -> int:
    """Write the markers of the task that are missing, where it has such; return how many.

    Raises:
        ConfigurationError, TransientError: as for `markers_of` and `Markers.write_missing`.
    """
    markers = markers_of(settings, task)
    return markers.write_missing(connection) if markers else 0


def encode_marker(marked: Marked, batch_id: str | None) -> bytes:
    """Return the text of a marker: JSON of fixed fields in a fixed order, the same for the same answer."""
    content = {
        "record_key": marked.subject_key,
        "content_sha256": marked.file_hash,
        "prompt_id": marked.prompt_id,
        "model": marked.model,
        "source": marked.source,
        "batch_id": batch_id,
        "task_id": str(marked.task_id),
        "output": marked.output,
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def read_marker(path: Path) -> _Found | None:
    """Return what a marker says of itself; None when there is none. What is no JSON object is somebody else's, and there all the same.

    Raises:
        TransientError: it cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Found)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Found()
    except OSError as error:
        raise TransientError(f"The marker {path} cannot be read: {error}. Give this process's user the right, then try again.") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and durably; what was there is replaced.

    Raises:
        TransientError: the disk refuses.
    """
    new = path.with_name(f".{path.name}.{token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        raise TransientError(
            f"The marker {path} cannot be written: {error}. It is written at the next run once the disk allows."
        ) from error


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
