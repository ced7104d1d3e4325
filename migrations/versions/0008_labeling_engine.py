"""Create the tables of the labeling engine, the two views on them, and gold's right to write them.

The results and the verdicts are under the change feed: tasks that wait for other tasks, and gold, read them by it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

VIEWS = """
-- What holds for an input now: the answer to the primary profile, to the one before it while that has none yet, and before
-- either what a person said. Of several subjects with the same bytes there is one row; join subjects to it by file_hash.
CREATE VIEW silver.tasks_current AS
SELECT DISTINCT ON (result.task_key, result.media_type, result.file_hash)
    result.task_key, result.media_type, result.file_hash, result.task_id, result.prompt_id, result.file_id,
    coalesce(verdict.output, result.output) AS output, result.output AS answered_output, result.change_seq AS result_change_seq,
    verdict.verdict_id, verdict.reason AS verdict_reason, verdict.reviewer AS verdict_reviewer, verdict.change_seq AS verdict_change_seq
FROM silver.tasks_results AS result
JOIN silver.tasks_prompts AS prompt ON prompt.prompt_id = result.prompt_id AND prompt.state <> 'variant' AND prompt.promoted_at IS NOT NULL
LEFT JOIN silver.tasks_verdicts AS verdict
    ON verdict.task_key = result.task_key AND verdict.media_type = result.media_type AND verdict.file_hash = result.file_hash
    AND verdict.superseded_at IS NULL
ORDER BY result.task_key, result.media_type, result.file_hash, prompt.state = 'primary' DESC, prompt.promoted_at DESC;

-- Each task's last event and its totals, whether its events are still there or were compacted.
CREATE VIEW silver.tasks_latest AS
WITH events AS (
    SELECT * FROM silver.tasks_history
    UNION ALL
    SELECT
        task_id, task_key, (event = 'attempt')::int, (event = 'succeeded')::int, (event = 'failed')::int, (event = 'withdrawn')::int,
        duration_ms, cost_usd, at, event_id, batch_id, attempt, event, at, worker, duration_ms, error_type, error_message
    FROM silver.tasks_status
    WHERE event <> 'discarded'
)
SELECT DISTINCT ON (task_id)
    task_id, task_key, sum(attempts) OVER task AS attempts, sum(succeeded) OVER task AS succeeded, sum(failed) OVER task AS failed,
    sum(withdrawn) OVER task AS withdrawn, sum(total_ms) OVER task AS total_ms, sum(cost_usd) OVER task AS cost_usd,
    min(first_at) OVER task AS first_at, last_event_id, last_batch_id, last_attempt, last_event, last_at, last_worker, last_duration_ms,
    last_error_type, last_error_message
FROM events
WINDOW task AS (PARTITION BY task_id)
ORDER BY task_id, last_event_id DESC;
"""

RIGHTS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON silver.tasks_todo, silver.tasks_batches, silver.tasks_status, silver.tasks_history,
    silver.tasks_results, silver.tasks_prompts, silver.tasks_verdicts TO medallion_gold;
-- Drawn by the default of change_seq in the results and the verdicts.
GRANT USAGE ON SEQUENCE silver.change_seq TO medallion_gold;
"""


