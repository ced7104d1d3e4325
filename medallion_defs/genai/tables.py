"""The transport's tables in schema `ops`: what was asked, what is under way, what failed, what it cost.

    reserved    written down, with its budget; its requests are in data/outbox, nothing has been sent
    submitting  a create call is, or was, under way: only the provider knows whether there is a job
    active      the provider has the job `provider_name`
    ended       the provider is done with it, well or badly
    held        the provider is done with it, and the answers that it must have are not to be had: a person decides
    collected   its requests and answers are an item in bronze
    completed   every record has its outcome
    failed      the same, and the provider gave no results at all
    cancelled   given up: before it was sent, or by a person

Changed by `state.py` only.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    text,
)  # fmt: skip
from sqlalchemy.dialects.postgresql import JSONB, UUID

METADATA = MetaData()
STATUSES = ("reserved", "submitting", "active", "ended", "held", "collected", "completed", "failed", "cancelled")
# Only what somebody still has to do something about is looked at again and again.
_OPEN = text("status IN ('reserved', 'submitting', 'active', 'ended', 'held', 'collected')")


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=text("now()"))


def _usd(name: str, **more: object) -> Column[object]:
    return Column(name, Numeric(18, 10), **more)  # type: ignore[arg-type]  # options of Column, passed through


ACTIVE_BATCHES = Table(
    "active_batches",
    METADATA,
    Column("batch_id", Text, primary_key=True),
    _now("created_at"),
    _now("updated_at"),
    Column("status", Text, nullable=False),
    Column("mode", Text, nullable=False, comment="batch: one file, half the price; online: one call a record"),
    Column("task_key", Text, nullable=False),
    Column("prompt_id", Text, nullable=False),
    Column("tasks_batch_id", BigInteger, comment="the batch of silver.tasks_batches that asked"),
    Column("model", Text, nullable=False),
    Column("fingerprint", Text, nullable=False, comment="sha256 of the request file; the job's name at the provider"),
    Column("request_count", Integer, nullable=False),
    Column("estimated_tokens", BigInteger, nullable=False, comment="prompt tokens, for the enqueued-token limit"),
    _usd("reserved_usd", nullable=False),
    _usd("settled_usd", comment="what the answers cost; NULL until they are read"),
    Column("deadline_at", DateTime(timezone=True), nullable=False),
    Column("submit_attempts", Integer, nullable=False, server_default=text("0")),
    Column("submitted_at", DateTime(timezone=True), comment="the last create call"),
    Column("retry_at", DateTime(timezone=True), comment="not to be sent before: the provider or the limiter said so"),
    Column("provider_name", Text),
    Column("provider_state", Text),
    Column("input_file", Text, comment="the request file at the provider: by it, too, a lost job is found"),
    Column("output_file", Text, comment="the result file at the provider; the name of the job when the answers are inside of it"),
    Column("ended_at", DateTime(timezone=True)),
    Column("error", Text),
    UniqueConstraint("fingerprint"),
    CheckConstraint(f"status IN ({', '.join(repr(status) for status in STATUSES)})", name="active_batches_status_check"),
    CheckConstraint("mode IN ('batch', 'online')", name="active_batches_mode_check"),
    CheckConstraint("reserved_usd >= 0", name="active_batches_reserved_usd_check"),
    CheckConstraint("status <> 'active' OR provider_name IS NOT NULL", name="active_batches_active_is_named_check"),
    CheckConstraint("status NOT IN ('completed', 'failed') OR settled_usd IS NOT NULL", name="active_batches_done_is_settled_check"),
    schema="ops",
)
Index("active_batches_created_idx", ACTIVE_BATCHES.c.created_at)
Index("active_batches_status_idx", ACTIVE_BATCHES.c.status)
Index("active_batches_open_idx", ACTIVE_BATCHES.c.created_at, postgresql_where=_OPEN)

BATCH_RECORD_KEYS = Table(
    "batch_record_keys",
    METADATA,
    Column("batch_id", Text, primary_key=True),
    Column("record_key", Text, primary_key=True),
    Column("task_id", UUID, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("item_token", Text, nullable=False),
    _now("created_at"),
    schema="ops",
)
Index("batch_record_keys_batch_idx", BATCH_RECORD_KEYS.c.batch_id)
Index("batch_record_keys_record_idx", BATCH_RECORD_KEYS.c.record_key)

INFLIGHT_RECORDS = Table(
    "inflight_records",
    METADATA,
    Column("record_key", Text, primary_key=True),
    Column("batch_id", Text, nullable=False),
    _now("created_at"),
    schema="ops",
)
Index("inflight_records_batch_idx", INFLIGHT_RECORDS.c.batch_id)

FAILURE_COUNTS = Table(
    "failure_counts",
    METADATA,
    Column("record_key", Text, primary_key=True),
    Column("task_id", UUID, nullable=False, comment="another prompt or input is another task: its count starts again"),
    Column("count", Integer, nullable=False, server_default=text("0")),
    _now("last_updated"),
    schema="ops",
)

FAILURE_LOGS = Table(
    "failure_logs",
    METADATA,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("record_key", Text, nullable=False),
    Column("batch_id", Text, nullable=False),
    Column("attempt_number", Integer, nullable=False),
    Column("error_type", Text, nullable=False),
    Column("error_message", Text, nullable=False),
    Column("error_traceback", Text),
    Column("raw_response_text", Text),
    Column("extracted_text", Text),
    Column("raw_response_json", JSONB),
    Column("model_name", Text, nullable=False),
    Column("prompt_name", Text),
    Column("prompt_template", Text),
    Column("generation_config", JSONB),
    _now("created_at"),
    # Parsing the same answers again says nothing new.
    UniqueConstraint("batch_id", "record_key", "error_type", name="failure_logs_once_key"),
    schema="ops",
)
Index("failure_logs_record_idx", FAILURE_LOGS.c.record_key)
Index("failure_logs_batch_idx", FAILURE_LOGS.c.batch_id)
Index("failure_logs_created_idx", FAILURE_LOGS.c.created_at)
Index("failure_logs_type_idx", FAILURE_LOGS.c.error_type)

RATE_LIMITS = Table(
    "genai_rate_limits",
    METADATA,
    Column("bucket", Text, primary_key=True, comment="requests, or tokens of a model"),
    Column("available", Numeric(18, 6), nullable=False, comment="what may be used at refilled_at; below zero: in debt"),
    Column("refilled_at", DateTime(timezone=True), nullable=False),
    Column("paused_until", DateTime(timezone=True), comment="the provider asked for a pause"),
    schema="ops",
)
