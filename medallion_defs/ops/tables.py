"""The tables of schema `ops`. One row of `file_ingestions` is one bronze item, its whole life.

`status` is derived by the database from what happened, so it can never disagree with it:

    refused   bronze could not take the file (`bronze_error`)
    pending   in bronze, waiting for a microbatch
    claimed   in the microbatch `batch_id`
    loaded    in silver
    retrying  failed; tried again at `retry_at`
    dead      failed too often; waits for new bytes, new code or `medallion requeue`
    withdrawn taken back by a person: nothing of it is in silver, its bytes stay in bronze
    removed   its bytes are gone, by a retention policy or `medallion forget` (`bronze_removed_by`)
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Date,
    DateTime,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)  # fmt: skip
from sqlalchemy.dialects.postgresql import JSONB, UUID

METADATA = MetaData()


def _at(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True))


def _count(name: str) -> Column[object]:
    return Column(name, BigInteger)


STATUS = """CASE
    WHEN bronze_removed_at IS NOT NULL THEN 'removed'
    WHEN bronze_error IS NOT NULL THEN 'refused'
    WHEN bronze_withdrawn_at IS NOT NULL THEN 'withdrawn'
    WHEN silver_errors IS NOT NULL AND retry_at IS NULL THEN 'dead'
    WHEN silver_errors IS NOT NULL THEN 'retrying'
    WHEN silver_ingest_end_time IS NOT NULL THEN 'loaded'
    WHEN batch_id IS NOT NULL THEN 'claimed'
    ELSE 'pending' END"""

FILE_INGESTIONS = Table(
    "file_ingestions",
    METADATA,
    Column("file_id", UUID(as_uuid=True), primary_key=True),
    Column("run_id", Text, comment="Dagster run that fetched the item"),
    Column("source_type", Text, nullable=False, comment="folder below data/bronze"),
    # What the data are, as the recipe says; filled when silver first reads the item.
    Column("domain", Text),
    Column("source", Text, comment="who publishes the data"),
    Column("dataset", Text),
    Column("discriminator", Text),
    Column("ticker", Text),
    Column("external_id", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("bronze_path", Text(collation="C"), comment="directory below data/bronze; NULL when the file was refused"),
    Column("content_sha256", Text),
    _count("bronze_rows"),
    _count("bronze_bytes"),
    Column("bronze_error", Text),
    Column("bronze_filename", Text),
    Column("bronze_from_date", Date),
    Column("bronze_to_date", Date),
    _at("bronze_ingest_start_time"),
    _at("bronze_ingest_end_time"),
    Column("bronze_can_promote", Boolean, nullable=False, server_default=text("true")),
    Column("bronze_removed_at", DateTime(timezone=True), comment="when its bytes were gone"),
    Column("bronze_removed_by", Text, comment="the policy, or 'forget'; set before the first byte goes"),
    Column("bronze_withdrawn_at", DateTime(timezone=True), comment="when a person took it back; its bytes stay"),
    Column("bronze_withdrawn_reason", Text),
    Column("silver_run_id", Text),
    Column("silver_tablename", Text),
    _count("silver_rows_read"),
    _count("silver_rows_created"),
    _count("silver_rows_updated"),
    _count("silver_rows_unchanged"),
    _count("silver_rows_duplicate"),
    _count("silver_rows_rejected"),
    Column("silver_quality_flags", JSONB, comment="rows by flag"),
    Column("silver_errors", JSONB, comment="{error_type, message} of the last failure; NULL when there is none"),
    _at("silver_ingest_start_time"),
    _at("silver_ingest_end_time"),
    Column("silver_can_promote", Boolean),
    Column("gold_run_id", Text),
    Column("gold_object_type", Text),
    Column("gold_tablename", Text),
    _count("gold_rows_created"),
    _count("gold_rows_updated"),
    Column("gold_errors", JSONB),
    _at("gold_ingest_start_time"),
    _at("gold_ingest_end_time"),
    Column("batch_id", Text),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    _at("retry_at"),
    Column("code_version", Text, comment="version of the transform that last tried the item"),
    Column("status", Text, Computed(STATUS, persisted=True), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    UniqueConstraint("source_type", "external_id", "revision"),
    CheckConstraint("attempts >= 0", name="file_ingestions_attempts_check"),
    CheckConstraint("retry_at IS NULL OR silver_errors IS NOT NULL", name="file_ingestions_retry_needs_error_check"),
    CheckConstraint(
        "silver_rows_read = silver_rows_created + silver_rows_updated + silver_rows_unchanged + silver_rows_duplicate"
        " + silver_rows_rejected",
        name="file_ingestions_rows_reconcile_check",
    ),
    schema="ops",
)

# The sensor asks only for work that is open; a ledger of millions of loaded items must not slow it down.
Index(
    "file_ingestions_open_idx",
    FILE_INGESTIONS.c.source_type, FILE_INGESTIONS.c.status, FILE_INGESTIONS.c.created_at, FILE_INGESTIONS.c.file_id,
    postgresql_where=text("status <> 'loaded'"),
)  # fmt: skip
# Which failures are of another code version, without reading each failure at each tick.
Index(
    "file_ingestions_failed_idx", FILE_INGESTIONS.c.source_type, FILE_INGESTIONS.c.code_version,
    postgresql_where=text("status IN ('dead', 'retrying')"),
)  # fmt: skip
# Reprocessing takes what was done longest ago, chunk by chunk.
Index(
    "file_ingestions_done_idx", FILE_INGESTIONS.c.source_type, FILE_INGESTIONS.c.silver_ingest_end_time, FILE_INGESTIONS.c.file_id,
    postgresql_where=text("silver_ingest_end_time IS NOT NULL AND bronze_can_promote"),
)  # fmt: skip
Index(
    "file_ingestions_to_date_idx", FILE_INGESTIONS.c.source_type, FILE_INGESTIONS.c.bronze_to_date,
    postgresql_where=text("bronze_to_date IS NOT NULL"),
)  # fmt: skip
# A removal that a kill cut short is found by it.
Index(
    "file_ingestions_removing_idx", FILE_INGESTIONS.c.source_type, FILE_INGESTIONS.c.file_id,
    postgresql_where=text("bronze_removed_by IS NOT NULL AND bronze_removed_at IS NULL"),
)  # fmt: skip
Index("file_ingestions_batch_idx", FILE_INGESTIONS.c.batch_id, postgresql_where=text("batch_id IS NOT NULL"))
Index("file_ingestions_bronze_path_idx", FILE_INGESTIONS.c.bronze_path, unique=True)
Index("file_ingestions_silver_run_idx", FILE_INGESTIONS.c.silver_run_id)
Index("file_ingestions_run_idx", FILE_INGESTIONS.c.run_id)
Index("file_ingestions_gold_run_idx", FILE_INGESTIONS.c.gold_run_id)
# When something last arrived, without reading all that ever did.
Index(
    "file_ingestions_arrived_idx", FILE_INGESTIONS.c.source_type, FILE_INGESTIONS.c.created_at,
    postgresql_where=text("bronze_error IS NULL"),
)  # fmt: skip

# The latest that a source has, at each fetch.
Index(
    "file_ingestions_fetched_idx", FILE_INGESTIONS.c.source_type, FILE_INGESTIONS.c.bronze_ingest_end_time,
    postgresql_where=text("bronze_path IS NOT NULL"),
)  # fmt: skip

VERIFICATIONS = Table(
    "verifications",
    METADATA,
    Column("source_type", Text, primary_key=True, comment="folder below data/bronze"),
    Column("after", Text(collation="C"), nullable=False, comment="last directory that the pass under way has hashed; empty: it begins"),
    Column("problems", JSONB, nullable=False, comment="{directory: [sentence]} of what was not as it was published when last hashed"),
    Column("sliced_at", DateTime(timezone=True), comment="when the last slice was done"),
    Column("passed_at", DateTime(timezone=True), comment="when all items had been hashed once more"),
    schema="ops",
)

VERDICTS = Table(
    "verdicts",
    METADATA,
    Column("subject", Text, primary_key=True, comment="layer/name: silver/driver_events"),
    Column("findings", JSONB, nullable=False, comment="[{kind, sentence}] of the last look; empty when all is well"),
    Column("looked_at", DateTime(timezone=True), nullable=False),
    schema="ops",
)

CURSORS = Table(
    "cursors",
    METADATA,
    Column("name", Text, primary_key=True, comment="of the sensor"),
    Column("cursor", Text, nullable=False, comment="as Dagster has it; any other that Dagster may have is none"),
    Column("moved_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    schema="ops",
)