def upgrade() -> None:
    op.create_table(
        "tasks_batches",
        sa.Column("batch_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("task_key", sa.Text(), nullable=False),
        sa.Column("prompt_id", sa.Text(), nullable=False),
        sa.Column("items", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column(
            "state",
            sa.Text(),
            server_default=sa.text("'open'"),
            nullable=False,
            comment="open: to be processed; asked: a model has it; processed: every item has an outcome; done: consolidated",
        ),
        sa.Column("lease_token", sa.UUID(), nullable=True, comment="of the one worker that may write for the batch"),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("leased_by", sa.Text(), nullable=True),
        sa.Column("claims", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="times that a worker took it"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state = 'open' OR lease_token IS NULL", name="tasks_batches_lease_is_open_check"),
        sa.CheckConstraint("state IN ('open', 'asked', 'processed', 'done')", name="tasks_batches_state_check"),
        sa.CheckConstraint("num_nulls(lease_token, lease_until, leased_by) IN (0, 3)", name="tasks_batches_lease_check"),
        sa.PrimaryKeyConstraint("batch_id"),
        schema="silver",
    )
    op.create_index(
        "tasks_batches_live_idx",
        "tasks_batches",
        ["task_key", "state", "batch_id"],
        unique=False,
        schema="silver",
        postgresql_where=sa.text("state <> 'done'"),
    )
    op.create_table(
        "tasks_history",
        sa.Column("task_id", sa.UUID(), nullable=False),
        sa.Column("task_key", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("succeeded", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("withdrawn", sa.Integer(), nullable=False),
        sa.Column("total_ms", sa.Double(), nullable=True, comment="of all its attempts that were timed"),
        sa.Column("cost_usd", sa.Numeric(), nullable=True, comment="of all its attempts"),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_event_id", sa.BigInteger(), nullable=False),
        sa.Column("last_batch_id", sa.BigInteger(), nullable=False),
        sa.Column("last_attempt", sa.Integer(), nullable=False),
        sa.Column("last_event", sa.Text(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_worker", sa.Text(), nullable=False),
        sa.Column("last_duration_ms", sa.Double(), nullable=True),
        sa.Column("last_error_type", sa.Text(), nullable=True),
        sa.Column("last_error_message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("task_id"),
        schema="silver",
    )
    op.create_table(
        "tasks_prompts",
        sa.Column("prompt_id", sa.Text(), nullable=False, comment="hash of what changes the answer"),
        sa.Column("task_key", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False, comment="its name, for people"),
        sa.Column("content", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="the profile as its JSON file had it"),
        sa.Column(
            "state",
            sa.Text(),
            nullable=False,
            comment="primary: gold reads its results; variant: planned beside it; retired: not planned any more",
        ),
        sa.Column("promoted_at", sa.DateTime(timezone=True), nullable=True, comment="when it last became primary"),
        sa.Column("replaced_prompt_id", sa.Text(), nullable=True, comment="the primary before it"),
        sa.Column(
            "planned_seq",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="change_seq up to which plan has read the subjects for this prompt",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state <> 'primary' OR promoted_at IS NOT NULL", name="tasks_prompts_primary_was_promoted_check"),
        sa.CheckConstraint("state IN ('primary', 'variant', 'retired')", name="tasks_prompts_state_check"),
        sa.PrimaryKeyConstraint("prompt_id"),
        schema="silver",
    )
    op.create_index(
        "tasks_prompts_primary_idx",
        "tasks_prompts",
        ["task_key"],
        unique=True,
        schema="silver",
        postgresql_where=sa.text("state = 'primary'"),
    )
    op.create_table(
        "tasks_results",
        sa.Column("task_id", sa.UUID(), nullable=False),
        sa.Column("task_key", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("prompt_id", sa.Text(), nullable=False),
        sa.Column("subject_table", sa.Text(), nullable=False),
        sa.Column("subject_key", sa.Text(), nullable=False),
        sa.Column("file_id", sa.UUID(), nullable=False),
        sa.Column("file_hash", sa.Text(), nullable=False),
        sa.Column("output", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("usage", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("cost_usd", sa.Numeric(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column("code_version", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("change_seq", sa.BigInteger(), server_default=sa.text("nextval('silver.change_seq')"), nullable=False),
        sa.PrimaryKeyConstraint("task_id"),
        schema="silver",
    )
    op.create_index("tasks_results_change_seq_idx", "tasks_results", ["change_seq"], unique=False, schema="silver")
    op.create_index("tasks_results_file_hash_idx", "tasks_results", ["file_hash"], unique=False, schema="silver", postgresql_using="hash")
    op.create_index("tasks_results_file_id_idx", "tasks_results", ["file_id"], unique=False, schema="silver")
    op.create_table(
        "tasks_status",
        sa.Column("event_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("task_id", sa.UUID(), nullable=False),
        sa.Column("task_key", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column(
            "event",
            sa.Text(),
            nullable=False,
            comment="attempt, then one of: succeeded, failed, withdrawn; discarded: a result of no item of the batch",
        ),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("duration_ms", sa.Double(), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column(
            "retry_seconds", sa.Double(), nullable=True, comment="of a failure: the wait before the next attempt; NULL: there is none"
        ),
        sa.Column("output", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("usage", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("cost_usd", sa.Numeric(), nullable=True),
        sa.Column("code_version", sa.Text(), nullable=True),
        sa.CheckConstraint("(event = 'succeeded') = (output IS NOT NULL)", name="tasks_status_output_check"),
        sa.CheckConstraint("(event IN ('failed', 'discarded')) = (error_type IS NOT NULL)", name="tasks_status_error_check"),
        sa.CheckConstraint("event IN ('attempt', 'succeeded', 'failed', 'withdrawn', 'discarded')", name="tasks_status_event_check"),
        sa.PrimaryKeyConstraint("event_id"),
        schema="silver",
    )
    op.create_index("tasks_status_batch_idx", "tasks_status", ["batch_id"], unique=False, schema="silver")
    op.create_table(
        "tasks_todo",
        sa.Column("task_id", sa.UUID(), nullable=False, comment="of task_key, media_type, file_hash and prompt_id"),
        sa.Column("task_key", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("prompt_id", sa.Text(), nullable=False),
        sa.Column("subject_table", sa.Text(), nullable=False),
        sa.Column("subject_key", sa.Text(), nullable=False),
        sa.Column("file_id", sa.UUID(), nullable=False, comment="bronze item of the subject"),
        sa.Column("file_hash", sa.Text(), nullable=False, comment="sha256 of the input"),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("group_key", sa.Text(), nullable=True),
        sa.Column("depends_on", postgresql.ARRAY(sa.UUID()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=True, comment="the batch it is in, or was in last"),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="since it was planned or requeued"),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("code_version", sa.Text(), nullable=True, comment="version of the task's code that last tried it"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("(status = 'pending') = (batch_id IS NULL)", name="tasks_todo_batch_check"),
        sa.CheckConstraint("(status = 'retrying') = (retry_at IS NOT NULL)", name="tasks_todo_retry_at_check"),
        sa.CheckConstraint("(status IN ('retrying', 'dead')) = (error_type IS NOT NULL)", name="tasks_todo_error_check"),
        sa.CheckConstraint(
            "status IN ('pending', 'batched', 'succeeded', 'retrying', 'dead', 'withdrawn')", name="tasks_todo_status_check"
        ),
        sa.CheckConstraint("attempts >= 0", name="tasks_todo_attempts_check"),
        sa.PrimaryKeyConstraint("task_id"),
        schema="silver",
    )
    op.create_index(
        "tasks_todo_batched_idx", "tasks_todo", ["batch_id"], unique=False, schema="silver", postgresql_where=sa.text("status = 'batched'")
    )
    op.create_index(
        "tasks_todo_failed_idx",
        "tasks_todo",
        ["task_key", "code_version"],
        unique=False,
        schema="silver",
        postgresql_where=sa.text("status IN ('dead', 'retrying')"),
    )
    op.create_index(
        "tasks_todo_pending_idx",
        "tasks_todo",
        ["task_key", "created_at"],
        unique=False,
        schema="silver",
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "tasks_todo_retrying_idx",
        "tasks_todo",
        ["task_key", "retry_at"],
        unique=False,
        schema="silver",
        postgresql_where=sa.text("status = 'retrying'"),
    )
    op.create_table(
        "tasks_verdicts",
        sa.Column("verdict_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("task_key", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column(
            "file_hash", sa.Text(), nullable=False, comment="the input that the verdict is about: it holds for these bytes and no others"
        ),
        sa.Column("task_id", sa.UUID(), nullable=False, comment="the result that the reviewer saw"),
        sa.Column("output", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "superseded_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it was withdrawn or another took its place; NULL: it holds",
        ),
        sa.Column("change_seq", sa.BigInteger(), server_default=sa.text("nextval('silver.change_seq')"), nullable=False),
        sa.PrimaryKeyConstraint("verdict_id"),
        schema="silver",
    )
    op.create_index("tasks_verdicts_change_seq_idx", "tasks_verdicts", ["change_seq"], unique=False, schema="silver")
    op.create_index(
        "tasks_verdicts_current_idx",
        "tasks_verdicts",
        ["task_key", "file_hash"],
        unique=True,
        schema="silver",
        postgresql_where=sa.text("superseded_at IS NULL"),
    )
    op.create_index("tasks_verdicts_task_idx", "tasks_verdicts", ["task_id"], unique=False, schema="silver")
    op.execute("SELECT silver.watch_changes('silver.tasks_results')")
    op.execute("SELECT silver.watch_changes('silver.tasks_verdicts')")
    op.execute(VIEWS)
    op.execute(RIGHTS)
