"""Add the tables of the Gemini transport."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "active_batches",
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False, comment="batch: one file, half the price; online: one call a record"),
        sa.Column("task_key", sa.Text(), nullable=False),
        sa.Column("prompt_id", sa.Text(), nullable=False),
        sa.Column("tasks_batch_id", sa.BigInteger(), nullable=True, comment="the batch of silver.tasks_batches that asked"),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False, comment="sha256 of the request file; the job's name at the provider"),
        sa.Column("request_count", sa.Integer(), nullable=False),
        sa.Column("estimated_tokens", sa.BigInteger(), nullable=False, comment="prompt tokens, for the enqueued-token limit"),
        sa.Column("reserved_usd", sa.Numeric(precision=18, scale=10), nullable=False),
        sa.Column(
            "settled_usd", sa.Numeric(precision=18, scale=10), nullable=True, comment="what the answers cost; NULL until they are read"
        ),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("submit_attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True, comment="the last create call"),
        sa.Column(
            "retry_at", sa.DateTime(timezone=True), nullable=True, comment="not to be sent before: the provider or the limiter said so"
        ),
        sa.Column("provider_name", sa.Text(), nullable=True),
        sa.Column("provider_state", sa.Text(), nullable=True),
        sa.Column("output_file", sa.Text(), nullable=True, comment="the result file at the provider"),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("mode IN ('batch', 'online')", name="active_batches_mode_check"),
        sa.CheckConstraint("status <> 'active' OR provider_name IS NOT NULL", name="active_batches_active_is_named_check"),
        sa.CheckConstraint(
            "status IN ('reserved', 'submitting', 'active', 'ended', 'collected', 'completed', 'failed', 'cancelled')",
            name="active_batches_status_check",
        ),
        sa.CheckConstraint("status NOT IN ('completed', 'failed') OR settled_usd IS NOT NULL", name="active_batches_done_is_settled_check"),
        sa.PrimaryKeyConstraint("batch_id"),
        sa.UniqueConstraint("fingerprint"),
        schema="ops",
    )
    op.create_index("active_batches_created_idx", "active_batches", ["created_at"], unique=False, schema="ops")
    op.create_index(
        "active_batches_open_idx",
        "active_batches",
        ["created_at"],
        unique=False,
        schema="ops",
        postgresql_where=sa.text("status IN ('reserved', 'submitting', 'active', 'ended', 'collected')"),
    )
    op.create_index("active_batches_status_idx", "active_batches", ["status"], unique=False, schema="ops")
    op.create_table(
        "batch_record_keys",
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("record_key", sa.Text(), nullable=False),
        sa.Column("task_id", sa.UUID(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("item_token", sa.Text(), nullable=False),
        sa.Column("cost_usd", sa.Numeric(precision=18, scale=10), nullable=True, comment="what the answer cost; NULL until it is read"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "record_key"),
        schema="ops",
    )
    op.create_index("batch_record_keys_batch_idx", "batch_record_keys", ["batch_id"], unique=False, schema="ops")
    op.create_index("batch_record_keys_record_idx", "batch_record_keys", ["record_key"], unique=False, schema="ops")
    op.create_table(
        "failure_counts",
        sa.Column("record_key", sa.Text(), nullable=False),
        sa.Column("task_id", sa.UUID(), nullable=False, comment="another prompt or input is another task: its count starts again"),
        sa.Column("count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_updated", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("record_key"),
        schema="ops",
    )
    op.create_table(
        "failure_logs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("record_key", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("attempt_number", sa.Integer(), nullable=False),
        sa.Column("error_type", sa.Text(), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("error_traceback", sa.Text(), nullable=True),
        sa.Column("raw_response_text", sa.Text(), nullable=True),
        sa.Column("extracted_text", sa.Text(), nullable=True),
        sa.Column("raw_response_json", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("prompt_name", sa.Text(), nullable=True),
        sa.Column("prompt_template", sa.Text(), nullable=True),
        sa.Column("generation_config", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("batch_id", "record_key", "error_type", name="failure_logs_once_key"),
        schema="ops",
    )
    op.create_index("failure_logs_batch_idx", "failure_logs", ["batch_id"], unique=False, schema="ops")
    op.create_index("failure_logs_created_idx", "failure_logs", ["created_at"], unique=False, schema="ops")
    op.create_index("failure_logs_record_idx", "failure_logs", ["record_key"], unique=False, schema="ops")
    op.create_index("failure_logs_type_idx", "failure_logs", ["error_type"], unique=False, schema="ops")
    op.create_table(
        "genai_rate_limits",
        sa.Column("bucket", sa.Text(), nullable=False, comment="requests, or tokens of a model"),
        sa.Column(
            "available", sa.Numeric(precision=18, scale=6), nullable=False, comment="what may be used at refilled_at; below zero: in debt"
        ),
        sa.Column("refilled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("paused_until", sa.DateTime(timezone=True), nullable=True, comment="the provider asked for a pause"),
        sa.PrimaryKeyConstraint("bucket"),
        schema="ops",
    )
    op.create_table(
        "inflight_records",
        sa.Column("record_key", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("record_key"),
        schema="ops",
    )
    op.create_index("inflight_records_batch_idx", "inflight_records", ["batch_id"], unique=False, schema="ops")
