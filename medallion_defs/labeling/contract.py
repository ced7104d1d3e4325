"""What a task is, and what goes in and out of its processor: the one module of the engine that `tasks/<name>/` imports.

Types only. How tasks are planned, processed and consolidated is in the modules of those names; nothing here touches the
database, the disk or a model.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import msgspec
from pydantic import BaseModel

from medallion_defs.core.errors import MedallionError
from medallion_defs.core.settings import Settings

_TABLE = re.compile(r"\b(?:FROM|JOIN)\s+silver\.([a-z_]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Candidate:
    """One subject of a task, by ids: what plan writes to `silver.tasks_todo`. Never carries the payload.

    Attributes:
        subject_table: the silver table with the subject's row (`silver.media`).
        subject_key: the row's key.
        file_id: the bronze item the subject comes from.
        file_hash: sha256 of the task's input; new bytes are a new task.
        bytes: size of the input, for batches by size.
        group_key: subjects that should go in one batch share it; None: no group.
        depends_on: tasks whose results this one reads.
        change_seq: position in the change feed at which the subject was found.
    """

    subject_table: str
    subject_key: str
    file_id: UUID
    file_hash: str
    bytes: int
    change_seq: int
    group_key: str | None = None
    depends_on: tuple[UUID, ...] = ()


@dataclass(frozen=True)
class Subjects:
    """Which silver rows a task is asked about, as two queries (kept in named `.sql` files).

    Attributes:
        name: for messages and metadata.
        candidates: rows with the columns of `Candidate` for `change_seq > %(after)s`, ascending, at most `%(limit)s`; a plan
            costs what is new, whatever the history. `change_seq` is that of the row which makes the subject a candidate, and of one
            table (of `silver.tasks_results`, where the subject waits for another task); several subjects may share one.
        inputs: for `%(subject_keys)s` (text[]), one row per subject: `subject_key`, `file_hash` + whatever the processor reads;
            `bronze_path` and `artifact` columns, where there are such, become `WorkItem.path`; so does `derived_path`, below
            `data/derived`. A task whose `file_hash` is no longer the subject's is withdrawn: the new bytes have their own.
    """

    name: str
    candidates: LiteralString
    inputs: LiteralString

    @property
    def tables(self) -> list[str]:
        """The silver tables that the subjects are read from, those of the labeling engine left out."""
        found = _TABLE.findall(self.candidates) + _TABLE.findall(self.inputs)
        return sorted({table for table in found if not table.startswith("tasks_")})


class WorkItem(msgspec.Struct, frozen=True):
    """One item of a batch, as the processor gets it.

    Attributes:
        path: where the input's bytes are; None when the input is in `inputs`.
        sha256: of the bytes at `path`, as they were published.
        inputs: the columns of the subject's inputs query (`text`, `filename` …).
        dependencies: outputs of the tasks it depends on, by task id.
        attempt: 1 for the first.
    """

    task_id: UUID
    task_key: str
    media_type: str
    file_id: UUID
    file_hash: str
    subject_table: str
    subject_key: str
    attempt: int
    path: Path | None = None
    sha256: str | None = None
    inputs: Mapping[str, Any] = msgspec.field(default_factory=dict)
    dependencies: Mapping[UUID, Mapping[str, Any]] = msgspec.field(default_factory=dict)


def _unheard(_item: WorkItem) -> None: ...


@dataclass(frozen=True)
class TaskContext:
    """What a processor knows of its surroundings.

    Attributes:
        parameters: of the prompt profile (`every_seconds`, `max_edge_px` …).
        derived: makes and returns the folder `data/derived/{task_key}/{task_id}/` of an item; what is put there must be
            named by content and be the same whenever the task is done again.
        begin: to be told, where a processor works on one item after the other, at which it is. Then this item alone is charged
            when the process dies or the item takes too long; otherwise it is searched for in ever smaller parts of the list.
    """

    parameters: Mapping[str, Any]
    derived: Callable[[UUID], Path]
    begin: Callable[[WorkItem], None] = _unheard


class ProcessingResult(msgspec.Struct, frozen=True):
    """What became of one item: an output, or an error whose type (transient, terminal) decides about a retry.

    Attributes:
        output: a JSON object that fits the task's `output_model`.
        duration_ms: what the item took; None when it cannot be told apart from its batch.
        usage: what a model counted (tokens by kind), and `cost_usd` what that costs; None without a model.
    """

    task_id: UUID
    output: Mapping[str, Any] | None = None
    error: MedallionError | None = None
    duration_ms: float | None = None
    usage: Mapping[str, Any] | None = None
    cost_usd: Decimal | None = None


Processor = Callable[[Sequence[WorkItem], TaskContext], Iterable[ProcessingResult]]


@dataclass(frozen=True)
class BatchStrategy:
    """How planned items become batches: at most `max_items` and `max_bytes` (one larger item goes alone); by group if asked."""

    max_items: int = 100
    max_bytes: int = 256 * 1024**2
    by_group: bool = False


@dataclass(frozen=True)
class RequestMedium:
    """One file that goes with a request, as its content says what it is."""

    path: Path
    mime_type: str


@dataclass(frozen=True)
class ModelRequest:
    """What a model is asked about one item: text of the prompt, and media to go with it."""

    text: str
    media: tuple[RequestMedium, ...] = ()


@dataclass(frozen=True)
class ModelTask:
    """The model's half of a task: how an item becomes a request. The answer is validated against `TaskSpec.output_model`.

    Attributes:
        build_request: the item and the profile's rendered template to the request; raises a `MedallionError` for a bad item.
        record_key: how the transport, its logs and people call the item; None: the task and the subject's key.
    """

    build_request: Callable[[WorkItem, str], ModelRequest]
    record_key: Callable[[WorkItem], str] | None = None


@dataclass(frozen=True)
class Marker:
    """Files that accepted answers are written to, one a subject, in a folder outside of the project's data.

    A subject whose marker is there is not asked about; whoever removes a marker asks for its subject again.

    Attributes:
        folder: where they go, by the settings; None: no markers are written or looked for. May raise `ConfigurationError`.
        path: from a subject's key to its marker's path below the folder.
    """

    folder: Callable[[Settings], Path | None]
    path: Callable[[str], Path]


@dataclass(frozen=True)
class TaskSpec:
    """One task (`tasks/<name>/task.py`, `get_spec()`): one question asked of every subject.

    Attributes:
        task_key: `medium.verb` (`video.extract_frames`); the folder is the same with `_` for `.`.
        media_type: of the subjects: video, audio, image, text, page.
        title: one line for a person.
        description: what the output says (Markdown).
        domain: the asset group.
        subjects: which silver rows it is asked about.
        output_model: the strict type of every output; its JSON Schema is the model's answer schema.
        processor: for tasks that need no model.
        model: for tasks that need one; exactly one of the two is set.
        marker: where accepted answers are written to as files, for tasks that have such.
        batch_strategy: how items are grouped.
        depends_on: task keys whose results it reads.
        owners: Dagster owners.
    """

    task_key: str
    media_type: str
    title: str
    description: str
    domain: str
    subjects: Subjects
    output_model: type[BaseModel]
    processor: Processor | None = None
    model: ModelTask | None = None
    marker: Marker | None = None
    batch_strategy: BatchStrategy = BatchStrategy()
    depends_on: tuple[str, ...] = ()
    owners: tuple[str, ...] = ("team:content",)
