"""The tables of the labeling engine, in schema `silver`: work, events and results, and beside them batches, prompts and verdicts.

    tasks_todo      one row per task, with its latest state        tasks_batches   one row per batch, which carries the lease
    tasks_status    append-only attempts and outcomes              tasks_history   one row per task: what was compacted away of them
    tasks_results   the canonical output of each task              tasks_prompts   the profiles a task is asked with
    tasks_markers   files written of accepted answers              tasks_verdicts  what a person said instead
    tasks_withdrawn outputs whose subject is gone from silver

The states are guarded by the CHECKs below; who moves what to where is in docs/labeling.md. Indexes on work are partial:
what is done costs a plan or a claim nothing.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)  # fmt: skip
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

METADATA = MetaData()


def _at(name: str, comment: str | None = None) -> Column[object]:
    return Column(name, DateTime(timezone=True), comment=comment)


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=text("now()"))


def _text(name: str, comment: str | None = None) -> Column[object]:
    return Column(name, Text, nullable=False, comment=comment)


def _change_seq() -> Column[object]:
    return Column("change_seq", BigInteger, nullable=False, server_default=text("nextval('silver.change_seq')"))


TASKS_PROMPTS = Table(
    "tasks_prompts",
    METADATA,
    Column("prompt_id", Text, primary_key=True, comment="hash of what changes the answer"),
    _text("task_key"),
    _text("profile", "its name, for people"),
    Column("content", JSONB, nullable=False, comment="the profile as its JSON file had it"),
    _text("state", "primary: gold reads its results; variant: planned beside it; retired: not planned any more"),
    _at("promoted_at", "when it last became primary"),
    Column("replaced_prompt_id", Text, comment="the primary before it"),
    Column(
        "planned_seq", BigInteger, nullable=False, server_default=text("0"),
        comment="change_seq up to which plan has read the subjects for this prompt",
    ),
    _now("created_at"),
    CheckConstraint("state IN ('primary', 'variant', 'retired')", name="tasks_prompts_state_check"),
    CheckConstraint("state <> 'primary' OR promoted_at IS NOT NULL", name="tasks_prompts_primary_was_promoted_check"),
    schema="silver",
)  # fmt: skip
Index("tasks_prompts_primary_idx", TASKS_PROMPTS.c.task_key, unique=True, postgresql_where=text("state = 'primary'"))

TASKS_TODO = Table(
    "tasks_todo",
    METADATA,
    Column("task_id", UUID(as_uuid=True), primary_key=True, comment="of task_key, media_type, file_hash and prompt_id"),
    _text("task_key"),
    _text("media_type"),
    _text("prompt_id"),
    _text("subject_table"),
    _text("subject_key"),
    Column("file_id", UUID(as_uuid=True), nullable=False, comment="bronze item of the subject"),
    _text("file_hash", "sha256 of the input"),
    Column("bytes", BigInteger, nullable=False),
    Column("group_key", Text),
    Column("depends_on", ARRAY(UUID(as_uuid=True)), nullable=False, server_default=text("'{}'")),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    Column("batch_id", BigInteger, comment="the batch it is in, or was in last"),
    Column("attempts", Integer, nullable=False, server_default=text("0"), comment="since it was planned or requeued"),
    _at("retry_at"),
    Column("error_type", Text),
    Column("error_message", Text),
    Column("code_version", Text, comment="version of the task's code that last tried it"),
    _now("created_at"),
    _now("updated_at"),
    CheckConstraint(
        "status IN ('pending', 'batched', 'succeeded', 'retrying', 'dead', 'withdrawn')", name="tasks_todo_status_check"
    ),
    CheckConstraint("(status = 'retrying') = (retry_at IS NOT NULL)", name="tasks_todo_retry_at_check"),
    CheckConstraint("(status IN ('retrying', 'dead')) = (error_type IS NOT NULL)", name="tasks_todo_error_check"),
    CheckConstraint("(status = 'pending') = (batch_id IS NULL)", name="tasks_todo_batch_check"),
    CheckConstraint("attempts >= 0", name="tasks_todo_attempts_check"),
    schema="silver",
)  # fmt: skip
Index("tasks_todo_pending_idx", TASKS_TODO.c.task_key, TASKS_TODO.c.created_at, postgresql_where=text("status = 'pending'"))
Index("tasks_todo_batched_idx", TASKS_TODO.c.batch_id, postgresql_where=text("status = 'batched'"))
Index("tasks_todo_retrying_idx", TASKS_TODO.c.task_key, TASKS_TODO.c.retry_at, postgresql_where=text("status = 'retrying'"))
# Which failures are of another code version, without reading each failure at each plan.
Index("tasks_todo_failed_idx", TASKS_TODO.c.task_key, TASKS_TODO.c.code_version, postgresql_where=text("status IN ('dead', 'retrying')"))

TASKS_BATCHES = Table(
    "tasks_batches",
    METADATA,
    Column("batch_id", BigInteger, Identity(always=True), primary_key=True),
    _text("task_key"),
    _text("prompt_id"),
    Column("items", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column(
        "state", Text, nullable=False, server_default=text("'open'"),
        comment="open: to be processed; asked: a model has it; processed: every item has an outcome; done: consolidated",
    ),
    Column("lease_token", UUID(as_uuid=True), comment="of the one worker that may write for the batch"),
    _at("lease_until"),
    Column("leased_by", Text),
    Column("claims", Integer, nullable=False, server_default=text("0"), comment="times that a worker took it"),
    _now("created_at"),
    _now("updated_at"),
    CheckConstraint("state IN ('open', 'asked', 'processed', 'done')", name="tasks_batches_state_check"),
    CheckConstraint("num_nulls(lease_token, lease_until, leased_by) IN (0, 3)", name="tasks_batches_lease_check"),
    CheckConstraint("state = 'open' OR lease_token IS NULL", name="tasks_batches_lease_is_open_check"),
    schema="silver",
)  # fmt: skip
Index(
    "tasks_batches_live_idx",
    TASKS_BATCHES.c.task_key, TASKS_BATCHES.c.state, TASKS_BATCHES.c.batch_id,
    postgresql_where=text("state <> 'done'"),
)  # fmt: skip

TASKS_STATUS = Table(
    "tasks_status",
    METADATA,
    Column("event_id", BigInteger, Identity(always=True), nullable=False, comment="in the order in which they were written"),
    Column("task_id", UUID(as_uuid=True), nullable=False),
    _text("task_key"),
    Column("batch_id", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    _text("event", "attempt, then one of: succeeded, failed, withdrawn; discarded: a result of no item of the batch"),
    _now("at"),
    _text("worker"),
    Column("duration_ms", Double),
    Column("error_type", Text),
    Column("error_message", Text),
    Column("retry_seconds", Double, comment="of a failure: the wait before the next attempt; NULL: there is none"),
    Column("output", JSONB),
    Column("usage", JSONB),
    Column("cost_usd", Numeric),
    Column("code_version", Text),
    # The only index: events come by the million, and whoever works asks by batch.
    PrimaryKeyConstraint("batch_id", "event_id"),
    CheckConstraint("event IN ('attempt', 'succeeded', 'failed', 'withdrawn', 'discarded')", name="tasks_status_event_check"),
    CheckConstraint("(event = 'succeeded') = (output IS NOT NULL)", name="tasks_status_output_check"),
    CheckConstraint("(event IN ('failed', 'discarded')) = (error_type IS NOT NULL)", name="tasks_status_error_check"),
    schema="silver",
)

TASKS_HISTORY = Table(
    "tasks_history",
    METADATA,
    Column("task_id", UUID(as_uuid=True), primary_key=True),
    _text("task_key"),
    Column("attempts", Integer, nullable=False),
    Column("succeeded", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("withdrawn", Integer, nullable=False),
    Column("total_ms", Double, comment="of all its attempts that were timed"),
    Column("cost_usd", Numeric, comment="of all its attempts"),
    Column("first_at", DateTime(timezone=True), nullable=False),
    Column("last_event_id", BigInteger, nullable=False),
    Column("last_batch_id", BigInteger, nullable=False),
    Column("last_attempt", Integer, nullable=False),
    _text("last_event"),
    Column("last_at", DateTime(timezone=True), nullable=False),
    _text("last_worker"),
    Column("last_duration_ms", Double),
    Column("last_error_type", Text),
    Column("last_error_message", Text),
    schema="silver",
)

TASKS_RESULTS = Table(
    "tasks_results",
    METADATA,
    Column("task_id", UUID(as_uuid=True), primary_key=True),
    _text("task_key"),
    _text("media_type"),
    _text("prompt_id"),
    _text("subject_table"),
    _text("subject_key"),
    Column("file_id", UUID(as_uuid=True), nullable=False),
    _text("file_hash"),
    Column("output", JSONB, nullable=False),
    Column("usage", JSONB),
    Column("cost_usd", Numeric),
    Column("attempt", Integer, nullable=False),
    Column("batch_id", BigInteger, nullable=False),
    Column("code_version", Text),
    _now("created_at"),
    _now("updated_at"),
    _change_seq(),
    schema="silver",
)
Index("tasks_results_change_seq_idx", TASKS_RESULTS.c.change_seq)
Index("tasks_results_file_id_idx", TASKS_RESULTS.c.file_id)
# Hashes of 64 random digits: as a hash index a fifth of the size, and only ever asked for equality.
Index("tasks_results_file_hash_idx", TASKS_RESULTS.c.file_hash, postgresql_using="hash")

TASKS_WITHDRAWN = Table(
    "tasks_withdrawn",
    METADATA,
    Column("task_id", UUID(as_uuid=True), primary_key=True),
    _text("task_key"),
    _text("media_type"),
    _text("prompt_id"),
    Column("file_id", UUID(as_uuid=True), nullable=False, comment="bronze item of the subject that was deleted"),
    _text("file_hash"),
    Column("output", JSONB, nullable=False),
    Column("usage", JSONB),
    Column("cost_usd", Numeric),
    Column("attempt", Integer, nullable=False),
    Column("batch_id", BigInteger, nullable=False),
    Column("code_version", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, comment="of the result"),
    _now("withdrawn_at"),
    schema="silver",
)

TASKS_VERDICTS = Table(
    "tasks_verdicts",
    METADATA,
    Column("verdict_id", BigInteger, Identity(always=True), primary_key=True),
    _text("task_key"),
    _text("media_type"),
    _text("file_hash", "the input that the verdict is about: it holds for these bytes and no others"),
    Column("task_id", UUID(as_uuid=True), nullable=False, comment="the result that the reviewer saw"),
    Column("output", JSONB, nullable=False),
    _text("reason"),
    _text("reviewer"),
    _now("created_at"),
    _now("updated_at"),
    _at("superseded_at", "when it was withdrawn or another took its place; NULL: it holds"),
    _change_seq(),
    schema="silver",
)
Index(
    "tasks_verdicts_current_idx",
    TASKS_VERDICTS.c.task_key, TASKS_VERDICTS.c.file_hash,
    unique=True, postgresql_where=text("superseded_at IS NULL"),
)  # fmt: skip
Index("tasks_verdicts_change_seq_idx", TASKS_VERDICTS.c.change_seq)
# Of all verdicts on an input: how far gold has read them.
Index("tasks_verdicts_input_idx", TASKS_VERDICTS.c.task_key, TASKS_VERDICTS.c.file_hash)
Index("tasks_verdicts_task_idx", TASKS_VERDICTS.c.task_id)

TASKS_MARKERS = Table(
    "tasks_markers",
    METADATA,
    Column("task_key", Text(collation="C"), primary_key=True),
    Column("subject_key", Text(collation="C"), primary_key=True),
    Column("task_id", UUID(as_uuid=True), nullable=False, comment="the question whose answer the marker holds"),
    Column("output_md5", Text, comment="of the output in it; NULL: the file was there, and is somebody else's"),
    _now("noted_at"),
    schema="silver",
)
Index("tasks_markers_task_idx", TASKS_MARKERS.c.task_id)
